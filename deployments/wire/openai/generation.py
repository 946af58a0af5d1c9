"""Text generation for OpenAI's routes: sampling settings, and several choices for one request.

OpenAI samples with temperature 1 by default. Here the checkpoint's generation config decides about every
setting that the request leaves out: it may sample or decode greedily. `temperature: 0` always decodes
greedily; `n` over 1 always samples, unless the request sets `temperature: 0`.
"""

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from deployments.errors import InvalidInput, TooLarge
from deployments.schema import MAX_ITEMS, Schema
from deployments.task import Task
from deployments.wire.openai.concurrency import gather_or_cancel, merge_streams
from deployments.wire.openai.requests import (
    Capability,
    OpenAIObject,
    OpenAIRequest,
    Unsupported,
    raise_first_error,
    validate_inputs,
)
from deployments.wire.openai.settings import REPORTS_TOKENS, Stop, length_setting, setting

if TYPE_CHECKING:
    from deployments.routing.router import Router

NUM_SEEDS = 2**63  # a task's seeds are 0 to 2**63 - 1; a client's are signed 64-bit integers
MAX_STREAMS = 64  # each stream keeps a request to a replica open
DONE = b"[DONE]"
SHARED_SETTINGS = ("temperature", "top_p", "repetition_penalty", "frequency_penalty", "presence_penalty")
"""Settings that have the same name in OpenAI's API and in the tasks."""

FinishReason = Literal["stop", "length"]


class SamplingRequest(OpenAIRequest):
    """Sampling settings. The checkpoint's generation config decides about those that are absent."""

    temperature: float | None = setting("temperature", "0 decodes greedily.")
    top_p: float | None = setting("top_p")
    top_k: int | None = Field(
        None,
        description="Sample from the k likeliest tokens; 0 or -1 for all.",
        json_schema_extra={"minimum": -1},
    )
    repetition_penalty: float | None = setting("repetition_penalty")
    frequency_penalty: float | None = setting("frequency_penalty")
    presence_penalty: float | None = setting("presence_penalty")
    seed: int | None = Field(
        None, ge=-NUM_SEEDS, le=NUM_SEEDS - 1, description="Makes sampling repeatable; may be negative."
    )
    stop: Stop | None = Field(None, description="Texts that end the generation; the output excludes them.")
    stream: bool | None = None
    logit_bias: Unsupported = None

    @property
    def num_choices(self) -> int:
        """The number of choices per input."""
        return 1

    def settings(self) -> dict[str, tuple[str, Any]]:
        """Map each parameter of the task to the client's name for it and its value."""
        return {
            **{name: (name, getattr(self, name)) for name in SHARED_SETTINGS},
            "seed": ("seed", None if self.seed is None else self.seed % NUM_SEEDS),
            "do_sample": ("n", True if self.num_choices > 1 else None),
            "top_k": ("top_k", None if self.top_k in (0, -1) else self.top_k),
            "stop": ("stop", [self.stop] if isinstance(self.stop, str) else self.stop),
            "details": ("details", True),
        }


class StreamOptions(OpenAIObject):
    """Options of a stream."""

    include_usage: bool | None = Field(None, description="Add a last chunk with the usage and no choices.")


class ChoicesRequest(SamplingRequest):
    """What requests for chat completions and for completions share."""

    max_tokens: int | None = length_setting()
    n: int | None = Field(
        None, ge=1, le=16, description="Number of choices; with a seed, choice i uses seed + i."
    )
    stream_options: StreamOptions | None = None

    @property
    def num_choices(self) -> int:
        return self.n or 1

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionUsage(BaseModel):
    """Numbers of tokens, by the model's tokenizer; a prompt counts once for all its choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TextGenerationCapability(Capability):
    """The capability to generate text, and to report its tokens."""

    def field(self, task: Task) -> str | None:
        return super().field(task) if REPORTS_TOKENS in task.params.model_fields else None


@dataclass(frozen=True)
class ChoiceGenerator:
    """Generates the choices of a request: for each input, one choice with each of `params`.

    Indices count the choices of the first input, then those of the second, and so on. `param` is the client's
    name for the inputs.
    """

    router: "Router"
    model_id: str
    inputs: list[Schema]
    params: list[Schema]
    param: str

    async def generate(self) -> list[Any]:
        """Return the outputs of all choices by index. Raises the first error."""
        calls = (self.router.infer(self.model_id, self.inputs, params) for params in self.params)
        results_by_params = await gather_or_cancel(calls)
        for results in results_by_params:
            raise_first_error(results, self.param)
        return [output for outputs in zip(*results_by_params, strict=True) for output in outputs]

    def stream(self) -> AsyncGenerator[tuple[int, Any], None]:
        """Yield the index of a choice and its next chunk, as chunks arrive."""
        return merge_streams(
            [
                self.router.stream(self.model_id, input_, params)
                for input_ in self.inputs
                for params in self.params
            ]
        )

    def usage(self, details: Sequence[Any]) -> CompletionUsage:
        """Add up the tokens of all choices; `details` has each choice's, by index."""
        prompt = sum(choice.input_length for choice in details[:: len(self.params)])
        completion = sum(choice.generated_tokens for choice in details)
        return CompletionUsage(
            prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
        )


async def choice_generator(
    router: "Router",
    model_id: str,
    capability: Capability,
    values: list[Any],
    body: SamplingRequest,
    param: str,
) -> ChoiceGenerator:
    """Validate `values`, the client's field `param`, and the settings in `body`; generate nothing yet.

    Raises `TaskMismatch`, `InvalidInput`, `TooLarge`.
    """
    task = router.task(model_id)
    field = capability.require(task, model_id)
    if body.stream and task.chunk is None:
        raise InvalidInput(f"`stream`: the task {task.name} cannot stream; leave it out", field="stream")
    _check_num_choices(len(values) * body.num_choices, MAX_STREAMS if body.stream else MAX_ITEMS)
    settings = body.settings()
    params = {name: value for name, (_, value) in settings.items() if value is not None}
    names = {field: param} | {name: client_name for name, (client_name, _) in settings.items()}
    inputs, task_params = await validate_inputs(
        router, task, [{field: value} for value in values], params, names
    )
    return ChoiceGenerator(
        router, model_id, inputs, _with_seeds(task_params, body.seed, body.num_choices), param
    )


def _check_num_choices(count: int, limit: int) -> None:
    if count > limit:
        raise TooLarge(
            f"the request needs {count:,} choices, inputs times `n`; at most {limit:,} are accepted"
        )


def _with_seeds(params: Schema, seed: int | None, count: int) -> list[Schema]:
    """Return the parameters of each choice: with seed, seed + 1, and so on, if there is a seed."""
    if seed is None:
        return [params] * count
    return [params.model_copy(update={"seed": (seed + index) % NUM_SEEDS}) for index in range(count)]


def finish_reason(details: Any) -> FinishReason:
    """Return OpenAI's finish reason for a task's."""
    return "length" if details.finish_reason == "length" else "stop"


def text_of(token: Any) -> str:
    """Return the text that a token adds to the output; a special token adds none."""
    return "" if token.special else token.text


def response_header(router: "Router", model_id: str, id_prefix: str) -> dict[str, Any]:
    """Return the fields that all chunks of a response share; the fingerprint is the weights' revision."""
    return {
        "id": f"{id_prefix}-{uuid.uuid4().hex}",
        "created": int(time.time()),
        "model": model_id,
        "system_fingerprint": router.card(model_id).revision,
    }
