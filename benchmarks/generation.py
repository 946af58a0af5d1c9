"""Generation: tokens per second and time to the first token, against `transformers serve` and one by one."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import load, models, texts, tried, venvs
from benchmarks.cluster import ROSTERS
from benchmarks.findings import Findings, Plot
from benchmarks.inprocess import CORES, Processes
from benchmarks.rounds import in_turn, listed, ratio
from benchmarks.server import Server, StartError, answers, frozen
from benchmarks.solo import NEW_TOKENS

if TYPE_CHECKING:
    from benchmarks.bench import Bench

TITLE = "Generation: streams side by side"
STREAMS = (1, 8, 16, 32)
MANY = 16
PROMPTS = 64
SAMPLE = 8
PORT = 8580
REQUIREMENTS = ("transformers[serving]", "accelerate", "openai")
OVER_SERVE, OVER_SOLO = 1.2, 4.0
BLOCKS = ("--cb-block-size", "32", "--cb-num-blocks", "256", "--cb-max-batch-tokens", "512")
SERVE_SETTINGS = {  # transformers serve: its arguments and threads
    "continuous batching, 1 thread": (("--continuous-batching", *BLOCKS), 1),
    f"continuous batching, {CORES} threads": (("--continuous-batching", *BLOCKS), CORES),
    "no batching, 1 thread": ((), 1),
}
TRY_S = 4.0


@dataclass(frozen=True)
class Streams:
    """A server that streams, asked greedily for `NEW_TOKENS` tokens; `text` reads an event's text."""

    url: str
    ask: Callable[[str], dict[str, Any]]
    text: Callable[[dict[str, Any]], str]

    def run(self, clients: int, seconds: float) -> load.Run:
        bodies = (json.dumps(self.ask(prompt)).encode() for prompt in texts.texts(PROMPTS))
        return load.run(
            self.url, [load.post(self.url, body) for body in bodies], clients, seconds, keep=SAMPLE
        )

    def tokens_per_s(self, run: load.Run) -> float:
        """No answer ends early, so an answer's events stand for all of its tokens."""
        events = [body.count(b"data:") for body in run.answers.values()]
        return run.event_rate * NEW_TOKENS * len(events) / sum(events)

    def said(self, body: bytes) -> str:
        """The whole text of a streamed answer."""
        lines = (
            line.removeprefix(b"data:").strip() for line in body.splitlines() if line.startswith(b"data:")
        )
        return "".join(self.text(json.loads(line)) for line in lines if line.startswith(b"{"))


def through_the_door(url: str) -> Streams:
    """Roster, in the Hugging Face dialect."""
    parameters = {"max_new_tokens": NEW_TOKENS, "do_sample": False}
    return Streams(
        url,
        lambda prompt: {"inputs": prompt, "parameters": parameters, "stream": True},
        lambda event: event["token"]["text"],
    )


def transformers_serve(folder: str) -> Streams:
    """`transformers serve`, in OpenAI's words."""
    wanted = {"model": folder, "max_tokens": NEW_TOKENS, "temperature": 0, "stream": True}
    return Streams(
        f"http://127.0.0.1:{PORT}/v1/completions",
        lambda prompt: {**wanted, "prompt": prompt},
        lambda event: event["choices"][0]["text"],
    )


def measure(bench: "Bench") -> Findings:
    """All of them in turn, at 1 to 32 streams."""
    findings = Findings("generation", TITLE)
    folder = models.checkpoint("generation")
    serve, setting = transformers_serve(str(folder)), _best_serve(findings)
    with ExitStack() as stack:
        solos = [Processes(folder, PROMPTS, 1, threads, module="benchmarks.solo") for threads in (CORES, 1)]
        for one in solos:
            stack.callback(one.close)
        solo = max(solos, key=lambda one: one.rate(1.0))
        expected = solo.answers(SAMPLE)
        servers: dict[str, tuple[Server, Streams]] = {}
        if setting:
            servers["transformers serve"] = (_start_serve(setting), serve)
            stack.callback(servers["transformers serve"][0].close)
        if not bench.alone:
            for name, engine in ROSTERS.items():
                door = stack.enter_context(bench.roster.model("generation", engine))
                servers[name] = (bench.roster, through_the_door(door.url))
        found = _in_turn(bench, servers, solo)
    _tell(findings, found, servers, setting or "")
    _agree(findings, found, servers, expected)
    return findings


def _in_turn(
    bench: "Bench", servers: dict[str, tuple[Server, Streams]], solo: Processes
) -> dict[tuple[str, int], list[Any]]:
    runs: dict[tuple[str, int], Callable[[], Any]] = {
        (name, clients): partial(_apart, servers, name, partial(streams.run, clients, bench.seconds))
        for name, (_, streams) in servers.items()
        for clients in STREAMS
    }
    runs["one at a time", 1] = partial(_apart, servers, "", partial(solo.rate, bench.seconds))
    return in_turn(bench.rounds, runs)


def _apart(servers: dict[str, tuple[Server, Streams]], name: str, run: Callable[[], Any]) -> Any:
    asked = servers[name][0] if name else None
    with frozen({server for server, _ in servers.values()} - {asked}):
        return run()


def _best_serve(findings: Findings) -> str | None:
    """The setting that suits `transformers serve` best; None, and a note, where it does not run."""
    try:
        found = tried.rates("transformers serve", SERVE_SETTINGS, _try_serve)
    except (venvs.InstallError, StartError, ConnectionError) as error:
        findings.notes.append(f"transformers serve: {type(error).__name__}: {error}")
        return None
    versions = venvs.installed("transformers-serve", REQUIREMENTS)
    findings.beside.append(("transformers serve, versions", versions))
    findings.beside.append(("transformers serve, tried alone", tried.line(found, "tokens/s")))
    return next(iter(found))


def _try_serve(setting: str) -> float:
    streams = transformers_serve(str(models.checkpoint("generation")))
    server = _start_serve(setting)
    try:
        return streams.tokens_per_s(streams.run(MANY, TRY_S))
    finally:
        server.close()


def _start_serve(setting: str) -> Server:
    arguments, threads = SERVE_SETTINGS[setting]
    folder = str(models.checkpoint("generation"))
    command = venvs.python("transformers-serve", REQUIREMENTS).with_name("transformers")
    home = models.home() / "run"
    home.mkdir(exist_ok=True)
    port = ["--host", "127.0.0.1", "--port", str(PORT), "--log-level", "error"]
    server = Server(
        [str(command), "serve", folder, "--device", "cpu", *port, *arguments],
        home / "transformers-serve.log",
        home,
        {"OMP_NUM_THREADS": str(threads)},
    )
    streams = transformers_serve(folder)
    body = json.dumps(streams.ask("warm up")).encode()
    try:
        server.wait(lambda: answers(streams.url, body))
    except BaseException:
        server.close()
        raise
    return server


def _tell(
    findings: Findings,
    found: dict[tuple[str, int], list[Any]],
    servers: dict[str, tuple[Server, Streams]],
    setting: str,
) -> None:
    rates: dict[tuple[str, int], list[float]] = {
        (name, clients): [servers[name][1].tokens_per_s(run) for run in runs]
        for (name, clients), runs in found.items()
        if name in servers
    }
    solo = found["one at a time", 1]
    for (name, clients), each in rates.items():
        first = median(load.percentile(run.firsts, 50) for run in found[name, clients] if run.firsts)
        numbers = listed(each)
        told = f"{numbers} tokens/s; first token after {1000 * first:.0f} ms (p50)"
        findings.beside.append((f"{name}, {clients} streams", told))
    findings.beside.append(("one at a time", listed(solo) + " tokens/s"))
    for roster in (name for name in ROSTERS if name in servers):
        own = rates[roster, MANY]
        told = f"tokens/s at {MANY} streams: {roster}"
        findings.at_least(f"{told} / one at a time", ratio(own, solo), OVER_SOLO)
        if setting:
            serve = rates["transformers serve", MANY]
            findings.at_least(f"{told} / transformers serve", ratio(own, serve), OVER_SERVE, setting)
            _tell_firsts(findings, found, roster)
        else:
            findings.unknown(f"{told} / transformers serve", f"≥ {OVER_SERVE:g}", "it does not run here")
    base = sum(solo) / len(solo)
    findings.plot = Plot(
        f"{NEW_TOKENS} new tokens each, greedy, a Llama of 8 million parameters",
        "streams",
        "tokens per second, relative to one at a time",
        {name: [(clients, median(rates[name, clients]) / base) for clients in STREAMS] for name in servers},
        {f"goal at {MANY} streams": OVER_SOLO},
    )


def _tell_firsts(findings: Findings, found: dict[tuple[str, int], list[Any]], roster: str) -> None:
    for clients in STREAMS:
        own, theirs = (
            [load.percentile(run.firsts, 50) for run in found[name, clients] if run.firsts]
            for name in (roster, "transformers serve")
        )
        if len(own) == len(theirs) and own:
            name = f"time to first token at {clients} streams: {roster} / transformers serve"
            findings.at_most(name, ratio(own, theirs))


def _agree(
    findings: Findings,
    found: dict[tuple[str, int], list[Any]],
    servers: dict[str, tuple[Server, Streams]],
    expected: Sequence[str],
) -> None:
    """Batched sums differ in the last bit, and now and then a token with them: told, not required."""
    for name, (_, streams) in servers.items():
        told = found[name, MANY][0].answers
        same = sum(streams.said(body) == expected[place] for place, body in told.items() if place < SAMPLE)
        findings.notes.append(f"{name}: {same} of {len(told)} sampled answers equal those of one at a time.")
