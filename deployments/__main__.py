"""`python -m deployments`: serve models/ in the foreground and report which models become ready.

This is `serve run serve_config.yaml` in high-throughput mode with a progress report. Ctrl-C stops everything.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

import httpx
import yaml

from deployments.app import ROOT
from deployments.cluster.environment import available, environment

POLL_S, CALM_POLL_S = 0.5, 2.0  # while models start, and afterwards
LAST_LINES = 30


def main() -> int:
    """Run until Ctrl-C or until Serve ends; return Serve's exit status."""
    arguments = _arguments()
    # A shell ignores SIGINT in background processes, and child processes inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with _log(arguments.verbose) as log:
        serve = _start(arguments, log)
        url = _url(arguments.config)
        threading.Thread(target=_report, args=(url, serve), daemon=True).start()
        _stop_on_signals(serve)
        status = abs(serve.wait())
        end_haproxy(serve.pid)
        if status and not arguments.verbose:
            print(*Path(log.name).read_text(errors="replace").splitlines()[-LAST_LINES:], sep="\n")
    print("Stopped.", flush=True)
    return status


def _stop_on_signals(serve: "subprocess.Popen[bytes]") -> None:
    """Pass one signal on. A second one would interrupt Serve's own clean-up and leave HAProxy behind."""
    passed: list[int] = []

    def stop(number: int, _: Any) -> None:
        if not passed:
            passed.append(number)
            serve.send_signal(signal.SIGINT)
        print("Stopping ...", flush=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def end_haproxy(session: int) -> None:
    """Stop the HAProxy processes that are left in Serve's session.

    If Serve ends while HAProxy reloads, one process stays behind, on the ports that the next start needs.
    """
    for process in Path("/proc").glob("[0-9]*"):  # only Linux has /proc, and HAProxy runs there only
        with contextlib.suppress(OSError):
            ours = os.getsid(int(process.name)) == session
            if ours and (process / "comm").read_text().strip() == "haproxy":
                os.kill(int(process.name), signal.SIGTERM)


def _start(arguments: argparse.Namespace, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    print(f"Starting Ray Serve with {arguments.config} (about half a minute) ...", flush=True)
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("serve")), "run", arguments.config],
        cwd=ROOT,
        # A new Ray cluster unless the caller names one: the machine's last address may be outdated.
        env={
            "RAY_ADDRESS": "local",
            **os.environ,
            **environment(not arguments.slow),
            "PYTHONPATH": str(ROOT),
        },
        stdout=log,
        stderr=log,
        # A new process group, so that Ctrl-C reaches Serve once, from this process.
        start_new_session=True,
    )


def _log(verbose: bool) -> IO[bytes]:
    return (
        open(1, "wb", closefd=False)
        if verbose
        else tempfile.NamedTemporaryFile(prefix="roster-", suffix=".log")
    )


def _report(url: str, serve: "subprocess.Popen[bytes]") -> None:
    """Print every change of a model's state, and how to use the models once they have started."""
    states: dict[str, str] = {}
    welcomed = False
    with httpx.Client(base_url=url, timeout=5.0, trust_env=False) as client:
        while serve.poll() is None:
            for line in _changes(client, states):
                print(line, flush=True)
            if not welcomed and _is_settled(client):
                welcomed = True
                print(_welcome(url, states), flush=True)
            time.sleep(CALM_POLL_S if welcomed else POLL_S)


def _changes(client: httpx.Client, states: dict[str, str]) -> list[str]:
    try:
        cards: list[dict[str, Any]] = client.get("/models").raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return []
    now = {card["id"]: f"{card['state']:12}{card['reason'][:160]}".rstrip() for card in cards}
    lines = [f"  {id:24} {state}" for id, state in now.items() if states.get(id) != state]
    lines += [f"  {id:24} removed" for id in states.keys() - now.keys()]
    states.clear()
    states.update(now)
    return lines


def _is_settled(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _welcome(url: str, states: dict[str, str]) -> str:
    ready = sorted(id for id, state in states.items() if state.startswith("ready"))
    example = "sentiment" if "sentiment" in ready else next(iter(ready), "MODEL")
    call = f"""curl {url}/models/{example} -d '{{"inputs": "I loved every minute of it."}}'"""
    count = f"{len(ready)} of {len(states)} models ready."
    return f"\n{count}\n  Click:  {url}/\n  Call:   {call}\n  Stop:   Ctrl-C\n"


def _url(config: str) -> str:
    with open(ROOT / config, encoding="utf-8") as file:
        http = yaml.safe_load(file).get("http_options", {})
    return f"http://localhost:{http.get('port', 8000)}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deployments", description=__doc__)
    parser.add_argument(
        "config", nargs="?", default="serve_config.yaml", help="a Serve config of this checkout"
    )
    parser.add_argument("--slow", action="store_true", default=not available(), help="without HAProxy")
    parser.add_argument("--verbose", action="store_true", help="show Ray's own output")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
