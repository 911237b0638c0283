"""Names of an entry's files: in the folder, unique, and the names of an earlier version where they exist."""

from collections.abc import Callable
import hashlib
import re

from hypothesis import given, strategies as st
import pytest

from custom_components.chargekeeper.ha.storage import file_name

UUID = "9b2e4c1a-0000-4000-8000-000000000001"

ids = (
    st.uuids().map(str)
    | st.uuids().map(lambda each: each.hex)
    | st.text(st.characters() | st.characters(categories=["Cs"]))
    | st.text("aAbB-_./\\", max_size=4)
)


def hash_of(unique_id: str) -> str:
    return hashlib.sha256(unique_id.encode("utf-8", "surrogatepass")).hexdigest()


related = st.sampled_from([str.upper, str.lower, str.swapcase, hash_of, lambda name: f"{name} "])


@given(ids, related, st.sets(ids, max_size=3), st.data())
def test_no_two_ids_share_a_file(
    first: str, change: Callable[[str], str], others: set[str], data: st.DataObject
) -> None:
    """The names differ for any existing files, also on a file system that ignores case."""
    unique_ids = sorted({first, change(first), change(change(first)), *others})
    earlier = data.draw(st.sets(st.sampled_from(unique_ids)).map(_as_earlier_version_left))
    used: dict[str, str] = {}
    for unique_id in data.draw(st.permutations(unique_ids)):
        name = file_name(unique_id, {*earlier, *used.values()})
        assert re.fullmatch(r"[A-Za-z0-9_-]+", name), "it leads nowhere"
        assert name.lower() not in {each.lower() for each in used.values()}
        used[unique_id] = name
    for unique_id, name in used.items():
        assert file_name(unique_id, {*earlier, *used.values()}) == name, "the same after a restart"
        if unique_id in earlier and re.fullmatch(r"[A-Za-z0-9_-]{1,63}", unique_id):
            assert name == unique_id


def _as_earlier_version_left(unique_ids: set[str]) -> set[str]:
    """Return the names that can be on one disk: one of those that differ only in case."""
    return set({each.lower(): each for each in sorted(unique_ids) if "/" not in each and "\0" not in each}.values())


@pytest.mark.parametrize("unique_id", [UUID, UUID.replace("-", "")])
def test_uuid_used_as_file_name_unless_taken_in_another_case(unique_id: str) -> None:
    assert file_name(unique_id, ()) == unique_id
    assert file_name(unique_id, {unique_id.upper()}) == hash_of(unique_id)
    assert file_name(unique_id.upper(), {unique_id.upper()}) == unique_id.upper()
    assert file_name(unique_id.upper(), {unique_id}) == hash_of(unique_id.upper())


@pytest.mark.parametrize("unique_id", ["", ".", "a/b", "..", "old_account", "\ud800", UUID.upper(), f"{UUID}\n"])
def test_file_name_of_any_other_id_is_its_hash(unique_id: str) -> None:
    assert file_name(unique_id, ()) == hash_of(unique_id)
    assert file_name(hash_of(unique_id), {hash_of(unique_id)}) == hash_of(hash_of(unique_id))
