"""Command line that serves the UI without a cluster: `python -m ui --router http://127.0.0.1:8000`."""

import argparse

import uvicorn

from ui.app import PATH, build


def main() -> None:
    """Parse the command line and serve the UI until the process ends."""
    parser = argparse.ArgumentParser(prog="python -m ui", description="Serve the UI in its own process.")
    parser.add_argument("--router", default="http://127.0.0.1:8000", help="URL of the gateway")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on")
    options = parser.parse_args()
    print(f"The UI is at http://{options.host}:{options.port}{PATH}/")
    uvicorn.run(build(options.router), host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
