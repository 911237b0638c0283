"""quality_scale.yaml and the guide: every rule is answered, and the pages match the code."""

from collections.abc import Iterator, Mapping
import json
from pathlib import Path
import re
from typing import Any, cast

from homeassistant.components.automation.config import PLATFORM_SCHEMA
from homeassistant.components.script.config import SCRIPT_ENTITY_SCHEMA
from homeassistant.util.yaml import load_yaml_dict, parse_yaml
import pytest

import custom_components.chargekeeper
from custom_components.chargekeeper.event import EVENTS, OUTAGE
from custom_components.chargekeeper.flows.juicebox import DEFAULT_PORTS
from custom_components.chargekeeper.flows.juicebox_box import SERVER_NAMES
from custom_components.chargekeeper.sensor import SENSORS

INTEGRATION = Path(custom_components.chargekeeper.__file__).parent
ROOT = INTEGRATION.parents[1]
TEXTS = INTEGRATION / "translations" / "en.json"
NOT_SHOWN = {"current_l1", "current_l2", "current_l3"}
"""Keys of entities that no transport shows yet."""
README = ROOT / "README.md"
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
YAML_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ACTION = re.compile(r"action: chargekeeper\.(\w+)")
NOT_FOR_USERS = re.compile(r"(?i)\b(?:makers?|licence|this notice|in force|local paths?|keeper|datagrams?)\b(?!\*)")
"""Terms that the style guide replaces; bold text is a label that Home Assistant shows."""
BOLD = re.compile(r"\*\*([^*]+)\*\*")
LABELS_OF_HOME_ASSISTANT = {
    "Add integration",
    "ChargeKeeper",
    "Configure",
    "Custom repositories",
    "Delete",
    "Devices & services",
    "Discovered",
    "Download diagnostics",
    "Integration",
    "Reconfigure",
    "Settings",
}
NEEDS_NO_WORDS = {"charger", "name"}
"""Fields that every user understands."""
CHAPTERS = {
    "README.md": {"What makes it different", "Supported chargers", "Install", "Set up", "Documentation"},
    "docs/guide/wallbox.md": {"Supported chargers", "Set up", "Options", "Known limits"},
    "docs/guide/juicebox.md": {"Supported chargers", "Set up", "Options", "Known limits", "Go back"},
    "docs/guide/local-control.md": {"Set up", "What local control cannot do"},
    "docs/guide/load-groups.md": {"Set up", "What it cannot do"},
    "docs/guide/entities.md": {"Entities", "Restart", "How recent values are"},
    "docs/guide/outages.md": {"Outages", "When the cloud is back"},
    "docs/guide/automations.md": {"What you can do with it", "Examples", "Actions", "Events"},
    "docs/guide/troubleshooting.md": {"Troubleshooting", "Known limits"},
    "docs/guide/removal.md": {"Remove"},
}
BRONZE = """action-setup appropriate-polling brands common-modules config-flow config-flow-test-coverage
dependency-transparency
docs-actions docs-triggers docs-conditions docs-high-level-description docs-installation-instructions
docs-removal-instructions entity-event-setup entity-unique-id has-entity-name runtime-data test-before-configure
test-before-setup unique-config-entry"""
SILVER = """action-exceptions config-entry-unloading docs-configuration-parameters docs-installation-parameters
entity-unavailable integration-owner log-when-unavailable parallel-updates reauthentication-flow test-coverage"""
GOLD = """devices diagnostics discovery discovery-update-info docs-data-update docs-examples docs-known-limitations
docs-supported-devices docs-supported-functions docs-troubleshooting docs-use-cases dynamic-devices stale-devices
entity-category entity-device-class entity-disabled-by-default entity-translations exception-translations
icon-translations reconfiguration-flow repair-issues"""
PLATINUM = "async-dependency inject-websession strict-typing"
RULES = set(f"{BRONZE} {SILVER} {GOLD} {PLATINUM}".split())


def test_every_quality_rule_is_answered() -> None:
    rules = load_yaml_dict(INTEGRATION / "quality_scale.yaml")["rules"]
    assert set(rules) == RULES
    for rule, answer in rules.items():
        assert answer == "done" or (answer["status"] == "exempt" and answer["comment"].endswith(".")), rule
    assert len(RULES) == 54


@pytest.mark.parametrize(("page", "headings"), CHAPTERS.items())
def test_guide_has_the_chapters_required_by_the_rules(page: str, headings: set[str]) -> None:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    assert {line.lstrip("# ").strip() for line in lines if line.startswith("#")} >= headings


def test_readme_links_every_page_of_the_guide() -> None:
    linked = {target for target, _ in LINK.findall(README.read_text(encoding="utf-8"))}
    assert {str(page.relative_to(ROOT)) for page in GUIDE} <= linked


def test_readme_is_short_and_begins_with_the_outage() -> None:
    text = README.read_text(encoding="utf-8")
    assert 600 <= len(text.split()) <= 900
    assert re.findall(r"^!\[.+\]\((.+)\)$", text, re.MULTILINE)[0] == "docs/images/outage.png"


def test_readme_names_the_two_commands() -> None:
    commands = re.findall(r"^(scripts/\w+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert commands == ["scripts/develop", "scripts/test"]
    assert all((ROOT / command).is_file() for command in commands)


@pytest.mark.parametrize("page", [README, *GUIDE], ids=lambda path: path.name)
def test_guide_uses_the_words_of_users(page: Path) -> None:
    assert NOT_FOR_USERS.findall(page.read_text(encoding="utf-8")) == []


def test_texts_use_the_words_of_users() -> None:
    texts = _all_texts(json.loads(TEXTS.read_text(encoding="utf-8")))
    assert [text for text in texts if NOT_FOR_USERS.search(text) or re.search(r"(?i)\bbox(?:es)?\b", text)] == []


def test_guide_lists_every_action() -> None:
    listed = re.findall(r"^\| `chargekeeper\.(\w+)` \|", _guide("automations"), re.MULTILINE)
    assert sorted(listed) == sorted(load_yaml_dict(INTEGRATION / "services.yaml"))


def test_guide_lists_every_field_of_every_action() -> None:
    for action, description in load_yaml_dict(INTEGRATION / "services.yaml").items():
        row = re.search(rf"^\| `chargekeeper\.{action}` \|.*$", _guide("automations"), re.MULTILINE)
        assert row is not None
        assert [field for field in description.get("fields", {}) if f"`{field}`" not in row.group()] == [], action


def test_guide_lists_every_entity_by_its_name() -> None:
    """Entities that are disabled by default are in italics."""
    listed = _listed("entities", "Entity")
    off = {sensor.key for sensor in SENSORS if not sensor.entity_registry_enabled_default}
    platforms: dict[str, dict[str, dict[str, str]]] = json.loads(TEXTS.read_text(encoding="utf-8"))["entity"]
    texts = [(key, text["name"]) for keys in platforms.values() for key, text in keys.items() if key not in NOT_SHOWN]
    names = [f"*{name}*" if key in off else name.removesuffix(" of {charger}") for key, name in texts]
    assert sorted(listed) == sorted(names)


def test_guide_lists_every_event_by_its_name() -> None:
    names: dict[str, dict[str, str]] = json.loads(TEXTS.read_text(encoding="utf-8"))["entity"]["event"]
    rows = re.findall(r"^\| ([^|`]+) \| (`.+?`) \|", _guide("automations").partition("\n## Events\n")[2], re.MULTILINE)
    listed = [(name, kind) for name, kinds in rows for kind in re.findall(r"`(\w+)`", kinds)]
    events = [(names[event.key]["name"], kind) for event in (*EVENTS, OUTAGE) for kind in event.event_types or ()]
    assert listed == events


@pytest.mark.usefixtures("hass")
async def test_examples_in_the_guide_are_valid() -> None:
    blocks = [block for page in GUIDE for block in YAML_BLOCK.findall(page.read_text(encoding="utf-8"))]
    examples = [cast("dict[str, Any]", parse_yaml(block)) for block in blocks]
    actions = load_yaml_dict(INTEGRATION / "services.yaml")
    assert len(examples) > 2
    for example in examples:
        for automation in example.pop("automation", []):
            PLATFORM_SCHEMA(automation)
        for script in example.pop("script", {}).values():
            SCRIPT_ENTITY_SCHEMA(script)
        assert example == {}
    used = {action for page in GUIDE for action in ACTION.findall(page.read_text(encoding="utf-8"))}
    assert used
    assert used <= set(actions)


@pytest.mark.parametrize(
    ("page", "heading", "forms"),
    [
        ("wallbox", "Field", ["config/step/wallbox_account", "config/step/wallbox_account/sections/server"]),
        ("wallbox", "Option", ["options/step/settings"]),
        (
            "juicebox",
            "Field",
            [
                "config/step/juicebox",
                "config/step/juicebox/sections/upstream",
                "config/step/juicebox/sections/juicenet",
                "config/step/box",
            ],
        ),
        ("juicebox", "Option", ["options/step/boxes"]),
        ("load-groups", "Field", ["config/step/load_group", "config/step/members"]),
        ("local-control", "Link", ["config_subentries/linked/step/user"]),
    ],
)
def test_guide_lists_every_form_field_by_its_name(page: str, heading: str, forms: list[str]) -> None:
    listed = {name.lower() for name in _listed(page, heading)}
    names = {name.lower() for form in forms for name in _texts(f"{form}/data").values()}
    assert names - listed <= NEEDS_NO_WORDS


@pytest.mark.parametrize("page", [README, *GUIDE], ids=lambda path: path.name)
def test_labels_in_bold_are_shown_by_home_assistant(page: Path) -> None:
    """Bold text that ends with a period or a question mark is a sentence, not a label."""
    bold = BOLD.findall(page.read_text(encoding="utf-8"))
    labels = {part for text in bold if text[-1] not in ".?" for part in " ".join(text.split()).split(" > ")}
    shown = {text.removesuffix(" {charger}") for text in _all_texts(json.loads(TEXTS.read_text(encoding="utf-8")))}
    assert labels - shown - LABELS_OF_HOME_ASSISTANT == set()


def test_guide_to_juiceboxes_names_every_server_and_port() -> None:
    guide = _guide("juicebox")
    assert set(re.findall(r"`([a-z0-9-]+(?:\.[a-z]+){2})`", guide)) == {*SERVER_NAMES, "directory-api.emotorwerks.com"}
    assert ", ".join(str(port) for port in DEFAULT_PORTS) in guide


@pytest.mark.parametrize("page", [README, *GUIDE], ids=lambda path: path.name)
def test_links_between_pages_resolve(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link[0]]
    assert links
    for target, anchor in links:
        path = page.parent / target if target else page
        assert path.is_file(), target
        assert not anchor or anchor in _anchors(path), f"{target}#{anchor}"


def _guide(page: str) -> str:
    """Return the text of a page of the guide."""
    return (ROOT / "docs" / "guide" / f"{page}.md").read_text(encoding="utf-8")


def _listed(page: str, heading: str) -> list[str]:
    """Return the names in the first column of all tables of a page whose first column has this heading."""
    tables = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", _guide(page), re.MULTILINE)
    rows = [row for table in tables for row in re.findall(r"^\| (.+?) \|", table, re.MULTILINE)]
    return [name for row in rows for name in row.split(", ")]


def _texts(place: str) -> dict[str, str]:
    """Return the texts at a path of keys."""
    texts = json.loads(TEXTS.read_text(encoding="utf-8"))
    for key in place.split("/"):
        texts = texts[key]
    return cast("dict[str, str]", texts)


def _all_texts(texts: Mapping[str, object]) -> Iterator[str]:
    """Yield all texts below a place in the translations."""
    for text in texts.values():
        if isinstance(text, dict):
            yield from _all_texts(text)
        else:
            yield str(text)


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub creates them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_platform_sets_parallel_updates() -> None:
    platforms = [path for path in INTEGRATION.glob("*.py") if "async_add_entities" in path.read_text(encoding="utf-8")]
    without = [
        path.name
        for path in platforms
        if path.name != "entity.py" and "\nPARALLEL_UPDATES = " not in path.read_text(encoding="utf-8")
    ]
    assert platforms
    assert without == []
