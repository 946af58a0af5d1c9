"""Run Roster as a user starts it, `python -m deployments CONFIG`, with a separate models folder and ports.

It runs from a copy of the project with the no-op task and, as one more application for the overhead, the bare
ingress: both are behind the same proxy.
"""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from benchmarks.server import CLIENT, Endpoint, Server, StartError, endpoint, responds
from benchmarks.workload import ROOT, checkpoint, home
from deployments.cluster import environment as ray_environment

HERE = Path(__file__).parent
HTTP_PORT, GRPC_PORT = 8600, 9600
URL = f"http://127.0.0.1:{HTTP_PORT}"
NOOP, NOOP_ID = "noop", "00000000-0000-0000-0000-000000000000"
ROUTERS, CORES = 2, psutil.cpu_count() or 1
BARE_URL = f"{URL}/bare/"
BARE = {"name": "bare", "route_prefix": "/bare", "import_path": "bare_ingress:build"}
IDLE_SHARE, IDLE_S = 0.25, 20.0  # of one processor: a cluster that takes less has no work left


class Roster(Server):
    """A running Roster, with or without the bare ingress; `started_s` is the time until it was ready."""

    stop_signal = signal.SIGINT  # as Ctrl-C; Serve's clean-up needs it

    def __init__(self, bare: bool = False) -> None:
        project = _project("roster", gateway=True, bare=bare)
        self.models = project / "models"
        begin = time.perf_counter()
        command = [sys.executable, "-m", "deployments", str(project / "config.yaml"), "--verbose"]
        super().__init__(command, project)
        self.wait_or_close(lambda: CLIENT.get(f"{URL}/health/ready").status_code == httpx.codes.OK)
        self.started_s = time.perf_counter() - begin

    def add(self, model_id: str, folder: Path | None = None, **config: Any) -> None:
        """Add a copy of a model's folder, with more in its config.yml; without a folder, the no-op model."""
        partial = self.models.parent / f"{model_id}.partial"
        shutil.copytree(folder or self.models.parent / NOOP, partial)
        config = {**yaml.safe_load((partial / "config.yml").read_text()), **config}
        (partial / "config.yml").write_text(yaml.safe_dump(config))
        partial.rename(self.models / model_id)

    def remove(self, *model_ids: str) -> None:
        """Remove folders, and wait until their models and processes have ended."""
        for model_id in model_ids:
            shutil.rmtree(self.models / model_id)
        self.wait(lambda: not self.cards().keys() & set(model_ids), "removed")
        self.wait(lambda: not any(map(self.replicas, model_ids)), "ended")

    def cards(self) -> dict[str, dict[str, Any]]:
        return {card["id"]: card for card in CLIENT.get(f"{URL}/models").raise_for_status().json()}

    def totals(self, model_id: str) -> dict[str, float]:
        """Return the counters of a model and of earlier ones of its name. Routers report once a second."""
        models = CLIENT.get(f"{URL}/status").raise_for_status().json()
        return next(dict(stats["totals"]) for stats in models if stats["id"] == model_id)

    def wait_for(self, *model_ids: str) -> None:
        """Wait until these models are ready. Raises `StartError` when one becomes unavailable."""

        def ready() -> bool:
            cards = [card for card in self.cards().values() if card["id"] in model_ids]
            for card in cards:
                if card["state"] == "unavailable":
                    raise StartError(card["reason"])
            return [card["state"] for card in cards] == ["ready"] * len(model_ids)

        self.wait(ready)

    def replicas(self, model_id: str) -> list[psutil.Process]:
        """Return the processes that hold the model."""
        title = re.compile(rf"ray::ServeReplica:{re.escape(model_id)}(?![\w-])")
        found = []
        for process in self.processes():
            with suppress(psutil.Error):
                found += [process] if title.match(" ".join(process.cmdline())) else []
        return found

    @contextmanager
    def model(
        self, kind: str, engine: str = "torch", dtype: str = "auto", replicas: int = CORES
    ) -> Iterator[Endpoint]:
        """Serve a checkpoint within the block, by one replica per processor unless `replicas` is given."""
        name = "-".join([kind, *(word for word in (engine, dtype) if word not in ("torch", "auto"))])
        options = {"engine": {"name": engine, "dtype": dtype}, "deployment": {"num_replicas": replicas}}
        self.add(name, checkpoint(kind), **options)
        try:
            self.wait_for(name)
            self.wait(lambda: len(self.replicas(name)) >= replicas, "complete")
            self.wait_until_idle()
            yield endpoint(self, f"{URL}/models/{name}", kind)
        finally:
            self.remove(name)

    def wait_until_idle(self, seconds: float = IDLE_S) -> None:
        """Wait, at most `seconds`, until the cluster is idle and does not disturb the next measurement."""
        end = time.monotonic() + seconds
        while self.idle_share(1.0) > IDLE_SHARE and time.monotonic() < end:
            pass

    def idle_share(self, seconds: float) -> float:
        """Return the share of one processor that the cluster takes without requests."""
        used = 0.0
        for sign, pause in ((-1, seconds), (1, 0.0)):
            for process in self.processes():
                with suppress(psutil.Error):
                    used += sign * sum(process.cpu_times()[:2])  # user and system
            time.sleep(pause)
        return used / seconds

    @contextmanager
    def frozen(self) -> Iterator[None]:
        with super().frozen():
            yield
        self.wait_until_idle()


def bare_serve() -> float:
    """Start Ray Serve with only the bare ingress; return the seconds until its first response."""
    project = _project("bare", gateway=False, bare=True)
    environment = ray_environment.environment(ray_environment.available())
    environment |= {"RAY_ADDRESS": "local", "PYTHONPATH": str(project)}
    begin = time.perf_counter()
    command = [str(Path(sys.executable).with_name("serve")), "run", "config.yaml"]
    server = Server(command, project, environment)
    server.stop_signal = Roster.stop_signal
    with closing(server):
        server.wait(lambda: responds(BARE_URL, b'{"inputs": "a"}'))
        return time.perf_counter() - begin


@cache
def supports(dtype: str) -> bool:
    """Return whether this processor computes in a dtype, as Roster decides it, in a process with torch."""
    module = "deployments.engines.checkpoint"
    code = f"from {module} import cpu_supports_dtype; print(cpu_supports_dtype('torch.{dtype}'))"
    return subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "True"


def _project(name: str, gateway: bool, bare: bool) -> Path:
    """Copy the project, with a Serve config that has the gateway, the bare ingress, or both."""
    project = home() / "run" / name
    shutil.rmtree(project, ignore_errors=True)
    for folder in ("models", NOOP):
        (project / folder).mkdir(parents=True)
    (project / NOOP / "config.yml").write_text(f"module_id: {NOOP_ID}\n")
    for package in ("deployments", "ui"):
        shutil.copytree(ROOT / package, project / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "noop.py", project / "deployments" / "tasks")
    shutil.copy(HERE / "bare_ingress.py", project)
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    config["http_options"] = {"host": "127.0.0.1", "port": HTTP_PORT}
    config["grpc_options"]["port"] = GRPC_PORT
    config["applications"][0]["args"]["models"] = str(project / "models")
    applications = config["applications"][:1] if gateway else []
    config["applications"] = applications + [{**BARE, "args": {"replicas": ROUTERS}}] * bare
    if not gateway:
        del config["grpc_options"]
    (project / "config.yaml").write_text(yaml.safe_dump(config))
    return project
