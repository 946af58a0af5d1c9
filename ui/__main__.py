"""The page alone: `python -m ui --router http://127.0.0.1:8000`."""

import argparse

import uvicorn

from ui.app import PATH, build


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ui", description="Serve the page alone.")
    parser.add_argument("--router", default="http://127.0.0.1:8000", help="where the router answers")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at")
    parser.add_argument("--port", type=int, default=7860)
    given = parser.parse_args()
    print(f"The page is at http://{given.host}:{given.port}{PATH}/")
    uvicorn.run(build(given.router), host=given.host, port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
