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

from deployments.app import ROOT
from deployments.cluster.environment import available, environment
from deployments.config.errors import ConfigError
from deployments.config.strict_yaml import load

STARTUP_POLL_S, STEADY_POLL_S = 0.5, 2.0
LOG_TAIL_LINES = 30


def main() -> int:
    """Run until Ctrl-C or until Serve ends; return Serve's exit status."""
    arguments = _parse_arguments()
    try:
        url = gateway_url(ROOT / arguments.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    # A shell ignores SIGINT in background processes, and child processes inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with _open_log(arguments.verbose) as log:
        serve = _start_serve(arguments, log)
        threading.Thread(target=_print_progress, args=(url, serve), daemon=True).start()
        _stop_on_signals(serve)
        status = abs(serve.wait())
        end_haproxy(serve.pid)
        if status and not arguments.verbose:
            print(*Path(log.name).read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:], sep="\n")
    print("Stopped.", flush=True)
    return status


def _stop_on_signals(serve: "subprocess.Popen[bytes]") -> None:
    """Forward one signal only. A second would interrupt Serve's own clean-up and leave HAProxy behind."""
    forwarded: list[int] = []

    def stop(number: int, _: Any) -> None:
        if not forwarded:
            forwarded.append(number)
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
            in_session = os.getsid(int(process.name)) == session
            if in_session and (process / "comm").read_text().strip() == "haproxy":
                os.kill(int(process.name), signal.SIGTERM)


def _start_serve(arguments: argparse.Namespace, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    print(f"Starting Ray Serve with {arguments.config} (about half a minute) ...", flush=True)
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("serve")), "run", arguments.config],
        cwd=ROOT,
        # Start a new Ray cluster unless RAY_ADDRESS names one: the machine's last address may be outdated.
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


def _open_log(verbose: bool) -> IO[bytes]:
    return (
        open(1, "wb", closefd=False)
        if verbose
        else tempfile.NamedTemporaryFile(prefix="roster-", suffix=".log")
    )


def _print_progress(url: str, serve: "subprocess.Popen[bytes]") -> None:
    """Print each change of a model's state, and how to use the models once they have started."""
    states: dict[str, str] = {}
    started = False
    with httpx.Client(base_url=url, timeout=5.0, trust_env=False) as client:
        while serve.poll() is None:
            for line in _update_states(client, states):
                print(line, flush=True)
            if not started and _startup_complete(client):
                started = True
                print(_usage(url, states), flush=True)
            time.sleep(STEADY_POLL_S if started else STARTUP_POLL_S)


def _update_states(client: httpx.Client, states: dict[str, str]) -> list[str]:
    """Update `states` from the gateway; return a line for each model whose state changed."""
    try:
        cards: list[dict[str, Any]] = client.get("/models").raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return []
    current = {card["id"]: f"{card['state']:12}{card['reason'][:160]}".rstrip() for card in cards}
    lines = [f"  {id:24} {state}" for id, state in current.items() if states.get(id) != state]
    lines += [f"  {id:24} removed" for id in states.keys() - current.keys()]
    states.clear()
    states.update(current)
    return lines


def _startup_complete(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _usage(url: str, states: dict[str, str]) -> str:
    ready = sorted(id for id, state in states.items() if state.startswith("ready"))
    example = "sentiment" if "sentiment" in ready else next(iter(ready), "MODEL")
    call = f"""curl {url}/models/{example} -d '{{"inputs": "I loved every minute of it."}}'"""
    count = f"{len(ready)} of {len(states)} models ready."
    return f"\n{count}\n  Click:  {url}/\n  Call:   {call}\n  Stop:   Ctrl-C\n"


def gateway_url(path: Path) -> str:
    """Return the address of the gateway that a Serve config describes. Raises `ConfigError`."""
    try:
        config = load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as unreadable:
        raise ConfigError(f"{path.name}: cannot be read: {unreadable}") from None
    except ConfigError as broken:
        raise ConfigError(f"{path.name}: {broken}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path.name}: must be a mapping")
    http = config.get("http_options")
    return f"http://localhost:{http.get('port', 8000) if isinstance(http, dict) else 8000}"


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deployments", description=__doc__)
    parser.add_argument(
        "config",
        nargs="?",
        default="serve_config.yaml",
        help="the path of a Serve config, from this checkout's root",
    )
    parser.add_argument("--slow", action="store_true", default=not available(), help="do not use HAProxy")
    parser.add_argument("--verbose", action="store_true", help="show Ray's own output")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
