"""Calls through Serve's handle: what Ray raises, cancellation, streams. Serve is a stand-in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.errors import Internal, InvalidInput, ModelNotReady, Overloaded
from deployments.routing.serve_handle import ServeHandle
from tests.routing.fake_serve import FakeServe
from tests.waiting import until

REQUEST: ContextVar[str] = ContextVar("request", default="none")


@pytest.fixture
def handle(serve: FakeServe) -> ServeHandle:
    serve.method = lambda name, *arguments: {"infer": infer, "stream": stream}[name](*arguments)
    return ServeHandle("m")


async def infer(value: Any) -> Any:
    await asyncio.sleep(0)
    if isinstance(value, BaseException):
        raise value
    return value


async def stream(*values: Any) -> AsyncIterator[Any]:
    for value in values:
        yield await infer(value)


def raised(cause: Exception) -> Any:
    """Return the error that Ray raises for a method that raises `cause`."""
    return RayTaskError("infer", "a traceback", cause).as_instanceof_cause()


RAYS_ERRORS = [
    (raised(InvalidInput("bad")), InvalidInput, "^bad$"),
    (raised(ValueError("secret")), Internal, "^the replica failed$"),
    (ActorDiedError(), ConnectionError, None),
    (ActorUnavailableError("gone", b"0" * 16), ConnectionError, None),
    (asyncio.CancelledError(), ConnectionError, None),
    (BackPressureError(9, 8), Overloaded, "'m' has all the requests it can hold"),
    (DeploymentUnavailableError(None), DeploymentUnavailableError, None),
]


@pytest.mark.parametrize(("error", "expected", "sentence"), RAYS_ERRORS)
async def test_rays_errors_are_translated(
    handle: ServeHandle, error: BaseException, expected: type[Exception], sentence: str | None
) -> None:
    with pytest.raises(expected, match=sentence) as unary:
        await handle.call("infer", error)
    assert type(unary.value) is expected
    chunks = handle.stream("stream", 1, error)
    assert await anext(chunks) == 1
    with pytest.raises(expected, match=sentence) as streamed:
        await anext(chunks)
    assert type(streamed.value) is expected


async def test_overload_has_the_pause_that_serve_asks_for(handle: ServeHandle) -> None:
    with pytest.raises(Overloaded) as overloaded:
        await handle.call("infer", BackPressureError(9, 8, retry_after_s=7.0))
    assert overloaded.value.retry_after == 7.0
    with pytest.raises(Overloaded) as overloaded:
        await handle.call("infer", BackPressureError(9, 8))
    assert overloaded.value.retry_after == Overloaded.retry_after


async def test_a_stream_yields_all_chunks(handle: ServeHandle, serve: FakeServe) -> None:
    assert [chunk async for chunk in handle.stream("stream", 1, None, 3)] == [1, None, 3]
    assert not serve.cancelled


async def test_a_cancelled_call_and_a_closed_stream_end_the_work(
    handle: ServeHandle, serve: FakeServe
) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    serve.method = lambda name, *_: never() if name == "infer" else stream(1, 2)
    call = asyncio.create_task(handle.call("infer"))
    await asyncio.sleep(0.01)
    call.cancel()
    await until(lambda: serve.cancelled == 1)
    assert call.cancelled()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await handle.call("infer")
    assert serve.cancelled == 2
    async with aclosing(handle.stream("stream")) as chunks:
        assert await anext(chunks) == 1
    assert serve.cancelled == 3


async def test_a_call_is_not_bound_to_the_request_that_started_it(
    handle: ServeHandle, serve: FakeServe
) -> None:
    """Serve cancels the calls of a request whose client disconnects; others may share the call."""
    contexts: list[str] = []

    def method(name: str, *arguments: Any) -> Any:
        contexts.append(REQUEST.get())
        return infer(1) if name == "infer" else stream(1)

    serve.method = method
    REQUEST.set("a request's")
    await handle.call("infer")
    assert [chunk async for chunk in handle.stream("stream")] == [1]
    assert contexts == ["none", "none"]


async def test_a_model_without_an_application_is_loading(handle: ServeHandle, serve: FakeServe) -> None:
    serve.exists = False
    with pytest.raises(ModelNotReady, match="loading"):
        await handle.call("infer", 1)
    serve.exists = True
    assert await handle.call("infer", 1) == 1
