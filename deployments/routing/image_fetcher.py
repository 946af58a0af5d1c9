"""Pictures by URL: fetched by the Router, only from hosts that the operator allowed, and never redirected."""

import asyncio
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import httpx

from deployments.errors import Forbidden, InferenceError, InvalidInput, TooLarge
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
        """`inputs`, URLs in picture fields fetched, each once. Raises `TooLarge` for too many of them.

        `Forbidden`, `InvalidInput` and `TooLarge` of a picture stand in its input's place.
        """
        urls = [_urls(schema, input) for input in inputs]
        count = sum(map(len, urls))
        if not count:
            return inputs
        if count > MAX_URLS:
            raise TooLarge(f"{count} pictures are given by URL; at most {MAX_URLS} are fetched at a time")
        pictures = await self._fetch_all({url for named in urls for url in named.values()})
        return [_filled(input, named, pictures) for input, named in zip(inputs, urls, strict=True)]

    async def _fetch_all(self, urls: set[str]) -> dict[str, bytes | InferenceError]:
        async with asyncio.TaskGroup() as group:
            tasks = {url: group.create_task(self._outcome(url)) for url in urls}
        return {url: task.result() for url, task in tasks.items()}

    async def _outcome(self, url: str) -> bytes | InferenceError:
        try:
            host = self._allowed(url)
            async with asyncio.timeout(FETCH_S):
                return await self._fetch(url)
        except InferenceError as refused:
            return refused
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            return InvalidInput(f"the picture could not be fetched from {host!r}")

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


def _urls(schema: type[Schema], input: Any) -> dict[str, str]:
    """The URLs in an input's picture fields."""
    if not isinstance(input, dict):
        return {}
    return {name: input[name] for name in _pictures(schema) if _is_url(input.get(name))}


def _filled(input: Any, urls: dict[str, str], pictures: dict[str, bytes | InferenceError]) -> Any:
    """The input with its pictures, or why one of them is missing."""
    fetched = {name: pictures[url] for name, url in urls.items()}
    failed = (picture for picture in fetched.values() if isinstance(picture, InferenceError))
    return next(failed, {**input, **fetched}) if fetched else input


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.lower().startswith(("http://", "https://"))


@lru_cache
def _pictures(schema: type[Schema]) -> tuple[str, ...]:
    return tuple(name for name, word in words(schema).items() if word == "image")
