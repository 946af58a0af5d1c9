"""Pictures by URL: fetched by the Router, only from hosts that the operator allowed, and never redirected."""

import asyncio
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import httpx

from deployments.errors import Forbidden, InvalidInput, TooLarge
from deployments.media import MAX_BYTES
from deployments.schema import Schema, words

FETCH_S = 10.0
MAX_URLS = 16


class Fetcher:
    """Replaces the URLs in inputs' picture fields by what lies there. `hosts` holds exact host names."""

    def __init__(self, hosts: list[str]) -> None:
        self.hosts = frozenset(hosts)
        # No redirects: an allowed host could otherwise send us to one that is not.
        self._client = httpx.AsyncClient(timeout=FETCH_S, follow_redirects=False) if hosts else None

    async def fill(self, schema: type[Schema], inputs: list[Any]) -> list[Any]:
        """`inputs`, URLs in picture fields fetched. Raises `Forbidden`, `InvalidInput`, `TooLarge`."""
        places = [
            (place, name)
            for place, input in enumerate(inputs)
            if isinstance(input, dict)
            for name in _pictures(schema)
            if _is_url(input.get(name))
        ]
        if not places:
            return inputs
        if len(places) > MAX_URLS:
            raise TooLarge(
                f"{len(places)} pictures are given by URL; at most {MAX_URLS} are fetched at a time"
            )
        filled = [dict(input) if isinstance(input, dict) else input for input in inputs]
        pictures = await self._fetch_all([inputs[place][name] for place, name in places])
        for (place, name), picture in zip(places, pictures, strict=True):
            filled[place][name] = picture
        return filled

    async def _fetch_all(self, urls: list[str]) -> list[bytes]:
        hosts = [self._allowed(url) for url in urls]
        try:
            async with asyncio.timeout(FETCH_S):
                return await asyncio.gather(*map(self._fetch, urls))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as failed:
            raise InvalidInput(f"the picture could not be fetched from {hosts[0]!r}") from failed

    def _allowed(self, url: str) -> str:
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            raise InvalidInput("the picture's URL is not one") from None
        if host not in self.hosts:
            raise Forbidden(f"pictures are not fetched from {host!r}; send the picture itself")
        return host

    async def _fetch(self, url: str) -> bytes:
        assert self._client is not None, "no host is allowed without a client"
        async with self._client.stream("GET", url) as response:
            if response.status_code != httpx.codes.OK:
                raise InvalidInput(f"{response.url.host!r} answered {response.status_code} for the picture")
            return await _bounded(response)


async def _bounded(response: httpx.Response) -> bytes:
    picture = bytearray()
    async for piece in response.aiter_bytes():
        picture += piece
        if len(picture) > MAX_BYTES:
            raise TooLarge(f"the picture is over {MAX_BYTES:,} bytes")
    return bytes(picture)


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.lower().startswith(("http://", "https://"))


@lru_cache
def _pictures(schema: type[Schema]) -> tuple[str, ...]:
    return tuple(name for name, word in words(schema).items() if word == "image")
