"""Each mutation fits the present code, and a mutation changes only the code that it names."""

from pathlib import Path
import re

import pytest

from tests.mutations import MUTATIONS
from tests.mutations.mutation import ROOT, Mutation, Stale

SOURCE = '''\
"""Größe."""

LIMIT = 3  # A


class Box:
    @property
    def limit(self) -> int:
        return LIMIT

    @limit.setter
    def limit(self, amps: int) -> None:
        """Größe."""
        if (
            amps > LIMIT  # too much
            and self.stored
        ):
            raise ValueError
        elif amps == 0:
            self.stop()
        print("ö", amps)

    def stop(self) -> None:
        def later() -> None:
            print("off")

        print("off")
        later()
'''


def mutated(at: str, find: str, put: str, source: str = SOURCE) -> str:
    return Mutation(name="some", at=at, find=find, put=put, tests=()).apply(source)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutation_fits_the_code(mutation: Mutation) -> None:
    source = (ROOT / mutation.file).read_text("utf-8")

    assert mutation.apply(source) != source


def test_names_of_mutations_are_unique() -> None:
    names = [mutation.name for mutation in MUTATIONS]

    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_tests_of_mutation_exist(mutation: Mutation) -> None:
    paths = [argument for argument in mutation.tests if argument.endswith(".py")]

    assert paths
    assert all((ROOT / path).is_file() for path in paths)


@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if "-k" in m.tests], ids=lambda mutation: mutation.name)
def test_selection_of_tests_uses_words_of_test_names(mutation: Mutation) -> None:
    expression = mutation.tests[mutation.tests.index("-k") + 1]
    sources = [(ROOT / path).read_text("utf-8") for path in mutation.tests if path.endswith(".py")]
    names = {name for source in sources for name in re.findall(r"(?:def|class) (\w+)", source)}

    words = set(re.findall(r"\w+", expression)) - {"or", "and", "not"}
    assert {word for word in words if not any(word in name for name in names)} == set()


def test_expression_replaced_whatever_its_line_breaks_and_comments() -> None:
    old = "amps > LIMIT  # too much\n            and self.stored"

    assert mutated("x:Box.limit", "amps > LIMIT and self.stored", "False") == SOURCE.replace(old, "False")


def test_expression_after_other_alphabets_replaced_at_its_column() -> None:
    assert mutated("x:Box", "amps", "-1", 'class Box: print("ö", amps)') == 'class Box: print("ö", -1)'


def test_statement_replaced_by_several_at_its_indentation() -> None:
    found = mutated("x:Box.limit", 'print("ö", amps)', "if amps:\n    self.stop()\nprint()")

    assert found == SOURCE.replace(
        '        print("ö", amps)\n', "        if amps:\n            self.stop()\n        print()\n"
    )


def test_statements_that_follow_each_other_replaced_by_pass() -> None:
    found = mutated("x:Box.stop", 'print("off")\nlater()', "pass")

    assert found == SOURCE.replace('        print("off")\n        later()\n', "        pass\n")


def test_function_with_decorator_replaced_as_a_whole() -> None:
    found = mutated("x:Box", "@property\ndef limit(self) -> int:\n    return LIMIT", "limit = 5")

    assert found == SOURCE.replace(
        "    @property\n    def limit(self) -> int:\n        return LIMIT\n", "    limit = 5\n"
    )


def test_function_inside_of_function_found_by_its_qualified_name() -> None:
    assert mutated("x:Box.stop.later", '"off"', '"on"') == SOURCE.replace('    print("off")', '    print("on")', 1)


@pytest.mark.parametrize(
    ("at", "find", "put", "reason"),
    [
        ("x:Box.stop", 'print("off")', "pass", "occurs 2 times"),
        ("x:Box.limit", "self.missing", "None", "occurs 0 times"),
        ("x:Box.missing", "amps", "0", "occurs 0 times"),
        ("x:Box.limit", "amps > LIMIT", "amps or LIMIT", "set brackets"),
        ("x:Box.limit", "if amps == 0:\n    self.stop()", "self.stop()", "invalid syntax|other code|unindent"),
        ("x", "LIMIT = 3", "LIMIT = (3)", "changes nothing"),
        ("x", "LIMIT =", "LIMIT = 3", "invalid syntax"),
    ],
    ids=["ambiguous", "missing", "no-such-function", "precedence", "elif", "nothing", "not-code"],
)
def test_mutation_refused_with_reason(at: str, find: str, put: str, reason: str) -> None:
    with pytest.raises(Stale, match=reason):
        mutated(at, find, put)


@pytest.mark.parametrize(
    ("at", "path"),
    [
        ("core.limits:permit", "custom_components/chargekeeper/core/limits.py"),
        ("core:anything", "custom_components/chargekeeper/core/__init__.py"),
    ],
)
def test_module_of_mutation_named_by_its_path(at: str, path: str) -> None:
    assert Mutation(name="some", at=at, find="1", put="2", tests=()).file == Path(path)
