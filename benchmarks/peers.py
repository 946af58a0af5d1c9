"""Compare with the peers of `peers.yml`: the same checkpoints and texts, each peer with its best setting."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import jinja2
import yaml
from pydantic import BaseModel

from benchmarks import baseline, cluster, harness, load, server, workload

TITLE = "Against its peers"
HERE = Path(__file__).parent
INSTALL_S, TRIAL_S, CLIENTS = 900.0, 4.0, 64
SETTING = {"workers": 1, "threads": 1, "batch": 1, "arguments": ""}
NAIVE, NAMES = "naive", ("naive", "litserve", "mosec", "bentoml", "mlserver")
GOALS = {"embeddings": ("≥ 2", "≥ 4"), "classification": ("≥ 1.5", "")}  # to the best peer, to the naive one
ROSTERS = {"Roster": {"engine": "torch"}, "Roster, engine openvino": {"engine": "openvino"}}
HALF, HALF_KIND = "Roster, dtype bfloat16", "embeddings"  # has no goal: its responses are not the peers'
Rate = Callable[[server.Endpoint], float]
Settings = Mapping[str, str]  # of peers, by their names


class Peer(BaseModel):
    """A server that people use; `settings` are ways to run it, by their titles."""

    name: str
    port: int
    path: str
    command: str
    requirements: list[str]
    settings: dict[str, dict[str, Any]]
    request: dict[str, Any]
    format: str = "json"

    def start(self, kind: str, setting: str) -> server.Endpoint:
        """Start it, and wait for its first response. Raises `SubprocessError`, `StartError`."""
        folder = str(workload.checkpoint(kind))
        values = {**SETTING, **self.settings[setting], "kind": kind, "folder": folder, "port": self.port}
        values |= {"bin": self.install() / "bin", "servers": HERE / "peer_servers"}
        command = [word.format(**values) for word in self.command.split()] + values["arguments"].split()
        environment = {name: value.format(**values) for name, value in FILE["environment"].items()}
        url = f"http://127.0.0.1:{self.port}{self.path}"
        request = json.dumps(self.request).replace('"{folder}"', json.dumps(folder))
        texts = workload.texts(workload.COUNTS[kind])
        bodies = [request.replace('"{text}"', json.dumps(text)).encode() for text in texts]
        process = server.Server(command, workload.home() / "run" / self.name, environment)
        process.wait_or_close(lambda: server.responds(url, bodies[0]))
        return server.Endpoint(process, url, [load.post(url, body) for body in bodies], READERS[self.format])

    def install(self) -> Path:
        """Return the folder of its environment, made if it is missing, with our torch and transformers."""
        folder = workload.home() / "venvs" / self.name.replace(" ", "-")
        stamp = folder / "requirements"
        pins = [f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "transformers")]
        wanted = "\n".join([*pins, *self.requirements])
        if not stamp.exists() or stamp.read_text() != wanted:
            pip = [f"{folder}/bin/python", "-m", "pip", "install", "--quiet", *wanted.splitlines()]
            for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], pip):
                subprocess.run(command, check=True, timeout=INSTALL_S)
            stamp.write_text(wanted)
        return folder

    def versions(self) -> str:
        """Return the versions of torch, transformers and the requirements in its environment."""
        folders = map(str, self.install().glob("lib/python*/site-packages"))
        found = {one.name.lower(): one.version for one in distributions(path=list(folders))}
        names = ["torch", "transformers", *(re.split(r"[^\w.-]", one)[0] for one in self.requirements)]
        return ", ".join(f"{name} {found[name]}" for name in dict.fromkeys(names))


def best_settings(
    kind: str, names: Sequence[str], rate: Rate, unit: str, findings: harness.Findings
) -> Settings:
    """Return the title of each peer's fastest setting; add a note for each that does not run here."""

    def measure(setting: str) -> float:
        endpoint = peer.start(kind, setting)
        with closing(endpoint.server):
            return rate(endpoint)

    best = {}
    for name in names:
        label, peer = f"{name}, {kind}", PEERS[name]
        try:
            rates = harness.measured_settings(f"{label}, {baseline.CORES} cores", peer.settings, measure)
        except FAILURES as error:
            findings.notes.append(f"{label}: {type(error).__name__}: {error}")
            continue
        each = [f"{setting}: {found:g} {unit}" for setting, found in rates.items()]
        findings.raw |= {f"{label}, tried alone": "; ".join(each), f"{name}, versions": peer.versions()}
        best[name] = next(iter(rates))
    return best


@contextmanager
def running(
    bench: harness.Bench, kind: str, settings: Settings, rosters: Mapping[str, dict[str, Any]]
) -> Iterator[dict[str, server.Endpoint]]:
    """Start peers with their settings, and Roster's models unless `bench` leaves Roster out."""
    with ExitStack() as stack:
        endpoints = {}
        for name, setting in settings.items():
            endpoints[name] = PEERS[name].start(kind, setting)
            stack.enter_context(closing(endpoints[name].server))
        for name, options in ({} if bench.alone else rosters).items():
            endpoints[name] = stack.enter_context(bench.roster.model(kind, **options))
        yield endpoints


def stream_text(body: bytes) -> str:
    """Return the whole text of a streamed response, from Roster or from an OpenAI API."""
    lines = [line.removeprefix(b"data:").strip() for line in body.splitlines() if line.startswith(b"data:")]
    events = [json.loads(line) for line in lines if line.startswith(b"{")]
    return "".join((event.get("token") or event["choices"][0])["text"] for event in events)


def _open_inference_data(body: bytes) -> Any:
    data = json.loads(body)["outputs"][0]["data"]
    return [json.loads(value) if isinstance(value, str) else value for value in data]


FAILURES = (subprocess.SubprocessError, server.StartError, ConnectionError, harness.Disagreement)
READERS: Any = {"json": json.loads, "open_inference": _open_inference_data, "stream": stream_text}
FILE = yaml.safe_load(jinja2.Template((HERE / "peers.yml").read_text()).render(cores=baseline.CORES))
PEERS = {name: Peer(name=name, **peer) for name, peer in FILE["peers"].items()}


def measure(bench: harness.Bench, findings: harness.Findings) -> None:
    """Find each peer's best setting (once on a machine), then run all of them and Roster in turn."""
    shares = {}
    for kind in GOALS:
        with closing(baseline.Processes(workload.checkpoint(kind), load.SAMPLE)) as processes:
            expected = processes.first("responses", count=load.SAMPLE)
        settings = best_settings(kind, NAMES, partial(_checked_rate, expected), "items/s", findings)
        half = {HALF: {"dtype": "bfloat16"}} if kind == HALF_KIND and cluster.supports("bfloat16") else {}
        with running(bench, kind, settings, {**ROSTERS, **half}) as endpoints:
            runs = harness.compare(bench, endpoints, [CLIENTS])
        rates = {name: [run.rate for run in each] for (name, _), each in runs.items()}
        _report(kind, rates, settings, findings)
        most = max(map(max, rates.values()))
        shares[kind] = [(name, sum(each) / len(each) / most) for name, each in rates.items()]
    title, y = f"{CLIENTS} clients, mixed short texts", "items per second, relative to the best"
    findings.plot = harness.Plot(title, "", y, shares)


def _checked_rate(expected: list[Any], endpoint: server.Endpoint) -> float:
    run = endpoint.run(CLIENTS, TRIAL_S)
    harness.check_responses(endpoint.responses(run), expected)
    return run.rate


def _report(kind: str, rates: dict[str, list[float]], settings: Settings, findings: harness.Findings) -> None:
    for name, each in rates.items():
        label = ", ".join(filter(None, [name, kind, f"{CLIENTS} clients", settings.get(name)]))
        findings.raw[label] = f"{harness.numbers(each)} items/s"
    peers = {name: each for name, each in rates.items() if name in NAMES}
    if not peers:
        return
    best = max(peers, key=lambda name: sum(peers[name]))
    for roster in (name for name in (HALF, *ROSTERS) if name in rates):
        shares = {name: harness.ratio(rates[roster], each) for name, each in peers.items()}
        label, (goal_best, goal_naive) = f"{kind}: {roster}", GOALS[kind]
        if roster == HALF:
            note = "no goal: the peer is in float32, and answers differ"
            findings.add(f"{label} / best peer ({best})", shares[best], note=note)
            continue
        findings.add(f"{label} / best peer ({best})", shares[best], goal_best)
        for name, share in shares.items():
            if name == NAIVE:
                findings.add(f"{label} / pipeline behind FastAPI", share, goal_naive)
            elif name != best:
                findings.add(f"{label} / {name}", share, note=settings[name])
