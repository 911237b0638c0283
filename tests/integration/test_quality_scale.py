"""The promise of quality_scale.yaml: every rule is answered, and nothing is left to do."""

import json
from pathlib import Path
import re

from homeassistant.util.yaml import load_yaml_dict
import pytest

import custom_components.chargekeeper
from custom_components.chargekeeper.flows.juicebox import DEFAULT_PORTS
from custom_components.chargekeeper.flows.juicebox_box import SERVER_NAMES
from custom_components.chargekeeper.sensor import SENSORS

HOUSE = Path(custom_components.chargekeeper.__file__).parent
ROOT = HOUSE.parents[1]
TEXTS = HOUSE / "translations" / "en.json"
NOT_YET = {"current_l1", "current_l2", "current_l3"}
"""Keys of entities that no path shows yet."""
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
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


def test_every_rule_is_answered() -> None:
    rules = load_yaml_dict(HOUSE / "quality_scale.yaml")["rules"]
    assert set(rules) == RULES
    for rule, answer in rules.items():
        assert answer == "done" or (answer["status"] == "exempt" and answer["comment"].endswith(".")), rule
    assert len(RULES) == 54


def test_the_readme_has_the_chapters_that_the_rules_ask_for() -> None:
    headings = {
        line.lstrip("# ").strip()
        for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    }
    assert headings >= {
        "Supported chargers",
        "Install",
        "Set up",
        "Options",
        "Entities",
        "Actions",
        "How fresh values are",
        "Known limits",
        "Troubleshooting",
        "Remove",
        "What you can do with it",
    }


def test_the_readme_lists_every_action() -> None:
    listed = re.findall(r"^\| `chargekeeper\.(\w+)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(load_yaml_dict(HOUSE / "services.yaml"))


def test_the_readme_names_every_entity_as_it_is_called() -> None:
    """In italics those that are off until the user enables them."""
    _, _, chapter = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Entities\n")
    rows = re.findall(r"^\| (?!entity |---)(.+?) \|", chapter.partition("\n### ")[0], re.MULTILINE)
    listed = [name for row in rows for name in row.split(", ")]
    off = {sensor.key for sensor in SENSORS if not sensor.entity_registry_enabled_default}
    platforms: dict[str, dict[str, dict[str, str]]] = json.loads(TEXTS.read_text(encoding="utf-8"))["entity"]
    texts = [(key, text["name"]) for keys in platforms.values() for key, text in keys.items() if key not in NOT_YET]
    names = [f"*{name}*" if key in off else name.removesuffix(" of {charger}") for key, name in texts]
    assert sorted(listed) == sorted(names)


def test_the_guide_to_juiceboxes_names_every_server_and_port() -> None:
    guide = (ROOT / "docs" / "juicebox.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`([a-z0-9-]+(?:\.[a-z]+){2})`", guide)) == {*SERVER_NAMES, "directory-api.emotorwerks.com"}
    assert ", ".join(str(port) for port in DEFAULT_PORTS) in guide


@pytest.mark.parametrize("page", ["README.md", "docs/juicebox.md"])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    links = [link for link in LINK.findall((ROOT / page).read_text(encoding="utf-8")) if "://" not in link[0]]
    assert links
    for target, anchor in links:
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.is_file(), target
        assert not anchor or anchor in _anchors(path), f"{target}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the code host makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_platform_says_how_many_updates_run_at_once() -> None:
    platforms = [path for path in HOUSE.glob("*.py") if "async_add_entities" in path.read_text(encoding="utf-8")]
    without = [
        path.name
        for path in platforms
        if path.name != "entity.py" and "\nPARALLEL_UPDATES = " not in path.read_text(encoding="utf-8")
    ]
    assert platforms
    assert without == []
