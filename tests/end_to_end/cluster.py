"""A real cluster, started as a user starts it, with a separate models folder."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
import yaml

from deployments.cluster.environment import environment

ROOT = Path(__file__).parents[2]
START_S = 180.0


@dataclass
class Cluster:
    """A running Roster: where it listens, and the folder that it follows."""

    mode: str
    url: str
    grpc_address: str
    models: Path
    log: Path
    http: httpx.Client = field(repr=False)
    channel: grpc.Channel = field(repr=False)

    def card(self, model_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/models/{model_id}")
        return (
            answer.json()
            if answer.status_code == httpx.codes.OK
            else {"state": "gone", "reason": answer.text}
        )

    def add(self, model_id: str, like: str, **more: Any) -> Path:
        """Copy a starter model's folder, with more in its config.yml."""
        folder = self.models / model_id
        shutil.copytree(ROOT / "models" / like, folder)
        if more:
            self.edit(model_id, **more)
        return folder

    def edit(self, model_id: str, **more: Any) -> None:
        path = self.models / model_id / "config.yml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **more}))

    def remove(self, model_id: str) -> None:
        shutil.rmtree(self.models / model_id)

    def wait_for_state(self, model_id: str, state: str, seconds: float = 60) -> dict[str, Any]:
        return wait_for(
            lambda: (card := self.card(model_id))["state"] == state and card, seconds, f"{model_id} {state}"
        )

    @property
    def config(self) -> Path:
        return self.models.with_name("serve_config.yaml")

    def use_transport(self, transport: str) -> None:
        """Replace the Routers by some with another transport."""
        config, before = yaml.safe_load(self.config.read_text()), self.pids("gateway:Router")
        config["applications"][0]["args"]["transport"] = transport
        self.config.write_text(yaml.safe_dump(config))
        serve("deploy", str(self.config))
        wait_for(lambda: self._are_new(before), 60, f"Routers with the transport {transport}")

    def _are_new(self, before: set[int]) -> bool:
        routers = self.pids("gateway:Router")
        ready = self.http.get("/health/ready").status_code == httpx.codes.OK
        return len(routers) == len(before) and not routers & before and ready

    def pids(self, name: str) -> set[int]:
        """Return the processes of an application's or ("gateway:Router") a deployment's replicas."""
        title = re.compile(rf"ray::ServeReplica:{re.escape(name)}\b")
        # Only below this test run, so that a test does not kill processes of another cluster.
        ours = psutil.Process().children(recursive=True)
        return {process.pid for process in ours if title.match(_title(process))}


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def serve(*arguments: str) -> str:
    """Run Ray Serve's command on the cluster that runs; return what it prints."""
    command = [str(Path(sys.executable).with_name("serve")), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return the condition's first true value; fails when there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if value := condition():
                return value
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    pytest.fail(f"not within {seconds:g} s: {what}")


MODES = ("added_task", "fast", "handle", "slow", "gpus")  # in the order of their tests
MODELS = {"added_task": (), "gpus": ("embeddings", "sentiment")}  # in a mode that needs few of models/


def in_modes(*modes: str) -> pytest.MarkDecorator:
    """Run a module's tests on a cluster in each of these modes.

    "fast" and "slow" are with and without HAProxy; "handle" is fast, with `transport: handle`; "gpus" is
    fast, on a Ray that `ray start` made with logical GPUs; "added_task" is fast, with another task in a copy
    of the checkout. In "slow" models can be unloaded.
    """
    return pytest.mark.parametrize("cluster", modes, indirect=True, scope="session")


class Clusters:
    """Starts the cluster of a mode; one runs at a time. "fast" and "handle" share one."""

    def __init__(self, new_home: Callable[[str], Path]) -> None:
        self._new_home = new_home
        self._stack = ExitStack()
        self._cluster: Cluster | None = None

    def use(self, mode: str) -> Cluster:
        if self._cluster and (self._cluster.mode, mode) == ("fast", "handle"):
            self._cluster.use_transport("handle")
            self._cluster.mode = mode
        elif not self._cluster or self._cluster.mode != mode:
            self.close()
            self._cluster = self._start(mode)
        return self._cluster

    def close(self) -> None:
        self._stack.close()
        self._cluster = None

    def _start(self, mode: str) -> Cluster:
        home = self._new_home(mode)
        for model_id in MODELS.get(mode, os.listdir(ROOT / "models")):
            shutil.copytree(ROOT / "models" / model_id, home / "models" / model_id)
        if mode == "gpus":
            self._stack.enter_context(_ray_with_gpus(home))
        checkout = _checkout_with_an_added_task(home) if mode == "added_task" else ROOT
        return self._stack.enter_context(_roster(checkout, home, mode))


@contextmanager
def _roster(checkout: Path, home: Path, mode: str) -> Iterator[Cluster]:
    """`python -m deployments`, as `make serve` calls it, until every starter model is ready."""
    ports = 7000 + MODES.index(mode), 7100 + MODES.index(mode)
    url, address = f"http://127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}"
    config, log = home / "serve_config.yaml", home / "log"
    command = [sys.executable, "-m", "deployments", str(config), "--verbose"]
    _write_config(config, mode, *ports)
    with (
        _process([*command, *(["--slow"] if mode == "slow" else [])], log, {}, checkout) as process,
        httpx.Client(base_url=url, timeout=30, trust_env=False) as http,
        grpc.insecure_channel(address) as channel,
    ):

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text()[-4000:]
            return http.get("/health/ready").status_code == httpx.codes.OK

        wait_for(is_ready, START_S, f"a {mode} cluster")
        yield Cluster(mode, url, address, home / "models", log, http, channel)


@contextmanager
def _ray_with_gpus(home: Path) -> Iterator[None]:
    """`ray start --head --num-gpus 4` on a machine that has none, for Serve to find."""
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--head", "--block", "--port=6390", "--num-cpus=4", "--num-gpus=4"]
    os.environ["RAY_ADDRESS"] = "127.0.0.1:6390"
    try:
        with _process(command, home / "ray.log", environment(high_throughput=True), ROOT):
            wait_for(lambda: "Ray runtime started" in (home / "ray.log").read_text(), 60, "ray start")
            yield
    finally:
        del os.environ["RAY_ADDRESS"]
        Path("/tmp/ray/ray_current_cluster").unlink(
            missing_ok=True
        )  # `ray stop` would stop any other as well


@contextmanager
def _process(
    command: list[str], log: Path, more: dict[str, str], cwd: Path
) -> "Iterator[subprocess.Popen[bytes]]":
    env = {**os.environ, **more, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        # Where the tests run in a shell's background, SIGINT is ignored, and children inherit that.
        heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(command, cwd=cwd, stdout=output, stderr=output, env=env, preexec_fn=heard)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(START_S)


def _checkout_with_an_added_task(home: Path) -> Path:
    checkout = home / "checkout"
    shutil.copytree(
        ROOT / "deployments", checkout / "deployments", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(
        Path(__file__).with_name("counting_task.py"), checkout / "deployments" / "tasks" / "counting.py"
    )
    (home / "models" / "counter").mkdir(parents=True)
    (home / "models" / "counter" / "config.yml").write_text(
        "module_id: 10101010-1010-1010-1010-101010101010\n"
    )
    return checkout


def _write_config(path: Path, mode: str, http_port: int, grpc_port: int) -> None:
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    config["http_options"] = {"host": "127.0.0.1", "port": http_port}
    config["grpc_options"]["port"] = grpc_port
    config["applications"][0]["args"] |= {
        "models": str(path.with_name("models")),
        "transport": "handle" if mode == "handle" else "channel",
        "allow_model_control": mode == "slow",
        "default_model": "embeddings",
        "allowed_origins": ["http://localhost:3000"],
    }
    path.write_text(yaml.safe_dump(config))
