"""A real Home Assistant as a child process: its configuration directory, its start, restart and end.

That Home Assistant listens on the loopback interface only, installs nothing (`--skip-pip`) and has no integration that
calls other machines.
"""

import asyncio
from collections.abc import Iterable, Mapping
import json
import os
from pathlib import Path
import shutil
import signal
import sys

from homeassistant.const import RESTART_EXIT_CODE

HOST = "127.0.0.1"
ZONE = "Europe/London"
ROOT = Path(__file__).resolve().parents[3]
INTEGRATION = ROOT / "custom_components" / "chargekeeper"
DEMO = ROOT / "tests" / "simulators" / "demo"
DASHBOARD = ROOT / "docs" / "dashboard.yaml"
SKIPPED_STEPS = ("core_config", "analytics", "integration")
"""Onboarding steps that are marked as done, because they would start integrations that call other machines."""
STOPPING_TIME = 60.0  # real seconds for a clean end

CONFIGURATION = """\
homeassistant:
  name: Home
  latitude: 51.4779
  longitude: 0.0
  elevation: 46
  unit_system: metric
  currency: GBP
  country: GB
  time_zone: {zone}

logger:
  default: warning
  logs:
    custom_components.chargekeeper: info
    # Home Assistant complains about a missing ffmpeg and turbojpeg; nothing here has a camera.
    haffmpeg: critical
    homeassistant.components.camera.img_util: critical

frontend:
history:
logbook:
recorder:

lovelace:
  dashboards:
    lovelace:
      mode: yaml
      filename: dashboard.yaml
      title: Chargers
      icon: mdi:ev-station

chargekeeper_demo:
  factor: {factor}

chargekeeper_demo_local:
  url: http://{host}:{control_port}
"""
COMPONENTS = ("chargekeeper_demo", "chargekeeper_demo_local")
"""The demo's own components: its clock, and local entities of the simulated chargers."""


class HomeAssistant:
    """A Home Assistant with one configuration directory, which may be started several times."""

    def __init__(self, directory: Path, port: int, factor: float, *, control_port: int) -> None:
        self.directory = directory
        self.port = port
        self.control_port = control_port
        self.factor = factor
        self.starts = 0
        """Number of starts."""
        self._process: asyncio.subprocess.Process | None = None
        self._wanted = True
        self._restarted: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """The log file with the output of all starts since `prepare`."""
        return self.directory / "console.log"

    def prepare(self) -> None:
        """Write the configuration. Users, entries and history of an earlier run stay."""
        storage = self.directory / ".storage"
        storage.mkdir(parents=True, exist_ok=True)
        self.log.write_text("", encoding="utf-8")
        configuration = CONFIGURATION.format(zone=ZONE, factor=self.factor, host=HOST, control_port=self.control_port)
        (self.directory / "configuration.yaml").write_text(configuration, encoding="utf-8")
        _link(self.directory / "dashboard.yaml", DASHBOARD)
        _link(self.directory / "tests", ROOT / "tests")  # for the import of the demo's clock
        self._link_components(self.directory / "custom_components")
        # An http section in YAML would only be a trial, which ends with a restart that listens on all addresses.
        http = {
            "server_host": [HOST],
            "server_port": self.port,
            "cors_allowed_origins": [],
            "login_attempts_threshold": -1,
            "ip_ban_enabled": False,
            "ssl_profile": "modern",
            "use_x_frame_options": True,
            "created_at": "2026-11-01T00:00:00+00:00",
            "error": None,
            "error_message": None,
        }
        _store(storage, "http", 2, {"stable": http, "pending": None, "yaml_migration_done": True}, minor_version=2)
        if not (storage / "onboarding").exists():
            _store(storage, "onboarding", 4, {"done": list(SKIPPED_STEPS)})
            _store(storage, "frontend.system_data", 1, {"core": {"default_panel": "lovelace"}})

    async def has_stored(self, entity_ids: Iterable[str]) -> bool:
        """Return True if the registry on disk has these entities, so that they survive a kill.

        Home Assistant writes the registry 10 s after its last change.
        """
        registry = self.directory / ".storage" / "core.entity_registry"
        text = registry.read_text(encoding="utf-8") if registry.exists() else ""
        return all(entity_id in text for entity_id in entity_ids)

    def _link_components(self, components: Path) -> None:
        """Link ChargeKeeper file by file, with a manifest that requires the set-up of the demo's clock first."""
        shutil.rmtree(components, ignore_errors=True)
        copy = components / INTEGRATION.name
        copy.mkdir(parents=True)
        for item in INTEGRATION.iterdir():
            if item.name not in {"manifest.json", "__pycache__"}:
                (copy / item.name).symlink_to(item)
        manifest = json.loads((INTEGRATION / "manifest.json").read_text(encoding="utf-8"))
        manifest.setdefault("after_dependencies", []).append("chargekeeper_demo")
        (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        for component in COMPONENTS:
            (components / component).symlink_to(DEMO / component)

    async def keep_running(self) -> int:
        """Run Home Assistant, also after each restart, until it is stopped or exits. Return the last exit code."""
        while True:
            self._process = await self._start()
            if not self._wanted:  # `stop` was called during the start
                self._process.terminate()
            if self._restarted is not None:
                self._restarted.set()
            code = await self._process.wait()
            if not self._wanted or (self._restarted is None and code != RESTART_EXIT_CODE):
                return code

    async def _start(self) -> asyncio.subprocess.Process:
        self.starts += 1
        command = (sys.executable, "-m", "homeassistant", "-c", str(self.directory), "--skip-pip", "--log-no-color")
        with self.log.open("ab") as log:
            # In its own session, Home Assistant gets no Ctrl-C. The demo gets Ctrl-C, and ends Home Assistant cleanly.
            return await asyncio.create_subprocess_exec(
                *command,
                cwd=self.directory,
                env=os.environ | {"PYTHONPATH": str(DEMO / "voice")},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def restart(self, *, kill: bool = False) -> None:
        """Restart Home Assistant, cleanly or as after a power cut, while the world goes on.

        On return the new process has started but is not ready.
        """
        if self._process is None or self._process.returncode is not None or self._restarted is not None:
            return
        self._restarted = asyncio.Event()
        try:
            if kill:
                self._process.kill()
            else:
                self._process.terminate()
            await self._restarted.wait()
        finally:
            self._restarted = None

    async def stop(self) -> None:
        """End Home Assistant. Kill the process after `STOPPING_TIME`."""
        self._wanted = False
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOPPING_TIME)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _store(storage: Path, key: str, version: int, data: Mapping[str, object], *, minor_version: int = 1) -> None:
    """Write a file as Home Assistant's own stores do."""
    content = {"version": version, "minor_version": minor_version, "key": key, "data": data}
    (storage / key).write_text(json.dumps(content), encoding="utf-8")
