"""One rule, one home: what only one module may do is looked for in the syntax of all others."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "custom_components" / "chargekeeper"
EVIDENCE = PACKAGE / "core" / "charger" / "evidence.py"
REPORTED_AT = "charger_reported_at"
ORDERING = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def order_of_reports(tree: ast.AST) -> list[int]:
    """Return the lines that put `charger_reported_at` in order with another time, by operator, `min` or `max`."""
    found = []
    for node in ast.walk(tree):
        operands: list[ast.expr] = []
        if isinstance(node, ast.Compare) and any(isinstance(operator, ORDERING) for operator in node.ops):
            operands = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"min", "max"}:
            operands = node.args
        names = [each for operand in operands for each in ast.walk(operand)]
        if any(REPORTED_AT in {getattr(each, "attr", None), getattr(each, "id", None)} for each in names):
            found.append(operands[0].lineno)
    return found


def test_only_the_evidence_compares_reports() -> None:
    """`charger_reported_at` is compared nowhere but in the module that judges by it."""
    found = {
        str(path.relative_to(PACKAGE)): lines
        for path in PACKAGE.rglob("*.py")
        if path != EVIDENCE and (lines := order_of_reports(ast.parse(path.read_text("utf-8"))))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("transport.charger_reported_at > sent_at", [1]),
        ("0 < charger_reported_at <= now", [1]),
        ("max(transport.charger_reported_at, now)", [1]),
        ("sent_at < transport.charger_reported_at - 1", [1]),
        ("transport.charger_reported_at is None", []),
        ("reported_since(transport, sent_at)", []),
    ],
)
def test_comparison_of_reports_is_found(source: str, lines: list[int]) -> None:
    """The test above would see a comparison in any of these forms."""
    assert order_of_reports(ast.parse(source)) == lines
