"""The repository itself: brand, metadata of HACS and Home Assistant, workflows, and what must never be committed."""

from collections.abc import Iterator
import json
from pathlib import Path
import re
import struct
import subprocess
import tomllib
from typing import cast

from homeassistant.const import MAJOR_VERSION, MINOR_VERSION
from homeassistant.util.yaml import parse_yaml
import pytest

ROOT = Path(__file__).resolve().parent.parent
INTEGRATION = ROOT / "custom_components" / "chargekeeper"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

HACS_KEYS = {
    "name",
    "homeassistant",
    "hacs",
    "zip_release",
    "filename",
    "content_in_root",
    "hide_default_branch",
    "country",
    "persistent_directory",
    "render_readme",
}
# Actions that have no release fit for use, and so are pinned to a commit.
WITHOUT_RELEASE = {"home-assistant/actions/hassfest"}

# Put together from parts, so that this file does not hold what it forbids.
REGISTRY_HOSTS = (
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("registry", "npmjs", "org"),
    ("registry", "yarnpkg", "com"),
    ("deb", "debian", "org"),
    ("proxy", "golang", "org"),
    ("crates", "io"),
)
FORBIDDEN_HOST = re.compile("|".join(re.escape(".".join(parts)) for parts in REGISTRY_HOSTS))
MACHINE_FOLDERS = ("ro" + "ot", "ho" + "me", "Us" + "ers", "wo" + "rk", "fa" + "rm")
MACHINE_PATH = re.compile(rf"(?<![\w.])/(?:{'|'.join(MACHINE_FOLDERS)})/[\w.]")
FUTURE_ANNOTATIONS = re.compile(r"^from __future__ import .*\bannotations\b", re.MULTILINE)
INDEX_OPTION = re.compile(r"^\s*(?:-i\b|--(?:extra-)?index-url|--find-links|-f\b|--trusted-host)|://", re.MULTILINE)
USES = re.compile(r"^\s*(?:-\s+)?uses:\s*(\S+)", re.MULTILINE)
RELEASE_TAG = re.compile(r"v?\d+\.\d+\.\d+")
COMMIT = re.compile(r"[0-9a-f]{40}")

type Json = dict[str, object]


def read_json(path: Path) -> Json:
    return cast("Json", json.loads(path.read_text(encoding="utf-8")))


@pytest.fixture(name="tracked", scope="module")
def tracked_fixture() -> dict[str, str]:
    """Return the tracked files of the working tree by path, with their git modes."""
    listing = subprocess.run(
        ["git", "ls-files", "--stage", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    files = {path: entry.split()[0] for entry, path in (line.split("\t") for line in listing.split("\0") if line)}
    if not files:
        pytest.skip("not a git checkout")
    return {path: mode for path, mode in files.items() if (ROOT / path).is_file()}


def texts(tracked: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield every tracked text file with its content."""
    for path in tracked:
        content = (ROOT / path).read_bytes()
        if b"\0" not in content:
            yield path, content.decode("utf-8")


@pytest.mark.parametrize("prefix", ["", "dark_"])
@pytest.mark.parametrize(("suffix", "scale"), [("", 1), ("@2x", 2)])
@pytest.mark.parametrize("kind", ["icon", "logo"])
def test_brand_images_have_sizes_required_by_home_assistant(prefix: str, kind: str, suffix: str, scale: int) -> None:
    content = (INTEGRATION / "brand" / f"{prefix}{kind}{suffix}.png").read_bytes()
    signature, _, chunk, width, height, depth, colour = struct.unpack_from(">8sI4sIIBB", content)
    assert (signature, chunk) == (b"\x89PNG\r\n\x1a\n", b"IHDR")
    assert (depth, colour) == (8, 6), "eight bits and an alpha channel"
    if kind == "icon":
        assert (width, height) == (256 * scale, 256 * scale)
    else:
        assert 128 * scale <= height <= 256 * scale
        assert width > height, "a logo is landscape"
    assert len(content) < 40_000


def test_dark_and_light_images_have_the_same_size() -> None:
    lights = list((INTEGRATION / "brand").glob("[il]*.png"))
    assert lights
    for light in lights:
        dark = light.with_name(f"dark_{light.name}")
        assert light.read_bytes()[16:24] == dark.read_bytes()[16:24], light.name
        assert light.read_bytes() != dark.read_bytes(), light.name


def test_hacs_json_has_only_keys_that_hacs_knows() -> None:
    hacs = read_json(ROOT / "hacs.json")
    assert hacs["name"] == "ChargeKeeper"
    assert hacs.keys() <= HACS_KEYS
    # With these keys, HACS expects an asset that the release workflow does not build.
    assert "zip_release" not in hacs
    assert "filename" not in hacs


def test_minimum_home_assistant_matches_tested_release() -> None:
    assert read_json(ROOT / "hacs.json")["homeassistant"] == f"{MAJOR_VERSION}.{MINOR_VERSION}.0"


def test_manifest_has_keys_required_by_hacs_and_hassfest() -> None:
    manifest = read_json(INTEGRATION / "manifest.json")
    required = {"domain", "name", "codeowners", "documentation", "issue_tracker", "version"}
    assert required <= manifest.keys()
    assert all(manifest[key] for key in required)
    assert manifest["domain"] == INTEGRATION.name
    assert manifest["name"] == "ChargeKeeper"
    assert manifest["config_flow"] is True
    assert manifest["integration_type"] == "hub"
    assert manifest["iot_class"] == "cloud_polling"
    assert "home-assistant.io" not in str(manifest["documentation"])
    assert list(manifest) == ["domain", "name", *sorted(manifest.keys() - {"domain", "name"})], (
        "hassfest's order of keys"
    )


def test_manifest_and_pyproject_versions_match() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert read_json(INTEGRATION / "manifest.json")["version"] == project["version"]


def test_license_file_matches_declared_license() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")


def test_no_text_names_package_registry_or_machine_path(tracked: dict[str, str]) -> None:
    found = [
        f"{path}: {match.group()}"
        for path, text in texts(tracked)
        for pattern in (FORBIDDEN_HOST, MACHINE_PATH)
        for match in pattern.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize("parts", REGISTRY_HOSTS)
def test_search_detects_registry_host(parts: tuple[str, ...]) -> None:
    assert FORBIDDEN_HOST.search(f"see https://{'.'.join(parts)}/simple")


@pytest.mark.parametrize("folder", MACHINE_FOLDERS)
def test_search_detects_machine_path(folder: str) -> None:
    path = f"/{folder}/someone/file"
    assert MACHINE_PATH.search(f'open("{path}")')
    assert not MACHINE_PATH.search(f"https://example.com{path}")


def test_annotations_are_not_imported_from_the_future(tracked: dict[str, str]) -> None:
    assert [path for path, text in texts(tracked) if FUTURE_ANNOTATIONS.search(text)] == []


def test_requirements_name_no_index() -> None:
    files = sorted(ROOT.glob("requirements*"))
    assert files
    assert [file.name for file in files if INDEX_OPTION.search(file.read_text(encoding="utf-8"))] == []


def test_scripts_can_be_run(tracked: dict[str, str]) -> None:
    scripts = {path: mode for path, mode in tracked.items() if path.startswith(("scripts/", ".ci/"))}
    assert scripts
    assert [path for path, mode in scripts.items() if mode != "100755" and Path(path).suffix == ""] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_pin_every_action_to_a_release(workflow: Path) -> None:
    actions = USES.findall(workflow.read_text(encoding="utf-8"))
    assert actions
    for action in actions:
        name, at, version = action.partition("@")
        assert at, f"{action} has no version"
        assert (COMMIT if name in WITHOUT_RELEASE else RELEASE_TAG).fullmatch(version), action


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_grant_only_read_permission(workflow: Path) -> None:
    content = cast("Json", parse_yaml(workflow.read_text(encoding="utf-8")))
    assert content["permissions"] == {}
    jobs = cast("dict[str, Json]", content["jobs"])
    for name, job in jobs.items():
        assert job["permissions"] == {"contents": "read"}, name
        assert "timeout-minutes" in job, name


def test_required_workflows_exist() -> None:
    assert [workflow.name for workflow in WORKFLOWS] == ["release.yml", "test.yml", "validate.yml"]
    assert "run: .ci/run" in (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    validate = (ROOT / ".github" / "workflows" / "validate.yml").read_text(encoding="utf-8")
    assert "home-assistant/actions/hassfest@" in validate
    assert "hacs/action@" in validate
    assert "cron:" in validate


@pytest.mark.parametrize("path", [".github/dependabot.yml", ".github/ISSUE_TEMPLATE/bug.yml"])
def test_github_configuration_files_have_required_keys(path: str) -> None:
    content = cast("Json", parse_yaml((ROOT / path).read_text(encoding="utf-8")))
    assert content.keys() >= ({"version", "updates"} if "dependabot" in path else {"name", "description", "body"})


def test_development_container_runs_setup_script() -> None:
    container = read_json(ROOT / ".devcontainer.json")
    command = str(container["postCreateCommand"])
    assert (ROOT / command.split(maxsplit=1)[0]).is_file()
    assert container["forwardPorts"] == [8123]


def test_entry_kind_read_only_in_entries_package() -> None:
    reads = re.compile(r"\[CONF_KIND\]|\.get\(CONF_KIND")
    readers = {
        str(path.relative_to(INTEGRATION))
        for path in INTEGRATION.rglob("*.py")
        if reads.search(path.read_text(encoding="utf-8"))
    }
    assert "entries/kind.py" in readers
    assert {name for name in readers if not name.startswith("entries/")} == set()
