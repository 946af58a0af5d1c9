"""One call to a model in Text Embeddings Inference's form: texts in, outputs and time measurements out."""

import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.responses import Response

from deployments.errors import ContextLengthExceeded, InferenceError, InvalidInput, TaskMismatch
from deployments.results import InferenceResults, Usage
from deployments.schema import TextToken, field_types
from deployments.wire import ranking
from deployments.wire.http import json_response
from deployments.wire.model_info import ModelType, model_type_of
from deployments.wire.tei import types as wire
from deployments.wire.tei.errors import Untokenizable

if TYPE_CHECKING:
    from deployments.routing.router import Router

NAME = "tei"
# A text has at most one token per byte, plus the special tokens that a tokenizer may put around it.
MAX_SPECIAL_TOKENS = 8
T = TypeVar("T")


class TeiCall:
    """One call to a model. Raises `TaskMismatch` if the model is not of the `expected` type."""

    def __init__(self, router: "Router", model_id: str, expected: ModelType | None = None) -> None:
        self.router, self.model_id, self.task = router, model_id, router.task(model_id)
        self.started_at = time.perf_counter()
        if expected and model_type_of(self.task) != expected:
            raise TaskMismatch(f"the model {model_id!r} performs {self.task.name}; it is no {expected} model")

    async def decode_inputs(self, inputs: Any) -> list[str]:
        """Return the texts of `inputs`; items that are token ids are decoded."""
        single = isinstance(inputs, str) or isinstance(inputs[0], int)
        items = [inputs] if single else inputs
        ids = [item for item in items if isinstance(item, list)]
        texts = iter(await self.decode(ids) if ids else ())
        return [item if isinstance(item, str) else next(texts) for item in items]

    async def infer(self, body: wire.TruncationParams, texts: list[str], **params: Any) -> InferenceResults:
        """Return an output per text; `params` and the task's parameters in `body` apply to all of them.

        Raises the first error of any text.
        """
        await self._check_token_limit(body, texts)
        (name,) = field_types(self.task.input)
        items = [{name: text} for text in texts]
        params |= self._task_params(body)
        inputs, validated = await self.router.validator.validate(self.task, NAME, items, params)
        outputs = await self.router.infer(self.model_id, inputs, validated)
        for output in outputs:
            if isinstance(output, InferenceError):
                raise output
        return outputs

    async def scores(
        self, body: wire.TruncationParams, query: str, texts: list[str]
    ) -> tuple[list[float], Usage]:
        """Return the similarity of each text to the query."""
        for name in self._task_params(body):
            raise InvalidInput(f"`{name}` is not a parameter of {self.task.name}", field=name)
        await self._check_token_limit(body, [query, *texts])
        return await ranking.score_texts(self.router, NAME, self.model_id, query, texts)

    async def tokenize(self, texts: list[str], special: bool = True) -> list[list[TextToken]]:
        """Return each text's tokens. Raises `Untokenizable`."""
        return await _with_tokenizer_errors(self.router.tokenize(self.model_id, texts, special))

    async def decode(self, ids: list[list[int]], skip_special: bool = True) -> list[str]:
        """Return the text of each list of token ids. Raises `Untokenizable`."""
        return await _with_tokenizer_errors(self.router.decode(self.model_id, ids, skip_special))

    def _task_params(self, body: wire.TruncationParams) -> dict[str, Any]:
        """Return the parameters in `body` that the task has, and others that differ from their defaults.

        Validation refuses the others. `truncate` is never among them: `_check_token_limit` replaces it.
        """
        fields, known = type(body).model_fields, self.task.params.model_fields
        return {
            name: value
            for name, value in body.model_dump(include=wire.TASK_PARAMS & fields.keys()).items()
            if name in known or (name != "truncate" and value != fields[name].default)
        }

    async def _check_token_limit(self, body: wire.TruncationParams, texts: list[str]) -> None:
        """Raise `ContextLengthExceeded` for a text that the task itself would truncate."""
        description = self.router.card(self.model_id).description
        limit = description.max_length if description else None
        if limit is None or body.truncate or "truncate" in self.task.params.model_fields:
            return
        suspects = [text for text in texts if len(text.encode()) + MAX_SPECIAL_TOKENS > limit]
        if not suspects:
            return
        longest = max(await _with_tokenizer_errors(self.router.count_tokens(self.model_id, suspects)))
        if longest > limit:
            raise ContextLengthExceeded(
                f"a text has {longest} tokens; the model accepts at most {limit}, unless `truncate` is true"
            )

    def response(self, value: Any, texts: list[str], usage: Usage) -> Response:
        """Return `value` as JSON, with times in ms and numbers of characters and tokens as headers."""
        total = round(1000 * (time.perf_counter() - self.started_at))
        description = self.router.card(self.model_id).description
        response = json_response(value)
        response.headers.update(
            {
                "x-compute-type": description.device if description else "unknown",
                "x-compute-time": str(total),
                "x-compute-characters": str(sum(map(len, texts))),
                "x-compute-tokens": str(sum(usage.costs)),
                "x-total-time": str(total),
                "x-tokenization-time": str(round(1000 * usage.encoded_s)),
                "x-queue-time": str(round(1000 * (usage.queued_s - usage.encoded_s))),
                "x-inference-time": str(round(1000 * usage.inference_s)),
            }
        )
        return response


async def _with_tokenizer_errors(work: Awaitable[T]) -> T:
    try:
        return await work
    except InvalidInput as error:
        raise Untokenizable(str(error)) from None
