"""Images by URL: the Router fetches them, only from hosts that the operator allowed, without redirects."""

import asyncio
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import httpx

from deployments.errors import Forbidden, InferenceError, InvalidInput, TooLarge
from deployments.media import MAX_BYTES
from deployments.schema import Schema, field_types

FETCH_S = 10.0
MAX_URLS = 16


class ImageFetcher:
    """Replaces the URLs in inputs' image fields by the images. `hosts` holds exact host names."""

    def __init__(self, hosts: list[str], client: httpx.AsyncClient | None = None) -> None:
        self.hosts = frozenset(hosts)
        # No redirects: an allowed host could otherwise send us to one that is not.
        default = httpx.AsyncClient(timeout=FETCH_S, follow_redirects=False) if hosts and not client else None
        self._client = client or default

    async def resolve_image_urls(self, schema: type[Schema], inputs: list[Any]) -> list[Any]:
        """Return `inputs` with the URLs in image fields fetched, each once. Raises `TooLarge` for too many.

        `Forbidden`, `InvalidInput` and `TooLarge` of an image stand in its input's place.
        """
        urls = [_urls(schema, input) for input in inputs]
        count = sum(map(len, urls))
        if not count:
            return inputs
        if count > MAX_URLS:
            raise TooLarge(f"{count} images are given by URL; at most {MAX_URLS} are fetched at a time")
        images = await self._fetch_all({url for named in urls for url in named.values()})
        return [_with_images(input, named, images) for input, named in zip(inputs, urls, strict=True)]

    async def _fetch_all(self, urls: set[str]) -> dict[str, bytes | InferenceError]:
        async with asyncio.TaskGroup() as group:
            tasks = {url: group.create_task(self._image_or_error(url)) for url in urls}
        return {url: task.result() for url, task in tasks.items()}

    async def _image_or_error(self, url: str) -> bytes | InferenceError:
        try:
            host = self._allowed_host(url)
            async with asyncio.timeout(FETCH_S):
                return await self._fetch(url)
        except InferenceError as refused:
            return refused
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            return InvalidInput(f"the image could not be fetched from {host!r}")

    def _allowed_host(self, url: str) -> str:
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            raise InvalidInput("the image's URL is invalid") from None
        if host not in self.hosts:
            raise Forbidden(f"images are not fetched from {host!r}; send the image itself")
        return host

    async def _fetch(self, url: str) -> bytes:
        assert self._client is not None, "no host is allowed without a client"
        async with self._client.stream("GET", url) as response:
            if response.status_code != httpx.codes.OK:
                raise InvalidInput(f"{response.url.host!r} answered {response.status_code} for the image")
            return await _read_bounded(response)


async def _read_bounded(response: httpx.Response) -> bytes:
    image = bytearray()
    async for data in response.aiter_bytes():
        image += data
        if len(image) > MAX_BYTES:
            raise TooLarge(f"the image is over {MAX_BYTES:,} bytes")
    return bytes(image)


def _urls(schema: type[Schema], input: Any) -> dict[str, str]:
    """Return the URLs in an input's image fields."""
    if not isinstance(input, dict):
        return {}
    return {name: input[name] for name in _image_fields(schema) if _is_url(input.get(name))}


def _with_images(input: Any, urls: dict[str, str], images: dict[str, bytes | InferenceError]) -> Any:
    """Return the input with its images, or the error of one of them."""
    fetched = {name: images[url] for name, url in urls.items()}
    failed = (image for image in fetched.values() if isinstance(image, InferenceError))
    return next(failed, {**input, **fetched}) if fetched else input


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.lower().startswith(("http://", "https://"))


@lru_cache
def _image_fields(schema: type[Schema]) -> tuple[str, ...]:
    return tuple(name for name, word in field_types(schema).items() if word == "image")
