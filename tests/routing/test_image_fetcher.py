"""Pictures by URL: from which hosts they are fetched, how often, and what becomes of those that are not."""

import asyncio

import httpx
import pytest

from deployments.errors import Forbidden, InvalidInput, TooLarge
from deployments.media import EXAMPLE_IMAGE
from deployments.routing.image_fetcher import MAX_URLS, ImageFetcher
from deployments.task import TASKS
from tests.fake_router import mock_image_fetcher

PICTURES = TASKS["image-classification"].input
URL = {"image": "https://allowed.example/a.png"}
URLS = [{"image": f"https://allowed.example/{place}.png"} for place in range(MAX_URLS)]


@pytest.mark.parametrize("hosts", [[], ["other.example"]])
async def test_images_are_fetched_only_from_allowed_hosts(hosts: list[str]) -> None:
    (error,) = await ImageFetcher(hosts).resolve_image_urls(PICTURES, [URL])
    assert isinstance(error, Forbidden)
    assert "'allowed.example'" in str(error)


async def test_values_that_are_not_urls_are_not_fetched() -> None:
    inputs = [{"image": EXAMPLE_IMAGE}, 3]
    assert await ImageFetcher([]).resolve_image_urls(PICTURES, inputs) == inputs
    (error,) = await ImageFetcher([]).resolve_image_urls(PICTURES, [{"image": "http://["}])
    assert isinstance(error, InvalidInput)


@pytest.mark.parametrize(
    "response", [httpx.Response(302, headers={"location": "http://127.0.0.1"}), httpx.Response(404)]
)
async def test_redirects_and_error_responses_are_refused(response: httpx.Response) -> None:
    fetcher, _ = mock_image_fetcher(lambda _: response)
    (error,) = await fetcher.resolve_image_urls(PICTURES, [URL])
    assert isinstance(error, InvalidInput)


async def test_allowed_image_is_fetched_once() -> None:
    fetcher, paths = mock_image_fetcher(lambda _: httpx.Response(200, content=b"png"))
    assert await fetcher.resolve_image_urls(PICTURES, [URL, URL]) == [{"image": b"png"}] * 2
    assert paths == ["/a.png"]


async def test_failed_image_fetch_fails_its_input_alone() -> None:
    def answer(path: str) -> httpx.Response:
        if path == "/2.png":
            raise httpx.ConnectError("refused")
        return httpx.Response(404) if path == "/1.png" else httpx.Response(200, content=path.encode())

    fetcher, paths = mock_image_fetcher(answer)
    results = await fetcher.resolve_image_urls(
        PICTURES, [*URLS[:4], {"image": "https://other.example/"}, "odd"]
    )
    assert [results[0], results[3], results[5]] == [{"image": b"/0.png"}, {"image": b"/3.png"}, "odd"]
    assert [type(results[index]) for index in (1, 2, 4)] == [InvalidInput, InvalidInput, Forbidden]
    assert sorted(paths) == ["/0.png", "/1.png", "/2.png", "/3.png"]


async def test_too_many_urls_are_refused_before_fetching() -> None:
    fetcher, paths = mock_image_fetcher(lambda _: httpx.Response(200))
    with pytest.raises(TooLarge, match="17 images"):
        await fetcher.resolve_image_urls(PICTURES, [*URLS, URL])
    assert not paths


async def test_unexpected_error_cancels_the_other_fetches() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/1.png":
            await begun.wait()
            raise RuntimeError("odd")
        begun.set()
        try:
            return await asyncio.Event().wait()
        finally:
            ended.set()

    fetcher = ImageFetcher(["allowed.example"], httpx.AsyncClient(transport=httpx.MockTransport(answer)))
    with pytest.raises(ExceptionGroup) as failed:
        await fetcher.resolve_image_urls(PICTURES, URLS[:2])
    assert [str(error) for error in failed.value.exceptions] == ["odd"]
    assert ended.is_set()
