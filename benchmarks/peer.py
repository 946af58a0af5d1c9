"""The peers: how each is installed, started, asked and read; all with the same checkpoint and texts."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import agreement, load, models, texts, venvs
from benchmarks.cluster import COUNTS
from benchmarks.inprocess import CORES
from benchmarks.server import Server, answers

SERVERS = Path(__file__).parent / "peer_servers"
FIRST_PORT = 8510  # 8500 is where Serve falls back to without HAProxy
SAMPLE = 16


@dataclass(frozen=True)
class Setting:
    """How a peer is run: processes that hold the model, threads of each, the largest batch."""

    workers: int
    threads: int
    batch: int

    def __str__(self) -> str:
        return f"workers {self.workers}, threads {self.threads}, batch {self.batch}"


SETTINGS = (Setting(CORES, 1, 32), Setting(CORES, 1, 8), Setting(CORES, 1, 1))


@dataclass(frozen=True)
class Peer:
    """A server that people use, in an environment of its own with the `requirements`.

    `command` gets this environment's interpreter, the port and the setting.
    """

    name: str
    command: Callable[[Path, int, Setting], list[str]]
    path: str
    requirements: tuple[str, ...]
    ask: Callable[[str], Any] = lambda text: {"inputs": text}
    read: Callable[[Any], Any] = lambda told: told
    settings: Sequence[Setting] = SETTINGS

    def start(self, kind: str, setting: Setting, place: int) -> "Running":
        """Start it and wait for its first answer. Raises `InstallError`, `StartError`."""
        interpreter = venvs.python(self.name, self.requirements)
        port = FIRST_PORT + 10 * place
        environment = {
            "FOLDER": str(models.checkpoint(kind)),
            "KIND": kind,
            "OMP_NUM_THREADS": str(setting.threads),
            "WORKERS": str(setting.workers),
            "BATCH": str(setting.batch),
            "WAIT_MS": "5",
            "PORT": str(port),
            "MOSEC_ADDRESS": "127.0.0.1",
            "MOSEC_PORT": str(port),
            "MOSEC_TIMEOUT": "60000",
            "BENTOML_DO_NOT_TRACK": "True",
        }
        home = models.home() / "run" / self.name
        home.mkdir(parents=True, exist_ok=True)
        server = Server(self.command(interpreter, port, setting), home / "log", home, environment)
        running = Running(self, server, f"http://127.0.0.1:{port}{self.path}", kind)
        try:
            body = json.dumps(self.ask(texts.texts(1)[0])).encode()
            server.wait(lambda: answers(running.url, body))
        except BaseException:
            server.close()
            raise
        return running


@dataclass
class Running:
    """A peer that is up."""

    peer: Peer
    server: Server
    url: str
    kind: str
    requests: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        asked = (json.dumps(self.peer.ask(text)).encode() for text in texts.texts(COUNTS[self.kind]))
        self.requests = [load.post(self.url, body) for body in asked]

    def run(self, clients: int, seconds: float) -> load.Run:
        return load.run(self.url, self.requests, clients, seconds, keep=SAMPLE)

    def check(self, run: load.Run, expected: Sequence[Any]) -> None:
        told = {place: self.peer.read(json.loads(body)) for place, body in run.answers.items()}
        agreement.require(told, expected)


def _script(name: str) -> Callable[[Path, int, Setting], list[str]]:
    return lambda interpreter, port, setting: [str(interpreter), str(SERVERS / name)]


def _naive(interpreter: Path, port: int, setting: Setting) -> list[str]:
    uvicorn = [str(interpreter), "-m", "uvicorn", "--app-dir", str(SERVERS), "naive_fastapi:app"]
    return [*uvicorn, "--port", str(port), "--workers", str(setting.workers), "--log-level", "warning"]


def _bentoml(interpreter: Path, port: int, setting: Setting) -> list[str]:
    bentoml = [str(interpreter.with_name("bentoml")), "serve", "bentoml_service:Model"]
    return [*bentoml, "--working-dir", str(SERVERS), "--host", "127.0.0.1", "--port", str(port)]


def _open_inference(text: str) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}


def _read_open_inference(told: dict[str, Any]) -> Any:
    return [json.loads(one) if isinstance(one, str) else one for one in told["outputs"][0]["data"]]


NAIVE = Peer(
    "naive",
    _naive,
    "/predict",
    ("fastapi", "uvicorn[standard]"),
    settings=(Setting(CORES, 1, 1), Setting(1, CORES, 1), Setting(1, 1, 1)),
)
PEERS = (
    NAIVE,
    Peer("litserve", _script("litserve_server.py"), "/predict", ("litserve",)),
    Peer("mosec", _script("mosec_server.py"), "/inference", ("mosec",)),
    Peer("bentoml", _bentoml, "/predict", ("bentoml",), ask=lambda text: {"texts": [text]}),
    Peer(
        "mlserver",
        _script("mlserver_runtime.py"),
        "/v2/models/model/infer",
        ("mlserver", "uvloop<0.22"),  # its workers do not start with a later one
        ask=_open_inference,
        read=_read_open_inference,
    ),
)
