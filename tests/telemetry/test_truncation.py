"""What a request loses by truncation is reported to its client, and to no other."""

import asyncio

from deployments.results import InferenceResults, Usage
from deployments.routing.coalescing import WaitingRequest, split_results
from deployments.schema import Schema
from deployments.telemetry.truncation import HEADER, observe_truncation, record_truncation


def test_no_header_without_truncation() -> None:
    with observe_truncation() as truncation:
        record_truncation(Usage([5, 6], [0, 0]))
    assert truncation.header == {}


async def test_calls_of_a_request_add_up_also_from_its_tasks() -> None:
    async def call() -> None:
        record_truncation(Usage([64, 9], [36, 0]))

    with observe_truncation() as truncation:
        await asyncio.gather(call(), call())
    assert truncation.header == {HEADER: "146/218"}


async def test_requests_at_the_same_time_are_separate() -> None:
    async def request(cut: int) -> dict[str, str]:
        with observe_truncation() as truncation:
            await asyncio.sleep(0)
            record_truncation(Usage([10], [cut]))
            await asyncio.sleep(0)
        return truncation.header

    assert await asyncio.gather(request(0), request(5), request(90)) == [
        {},
        {HEADER: "10/15"},
        {HEADER: "10/100"},
    ]


def test_usage_outside_of_a_request_is_ignored() -> None:
    record_truncation(Usage([1], [1]))


async def test_a_shared_call_gives_each_request_its_own_part() -> None:
    loop = asyncio.get_running_loop()
    sizes = (1, 2)
    batch = [WaitingRequest([Schema()] * size, Schema(), loop.create_future()) for size in sizes]
    split_results(InferenceResults("abc", Usage([1, 2, 3], [0, 7, 8])), batch)
    assert [request.results.result().usage.truncated for request in batch] == [[0], [7, 8]]
