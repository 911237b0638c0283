"""Rules that are written once and used everywhere: where each is defined, and who calls it (docs/design.md, 0.3)."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "custom_components" / "chargekeeper"

RULES = {
    "permit": ("core.limits:permit", {"core.charger.commands:Commands._permit"}),
    "_room": (
        "core.load_group.group:LoadGroup._room",
        {
            "core.load_group.group:LoadGroup._divide_limit",
            "core.load_group.group:LoadGroup.restore",
            "core.load_group.group:LoadGroup.room",
        },
    ),
}
"""The function by its name, with its definition and all its callers."""


def functions(node: ast.AST, scope: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function with its qualified name."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{scope}.{child.name}".removeprefix(".")
            if not isinstance(child, ast.ClassDef):
                yield name, child
            yield from functions(child, name)
        else:
            yield from functions(child, scope)


def called(function: ast.AST) -> set[str]:
    """Return the names of all functions that a function calls."""
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls}


@cache
def parsed() -> dict[str, ast.Module]:
    """Return all modules of the integration by their dotted names."""
    paths = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {module: ast.parse(path.read_text()) for module, path in paths.items()}


def found(name: str) -> tuple[set[str], set[str]]:
    """Return where a function is defined, and where it is called."""
    definitions = set()
    callers = set()
    for module, tree in parsed().items():
        for qualified, function in functions(tree):
            if function.name == name:
                definitions.add(f"{module}:{qualified}")
            if name in called(function):
                callers.add(f"{module}:{qualified}")
    return definitions, callers


@pytest.mark.parametrize("name", RULES)
def test_rule_defined_once_and_called_by_listed_callers_only(name: str) -> None:
    definition, callers = RULES[name]
    assert found(name) == ({definition}, callers)
