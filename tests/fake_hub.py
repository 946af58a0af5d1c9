"""A Hub on loopback that serves one checkpoint, a port that refuses, and a server that never answers."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.http_server import serve_http

NAME = "owner/model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHUNK = 16 * 1024


class FakeHub:
    """Serves the files of a folder as the checkpoint `NAME`; `delay_s` is the pause after each chunk."""

    def __init__(self, folder: Path, delay_s: float = 0.0, has_list: bool = True) -> None:
        self.folder, self.delay_s, self.has_list = folder, delay_s, has_list
        self.downloaded: list[str] = []
        self.requests = 0

    def app(self) -> Starlette:
        model = "/api/models/owner/model"
        return Starlette(
            routes=[
                Route(model, self.info),
                Route(f"{model}/revision/{{revision}}", self.info),
                Route("/owner/model/resolve/{revision}/{path:path}", self.file, methods=["GET", "HEAD"]),
            ]
        )

    async def info(self, _: Request) -> Response:
        """Return the list of files with their sizes."""
        self.requests += 1
        if not self.has_list:
            return Response(status_code=404)
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        siblings = [
            {"rfilename": str(file.relative_to(self.folder)), "size": file.stat().st_size} for file in files
        ]
        return JSONResponse({"id": NAME, "modelId": NAME, "sha": COMMIT, "siblings": siblings})

    async def file(self, request: Request) -> Response:
        """Return a file, or its headers."""
        self.requests += 1
        path = self.folder / request.path_params["path"]
        if not path.is_file():
            return Response(
                status_code=404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
            )
        content = path.read_bytes()
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Content-Length": str(len(content)),
        }
        if request.method == "HEAD":
            return Response(headers=headers)
        self.downloaded.append(request.path_params["path"])
        return StreamingResponse(self._chunks(content), headers=headers)

    async def _chunks(self, content: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(content), CHUNK):
            yield content[start : start + CHUNK]
            await asyncio.sleep(self.delay_s)


@contextmanager
def serve_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[None]:
    """Serve a Hub, and make its client use it, with an own cache."""
    with serve_http(hub.app()) as url:
        use_endpoint(url, monkeypatch, cache)
        yield


def use_endpoint(url: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Make the Hub's client use this URL and this cache, and the network."""
    constants: dict[str, Any] = {
        "ENDPOINT": url,
        "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
        "DOWNLOAD_CHUNK_SIZE": CHUNK,
    }
    for name, value in constants.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # it keeps the URL


def refused_url() -> str:
    """Return the URL of a port on which no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def silent_url() -> Iterator[str]:
    """Yield the URL of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
