"""`python -m deployments`: serve models/ from this checkout in the foreground, and tell what becomes ready.

This is `serve run serve_config.yaml` in the fast lane with a progress report. Ctrl-C ends all of it.
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

POLL_S, CALM_POLL_S = 0.5, 2.0  # between two looks: while models start, and afterwards
LAST_LINES = 30


def main() -> int:
    """Run until Ctrl-C or until Serve ends; returns Serve's exit status."""
    arguments = _arguments()
    # A shell that starts us in the background has SIGINT ignored, and a child inherits what is ignored.
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
    """Pass one signal on. A second one would break off Serve's own clean-up and leave HAProxy behind."""
    passed: list[int] = []

    def stop(number: int, _: Any) -> None:
        if not passed:
            passed.append(number)
            serve.send_signal(signal.SIGINT)
        print("Stopping ...", flush=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def end_haproxy(session: int) -> None:
    """End what is left of HAProxy in the session that Serve began.

    Where Serve ends while HAProxy is being reloaded, one stays behind, on ports that the next start wants.
    """
    for process in Path("/proc").glob("[0-9]*"):  # nothing elsewhere than on Linux, as HAProxy
        with contextlib.suppress(OSError):
            ours = os.getsid(int(process.name)) == session
            if ours and (process / "comm").read_text().strip() == "haproxy":
                os.kill(int(process.name), signal.SIGTERM)


def _start(arguments: argparse.Namespace, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    print(f"Starting Ray Serve with {arguments.config} (about half a minute) ...", flush=True)
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("serve")), "run", arguments.config],
        cwd=ROOT,
        # A Ray of its own, unless told which: one that has gone may still be noted as the machine's.
        env={
            "RAY_ADDRESS": "local",
            **os.environ,
            **environment(not arguments.slow),
            "PYTHONPATH": str(ROOT),
        },
        stdout=log,
        stderr=log,
        # A process group of its own, so that Ctrl-C reaches Serve once, from us.
        start_new_session=True,
    )


def _log(verbose: bool) -> IO[bytes]:
    return (
        open(1, "wb", closefd=False)
        if verbose
        else tempfile.NamedTemporaryFile(prefix="roster-", suffix=".log")
    )


def _report(url: str, serve: "subprocess.Popen[bytes]") -> None:
    """Print every change of a model's state; once all are settled, what to click and what to curl."""
    told: dict[str, str] = {}
    welcomed = False
    with httpx.Client(base_url=url, timeout=5.0, trust_env=False) as client:
        while serve.poll() is None:
            for line in _changes(client, told):
                print(line, flush=True)
            if not welcomed and _is_settled(client):
                welcomed = True
                print(_welcome(url, told), flush=True)
            time.sleep(CALM_POLL_S if welcomed else POLL_S)


def _changes(client: httpx.Client, told: dict[str, str]) -> list[str]:
    try:
        cards: list[dict[str, Any]] = client.get("/models").raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return []
    now = {card["id"]: f"{card['state']:12}{card['reason'][:160]}".rstrip() for card in cards}
    lines = [f"  {id:24} {state}" for id, state in now.items() if told.get(id) != state]
    lines += [f"  {id:24} removed" for id in told.keys() - now.keys()]
    told.clear()
    told.update(now)
    return lines


def _is_settled(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _welcome(url: str, told: dict[str, str]) -> str:
    ready = sorted(id for id, state in told.items() if state.startswith("ready"))
    example = "sentiment" if "sentiment" in ready else next(iter(ready), "MODEL")
    call = f"""curl {url}/models/{example} -d '{{"inputs": "I loved every minute of it."}}'"""
    count = f"{len(ready)} of {len(told)} models ready."
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
