"""Pictures by URL: fetched by the Router, only from hosts that the operator allowed, and never redirected."""

from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import httpx

from deployments.errors import Forbidden, InvalidInput, TooLarge
from deployments.media import MAX_BYTES
from deployments.schema import Schema, words

FETCH_S = 10.0


class Fetcher:
    """Replaces the URLs in an input's picture fields by what lies there. `hosts` holds exact host names."""

    def __init__(self, hosts: list[str]) -> None:
        self.hosts = frozenset(hosts)
        # No redirects: an allowed host could otherwise send us to one that is not.
        self._client = httpx.AsyncClient(timeout=FETCH_S, follow_redirects=False) if hosts else None

    async def fill(self, schema: type[Schema], input: Any) -> Any:
        """`input`, URLs in picture fields fetched. Raises `Forbidden`, `InvalidInput`, `TooLarge`."""
        if not isinstance(input, dict):
            return input
        urls = {name: input[name] for name in _pictures(schema) if _is_url(input.get(name))}
        return {**input, **{name: await self._fetch(url) for name, url in urls.items()}} if urls else input

    async def _fetch(self, url: str) -> bytes:
        host = urlsplit(url).hostname or ""
        if self._client is None or host not in self.hosts:
            raise Forbidden(f"pictures are not fetched from {host!r}; send the picture itself")
        try:
            async with self._client.stream("GET", url) as response:
                if response.status_code != httpx.codes.OK:
                    raise InvalidInput(f"{host!r} answered {response.status_code} for the picture")
                return await _bounded(response)
        except httpx.HTTPError as failed:
            raise InvalidInput(f"the picture could not be fetched from {host!r}") from failed


async def _bounded(response: httpx.Response) -> bytes:
    picture = bytearray()
    async for piece in response.aiter_bytes():
        picture += piece
        if len(picture) > MAX_BYTES:
            raise TooLarge(f"the picture is over {MAX_BYTES:,} bytes")
    return bytes(picture)


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


@lru_cache
def _pictures(schema: type[Schema]) -> tuple[str, ...]:
    return tuple(name for name, word in words(schema).items() if word == "image")
