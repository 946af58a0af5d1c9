"""Roster as a user starts it, `python -m deployments CONFIG`, with a models folder and ports of its own.

It runs from a copy of the house with one file more, the no-op task. Where the overhead is measured, its Serve
config has one application more, the bare ingress, so that both are behind the same proxy.
"""

import json
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from benchmarks import load, models, texts
from benchmarks.server import Server, StartError, answers
from deployments.cluster import environment as fast_lane

HTTP_PORT, GRPC_PORT = 8600, 9600
URL = f"http://127.0.0.1:{HTTP_PORT}"
BARE = f"{URL}/bare/"
NOOP = "noop"
NOOP_ID = "00000000-0000-0000-0000-000000000000"
READY_S = 120.0
CALM_SHARE = 0.25  # of one processor, below which a cluster has nothing left to do
CALM_S = 20.0
ROUTERS = 2
ROSTERS = {
    "Roster": "torch",
    "Roster, engine openvino": "openvino",
}  # whose models it is asked for, by engine
BARE_APP = {
    "name": "bare",
    "route_prefix": "/bare",
    "import_path": "bare_ingress:build",
    "args": {},
    "deployments": [{"name": "Bare", "num_replicas": ROUTERS}],
}


class Roster(Server):
    """A running Roster, with or without the bare ingress beside it; `started_s` is how long starting took."""

    def __init__(self, bare: bool = False) -> None:
        home = models.home() / "run" / "roster"
        shutil.rmtree(home, ignore_errors=True)
        self.models = home / "models"
        self.models.mkdir(parents=True)
        house = _house(home)
        config = _config(home, [BARE_APP] if bare else [])
        begin = time.perf_counter()
        super().__init__([sys.executable, "-m", "deployments", str(config), "--verbose"], home / "log", house)
        self.http = httpx.Client(base_url=URL, timeout=60, trust_env=False)
        try:
            self.wait(lambda: self.http.get("/health/ready").status_code == httpx.codes.OK)
        except BaseException:
            self.close()
            raise
        self.started_s = time.perf_counter() - begin

    def add(self, model_id: str, folder: Path | None = None, **config: Any) -> None:
        """Drop a copy of a model's folder in, with more in its config.yml; no folder: the no-op."""
        making = self.models.parent / f"{model_id}.making"
        if folder:
            shutil.copytree(folder, making)
            config = {**yaml.safe_load((folder / "config.yml").read_text()), **config}
        else:
            making.mkdir()
            config = {"module_id": NOOP_ID, **config}
        (making / "config.yml").write_text(yaml.safe_dump(config))
        making.rename(self.models / model_id)

    def remove(self, *model_ids: str) -> None:
        """Take folders away, and wait until their models and processes are gone."""
        for model_id in model_ids:
            shutil.rmtree(self.models / model_id)
        self._until(lambda: not self.cards().keys() & set(model_ids), "removed")
        self._until(lambda: not any(map(self.replicas, model_ids)), "ended")

    def cards(self) -> dict[str, dict[str, Any]]:
        return {card["id"]: card for card in self.http.get("/models").raise_for_status().json()}

    def totals(self, model_id: str) -> dict[str, float]:
        """What a model has done, and others of its name before it; a second late, as Routers tell it."""
        told = self.http.get("/status").raise_for_status().json()
        (totals,) = (dict(figures["totals"]) for figures in told if figures["id"] == model_id)
        return totals

    def wait_for(self, *model_ids: str, state: str = "ready") -> None:
        """Until these models are in a state. Raises `StartError` when one will not be ready."""
        self._until(lambda: _all_in(self.cards(), model_ids, state), state)

    def replicas(self, model_id: str) -> list[psutil.Process]:
        """The processes that hold the model."""
        title = re.compile(rf"ray::ServeReplica:{re.escape(model_id)}(?![\w-])")
        return [process for process in self.processes() if title.match(_title(process))]

    @contextmanager
    def model(self, kind: str, engine: str = "torch", dtype: str = "auto", **config: Any) -> "Iterator[Door]":
        """A benchmark checkpoint, served as long as the block runs, by a replica per processor."""
        name = "-".join([kind, *(word for word in (engine, dtype) if word not in ("torch", "auto"))])
        deployment = config.pop("deployment", {"num_replicas": psutil.cpu_count()})
        engines = {"name": engine, "dtype": dtype}
        self.add(name, models.checkpoint(kind), deployment=deployment, engine=engines, **config)
        try:
            self.wait_for(name)
            self._until(lambda: len(self.replicas(name)) >= deployment.get("num_replicas", 1), "complete")
            self.calm()
            yield Door(name, kind)
        finally:
            self.remove(name)

    def calm(self, seconds: float = CALM_S) -> None:
        """Wait until the cluster has nothing left to do, so that it does not disturb what comes next."""
        end = time.monotonic() + seconds
        while self.idle_share(1.0) > CALM_SHARE and time.monotonic() < end:
            pass

    def idle_share(self, seconds: float) -> float:
        """The share of one processor that the cluster takes of itself, asked nothing."""
        before = _cpu_s(self.processes())
        time.sleep(seconds)
        return (_cpu_s(self.processes()) - before) / seconds

    @contextmanager
    def frozen(self) -> Iterator[None]:
        with super().frozen():
            yield
        self.calm()

    def close(self, number: int = signal.SIGINT) -> None:
        """One SIGINT, as Ctrl-C sends; a second would break off Serve's own clean-up."""
        self.http.close()
        super().close(number)

    def _until(self, condition: Any, what: str) -> None:
        try:
            self.wait(condition, READY_S)
        except StartError as error:
            raise StartError(f"not {what} within {READY_S:g} s; the log ends: {error}") from None


def bare_serve() -> float:
    """Start Ray Serve with the bare ingress alone; the seconds until it answers."""
    home = models.home() / "run" / "bare"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("bare_ingress.py"), home)
    config = {**yaml.safe_load((models.ROOT / "serve_config.yaml").read_text()), "applications": [BARE_APP]}
    config["http_options"] = {"host": "127.0.0.1", "port": HTTP_PORT}
    del config["grpc_options"]
    (home / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {
        "RAY_ADDRESS": "local",
        **fast_lane.environment(fast_lane.available()),
        "PYTHONPATH": str(home),
    }
    begin = time.perf_counter()
    command = [str(Path(sys.executable).with_name("serve")), "run", "config.yaml"]
    server = Server(command, home / "log", home, environment)
    try:
        server.wait(lambda: answers(BARE, b'{"inputs": "a"}'))
        return time.perf_counter() - begin
    finally:
        server.close(signal.SIGINT)


@dataclass(frozen=True)
class Door:
    """A model of this run, through the door, in the Hugging Face dialect."""

    name: str
    kind: str

    @property
    def url(self) -> str:
        return f"{URL}/models/{self.name}"

    def run(self, clients: int, seconds: float, keep: int = 16) -> load.Run:
        return load.run(self.url, requests(self.url, self.kind), clients, seconds, keep=keep)


COUNTS = {"embeddings": 1024, "classification": 256, "images": 16, NOOP: 256}


def requests(url: str, kind: str) -> list[bytes]:
    """The workload as requests: a text in JSON each, or a picture as it is."""
    if kind == "images":
        return [load.post(url, picture, "image/jpeg") for picture in texts.photographs(COUNTS[kind])]
    return [load.post(url, json.dumps({"inputs": text}).encode()) for text in texts.texts(COUNTS[kind])]


def _house(home: Path) -> Path:
    house = home / "house"
    ignore = shutil.ignore_patterns("__pycache__")
    for package in ("deployments", "ui"):
        shutil.copytree(models.ROOT / package, house / package, ignore=ignore)
    here = Path(__file__).parent
    shutil.copy(here / "noop.py", house / "deployments" / "tasks")
    shutil.copy(here / "bare_ingress.py", house)
    return house


def _config(home: Path, others: list[dict[str, Any]]) -> Path:
    config = yaml.safe_load((models.ROOT / "serve_config.yaml").read_text())
    config["http_options"] = {"host": "127.0.0.1", "port": HTTP_PORT}
    config["grpc_options"]["port"] = GRPC_PORT
    gateway = config["applications"][0]
    gateway["args"]["models"] = str(home / "models")
    config["applications"] = [gateway, *others]
    path = home / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def _all_in(cards: dict[str, dict[str, Any]], model_ids: tuple[str, ...], state: str) -> bool:
    broken = [cards[id]["reason"] for id in model_ids if id in cards and cards[id]["state"] == "unavailable"]
    if broken and state != "unavailable":
        raise StartError(broken[0])
    return all(id in cards and cards[id]["state"] == state for id in model_ids)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _cpu_s(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total
