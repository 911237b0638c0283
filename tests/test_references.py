"""References to documents: each link, each "docs/<page>.md, section N" and each name of a test resolves."""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
import io
from pathlib import Path
import re
import tokenize

import pytest

from tests.simulators import fields, juicebox_wire, juicenet_cloud

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md"))
SOURCES = [path for name in ("custom_components", "tests", "scripts") for path in sorted((ROOT / name).rglob("*"))]

FENCE = re.compile(r"^\s*```")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NUMBER = re.compile(r"\d+(?:\.\d+)*")
NUMBERS = rf"{NUMBER.pattern}(?:(?:,| and| to) {NUMBER.pattern})*"
ON_PAGE = re.compile(rf"(docs/[\w/-]+\.md)(?:#([\w-]+)|, sections? ({NUMBERS}))?")
OWN_PAGE = re.compile(r"docs/protocols/[\w-]+\.md")
ON_OWN_PAGE = re.compile(rf"\b[Ss]ections? ({NUMBERS})")
BARE_NUMBER = re.compile(r"\((\d+(?:\.\d+)+)\)")
NAME_IN_TESTS = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


# Documents that contributors cannot see, or pages of this repository without their folder.
NOT_HERE = re.compile(
    r"fact\s+sheets?\b|\bdesign\s+sections?\b|(?<![\w/])design(?:\.md)?,?\s+(?:section\s+)?\d"
    r"|design\.md\s+section|\bthe\s+sheet\b",
    re.IGNORECASE,
)
WITHOUT_FOLDER = re.compile(r"(?<![\w/-])(?:design|house|wallbox-(?:cloud|ble|bluetooth)|juicebox)\.md\b")


def prose(page: Path) -> Iterator[str]:
    """Return the lines of a page that are not inside a code block."""
    inside = False
    for line in page.read_text(encoding="utf-8").split("\n"):
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            yield line


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading."""
    shown = LINK.sub(lambda link: link.group()[1:].partition("]")[0], heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return all anchors of a page; of equal headings the later ones are numbered."""
    found: dict[str, int] = {}
    result = set[str]()
    for line in prose(page):
        if (heading := HEADING.match(line)) is not None:
            anchor = slug(heading.group(1))
            seen = found.get(anchor, 0)
            found[anchor] = seen + 1
            result.add(f"{anchor}-{seen}" if seen else anchor)
    return frozenset(result)


@cache
def sections(page: Path) -> frozenset[str]:
    """Return the numbers of the numbered headings of a page."""
    headings = (heading.group(1) for line in prose(page) if (heading := HEADING.match(line)) is not None)
    return frozenset(number.group() for heading in headings if (number := NUMBER.match(heading)) is not None)


def broken_links(page: Path) -> Iterator[str]:
    """Return the links of a page that lead to no file or heading of this repository."""
    for line in prose(page):
        for target in LINK.findall(CODE.sub("", line)):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            if not file.exists() or (anchor and anchor not in anchors(file)):
                yield target


def is_python(path: Path) -> bool:
    """Return True for a module, and for a script with a Python shebang."""
    if path.suffix:
        return path.suffix == ".py"
    return path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env python")


def remarks(source: str) -> Iterator[str]:
    """Return the docstrings and comments of a module as single lines; comment lines in a row are one remark."""
    comment, last = list[str](), 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if comment and token.start[0] != last + 1:
                yield " ".join(comment)
                comment = []
            comment.append(token.string.lstrip("# "))
            last = token.start[0]
        elif token.type == tokenize.STRING and token.string.lstrip("rR").startswith('"""'):
            yield " ".join(token.string.split())
    if comment:
        yield " ".join(comment)


def missing(page: str, numbers: Iterable[str]) -> list[str]:
    """Return the references among these sections of a page that lead nowhere."""
    file = ROOT / page
    known = sections(file) if file.is_file() else frozenset[str]()
    return [f"{page}, section {number}" for number in numbers if number not in known]


def broken_references(source: str) -> Iterator[str]:
    """Return the references in docstrings and comments of a module that lead to no page or heading."""
    own = set(OWN_PAGE.findall(ast.get_docstring(ast.parse(source)) or ""))
    for remark in remarks(source):
        for page, anchor, numbers in ON_PAGE.findall(remark):
            if not (ROOT / page).is_file() or (anchor and anchor not in anchors(ROOT / page)):
                yield f"{page}#{anchor}"
            yield from missing(page, NUMBER.findall(numbers))
        rest = ON_PAGE.sub("", remark)
        for numbers in ON_OWN_PAGE.findall(rest):
            if len(own) == 1:
                yield from missing(next(iter(own)), NUMBER.findall(numbers))
            else:
                yield f"section {numbers} of no page, or of one of several"
        if len(own) == 1:
            yield from missing(next(iter(own)), BARE_NUMBER.findall(rest))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_files_resolve(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_references_in_code_resolve() -> None:
    broken = {
        str(path.relative_to(ROOT)): found
        for path in SOURCES
        if is_python(path) and (found := list(broken_references(path.read_text(encoding="utf-8"))))
    }
    assert broken == {}


def not_here(path: Path) -> Iterator[str]:
    """Yield the references of a file to documents that are not in this repository."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    yield from NOT_HERE.findall(re.sub(r"\s*\n\s*#?\s*", " ", text))
    if is_python(path):
        for remark in remarks(text):
            yield from WITHOUT_FOLDER.findall(remark)


def test_no_file_refers_to_missing_document() -> None:
    files = [path for path in SOURCES if path.is_file() and "__pycache__" not in path.parts and path != Path(__file__)]
    assert {str(path.relative_to(ROOT)): found for path in files if (found := list(not_here(path)))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "# fact sheet 2.3",
        "# the design\n# section 5",
        "# Design 0.3 says so",
        "# design.md section 4",
        "# where the sheet is silent",
        "# juicebox.md, 2.3",
    ],
)
def test_reference_to_missing_document_detected(text: str, tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(text)
    assert list(not_here(module))


def test_tests_named_in_documents_exist() -> None:
    named = {found for page in PAGES for line in prose(page) for found in NAME_IN_TESTS.findall(line)}
    assert len({name for _, name in named}) > 50
    lost = [
        (file, name)
        for file, name in sorted(named)
        if not (ROOT / file).is_file()
        or (name and re.search(rf"^(?:async )?(?:def|class) {name}\b", (ROOT / file).read_text(), re.MULTILINE) is None)
    ]
    assert lost == []


@pytest.mark.parametrize("source", [fields.FIELDS, juicebox_wire.LETTERS, juicenet_cloud.FIELDS])
def test_sources_of_simulated_fields_resolve(source: dict[object, dict[str, str]]) -> None:
    cited = {citation for each in source.values() for citation in each.values()}
    assert cited
    for citation in cited:
        found = ON_PAGE.fullmatch(citation)
        assert found is not None, citation
        assert missing(found.group(1), NUMBER.findall(found.group(3))) == []


def test_broken_link_detected(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One two\n\n## `a_b`: c, 1.2\n\n[x](#one-two) [y](#a_b-c-12) [z](#no) [w](no.md) `[v](no.md)`\n")
    assert list(broken_links(page)) == ["#no", "no.md"]


def test_equal_headings_have_numbered_anchors(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n\n```\n# B\n```\n\n# A\n")
    assert anchors(page) == {"a", "a-1"}


@pytest.mark.parametrize(
    ("source", "broken"),
    [
        ('"""See docs/protocols/juicebox.md, sections 2.3 and 2.4."""', []),
        ('"""See docs/protocols/juicebox.md,\n    section 99."""', ["docs/protocols/juicebox.md, section 99"]),
        ("# See docs/design.md#5-the-charger\n# and docs/design.md#nowhere.", ["docs/design.md#nowhere"]),
        ("# See docs/nothing.md.", ["docs/nothing.md#"]),
        ('"""Follows docs/protocols/juicebox.md."""\n# Section 2.3.5, and section 98.', [
            "docs/protocols/juicebox.md, section 98"
        ]),
        ("# Section 2.3.5.", ["section 2.3.5 of no page, or of one of several"]),
    ],
)  # fmt: skip
def test_broken_reference_detected(source: str, broken: list[str]) -> None:
    assert list(broken_references(source)) == broken
