"""One deliberate defect: its place, the code that it replaces, and the tests that must notice it."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path("custom_components/chargekeeper")

type _Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
type _Code = Sequence[ast.expr] | Sequence[ast.stmt]
"""One expression, or statements that follow each other in one block."""


class Stale(Exception):
    """A mutation does not fit the code any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """Replace the code `find` by the code `put`, and expect one of `tests` to fail.

    Code is compared as syntax: line breaks, comments and brackets that change nothing do not matter.

    Attributes:
        name: the defect in a few words.
        at: the module inside of the integration, and the qualified name of the function or class:
            "core.limits:permit", "core.charger.readings:ReadingsStore.visible". Without a name: the whole module.
        find: an expression, a statement, or several that follow each other. It occurs exactly once at `at`.
        put: the code in its place; "pass" leaves statements out.
        tests: arguments of pytest.
    """

    name: str
    at: str
    find: str
    put: str
    tests: tuple[str, ...]

    @property
    def file(self) -> Path:
        """The changed file, relative to the root of the repository."""
        module = PACKAGE.joinpath(*self.at.partition(":")[0].split("."))
        return module / "__init__.py" if (ROOT / module).is_dir() else module.with_suffix(".py")

    def apply(self, source: str) -> str:
        """Return the text of the file with the defect; the rest stays byte for byte. Raises Stale."""
        try:
            tree, find, put = ast.parse(source), _parse(self.find), _parse(self.put)
            if not (_is_expression(find) and _is_expression(put)):
                find, put = _parse_statements(self.find), _parse_statements(self.put)
            module, _, qualified_name = self.at.partition(":")
            scopes = _scopes(tree, qualified_name.split(".")) if qualified_name else [tree]
            places = [place for scope in scopes for place in _candidates(scope, find) if _dump(place) == _dump(find)]
            if len(places) != 1:
                raise Stale(f"{self.name}: `find` occurs {len(places)} times in {module} {qualified_name}".rstrip())
            mutated = _replace_text(source, places[0], dedent(self.put).strip())
            before, after = ast.dump(tree), ast.dump(ast.parse(mutated))
        except SyntaxError as err:
            raise Stale(f"{self.name}: {err}") from err
        _replace_nodes(tree, places[0], put)
        if ast.dump(tree) != after:
            raise Stale(f"{self.name}: `put` becomes other code there: set brackets, or find the whole statement")
        if before == after:
            raise Stale(f"{self.name}: changes nothing")
        return mutated


def _parse_statements(code: str) -> list[ast.stmt]:
    return ast.parse(dedent(code)).body


def _parse(code: str) -> _Code:
    body = _parse_statements(code)
    return [body[0].value] if len(body) == 1 and isinstance(body[0], ast.Expr) else body


def _is_expression(code: _Code) -> bool:
    return isinstance(code[0], ast.expr)


def _scopes(within: ast.AST, names: Sequence[str]) -> Iterator[_Scope]:
    """Yield the scopes of a qualified name; a property and its setter share one name."""
    for node in ast.iter_child_nodes(within):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _scopes(node, names)
        elif node.name == names[0] and len(names) == 1:
            yield node
        elif node.name == names[0]:
            yield from _scopes(node, names[1:])


def _candidates(scope: _Scope, find: _Code) -> Iterator[_Code]:
    """Yield the places that have the shape of `find`."""
    for node in ast.walk(scope):
        if isinstance(node, ast.expr) and _is_expression(find):
            yield [node]
        for block in [] if _is_expression(find) else _blocks(node):
            yield from (block[start : start + len(find)] for start in range(len(block) - len(find) + 1))


def _blocks(node: ast.AST) -> list[list[ast.stmt]]:
    blocks = [value for _, value in ast.iter_fields(node) if isinstance(value, list)]
    return [block for block in blocks if block and isinstance(block[0], ast.stmt)]


def _dump(code: _Code) -> list[str]:
    return [ast.dump(node) for node in code]


def _replace_text(source: str, place: _Code, put: str) -> str:
    first, last = place[0], place[-1]
    assert last.end_lineno is not None
    assert last.end_col_offset is not None
    decorators: list[ast.expr] = getattr(first, "decorator_list", [])
    line = min(node.lineno for node in (first, *decorators)) - 1
    lines = source.encode().splitlines(keepends=True)  # the columns of nodes count bytes
    head, tail = lines[line][: first.col_offset], lines[last.end_lineno - 1][last.end_col_offset :]
    margin = " " * first.col_offset if isinstance(first, ast.stmt) else ""
    text = indent(put, margin).removeprefix(margin)
    return b"".join([*lines[:line], head, text.encode(), tail, *lines[last.end_lineno :]]).decode()


def _replace_nodes(tree: ast.Module, place: _Code, put: _Code) -> None:
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if value is place[0]:
                setattr(node, name, put[0])
            elif isinstance(value, list) and place[0] in value:  # nodes are equal only to themselves
                start = value.index(place[0])
                value[start : start + len(place)] = put
