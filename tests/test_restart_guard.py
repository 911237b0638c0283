"""One guard decides on everything that restarts a charger or cuts its power: nothing goes around it (invariant I5)."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "custom_components" / "chargekeeper"


def calls(name: str, *, of: Callable[[ast.Call], bool] = lambda _: True) -> set[str]:
    """Return the functions that call a function or method of this name, as `module:Class.function`."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for scope, node in _nodes(ast.parse(path.read_text()), ""):
            if isinstance(node, ast.Call) and _name(node.func) == name and of(node):
                found.add(f"{module}:{scope}")
    return found


def definitions(name: str) -> set[str]:
    """Return the modules that define a function of this name."""
    return {
        f"{'.'.join(path.relative_to(PACKAGE).with_suffix('').parts)}:{scope}"
        for path in PACKAGE.rglob("*.py")
        for scope, node in _nodes(ast.parse(path.read_text()), "")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    }


def _nodes(parent: ast.AST, scope: str) -> Iterator[tuple[str, ast.AST]]:
    for node in ast.iter_child_nodes(parent):
        yield scope, node
        inner = scope
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{scope}.{node.name}".removeprefix(".")
        yield from _nodes(node, inner)


def _name(function: ast.expr) -> str | None:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else None


def _method_of(attribute: str) -> Callable[[ast.Call], bool]:
    """Return a filter for the calls of methods of `self.<attribute>`."""
    return lambda node: isinstance(node.func, ast.Attribute) and _name(node.func.value) == attribute


SERVICE = "core.charger.restart_service:RestartService"
BOX = "linked.box_entity_transport:BoxEntityTransport"


def test_restart_guard_has_one_definition_and_these_callers() -> None:
    assert definitions("guard") == {"core.charger.restart:"}
    assert calls("guard", of=lambda node: bool(node.args)) == {f"{SERVICE}._checked_transport", f"{SERVICE}._guard"}
    assert calls("_guard") == {
        f"{SERVICE}.restart",
        f"{SERVICE}.install",
        f"{SERVICE}.require_safe_restart",
        f"{SERVICE}._checked_transport",
    }
    assert calls("require_safe_restart") == {
        "core.charger.charger:Charger.require_safe_restart",
        f"{BOX}._require_safe_restart",
        f"{BOX}._require_safe_override",
    }


def test_guard_is_asked_with_the_dangers_of_every_transport() -> None:
    assert calls("Facts") == {f"{SERVICE}._facts"}
    assert calls("DangerWatch") == {f"{SERVICE}.__init__"}
    assert calls("availability", of=lambda node: isinstance(node.func, ast.Name)) == {f"{SERVICE}.availability"}


def test_nothing_else_sends_a_restart_or_an_install_or_cuts_power() -> None:
    assert calls("Restart") | calls("Install") == {
        f"{SERVICE}.restart",
        f"{SERVICE}.install",
        f"{SERVICE}.require_safe_restart",
    }
    assert calls("begin", of=_method_of("cycle")) == {f"{BOX}.execute"}
    assert calls("_call", of=lambda node: "SERVICE_TURN_OFF" in {_name(each) for each in node.args}) == {
        "linked.power_cycle:PowerCycle.begin"
    }


def test_guard_is_the_last_word_before_the_power_is_cut() -> None:
    """The guard of a power cycle is called between the last wait and the switching."""
    assert calls("guard", of=lambda node: not node.args) == {
        f"{BOX}.execute",
        "linked.power_cycle:PowerCycle.begin.commit",
        "linked.entity_transport:_call_available",
    }
