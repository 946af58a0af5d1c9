"""One request to a model in Text Embeddings Inference's way: texts in, answers and what they took out."""

import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.responses import Response

from deployments.errors import InferenceError, InvalidInput, TaskMismatch
from deployments.results import InferenceResults, Usage
from deployments.schema import TextToken, field_types
from deployments.wire import ranking
from deployments.wire.http import json_response
from deployments.wire.model_info import ModelType, model_type_of
from deployments.wire.tei import types as wire
from deployments.wire.tei.errors import Untokenizable

if TYPE_CHECKING:
    from deployments.routing.router import Router

DIALECT = "tei"
SIGNS = 8  # tokens that a tokenizer may put around a text; of the text itself, each has a byte or more
T = TypeVar("T")


class Call:
    """One request to a model, which is of the `wanted` kind: raises `TaskMismatch` if not."""

    def __init__(self, router: "Router", model_id: str, wanted: ModelType | None = None) -> None:
        self.router, self.model_id, self.task = router, model_id, router.task(model_id)
        self.began = time.perf_counter()
        if wanted and model_type_of(self.task) != wanted:
            raise TaskMismatch(f"the model {model_id!r} performs {self.task.name}: it is no {wanted} model")

    async def texts(self, inputs: Any) -> list[str]:
        """The texts of `inputs`, those given as token ids decoded."""
        alone = isinstance(inputs, str) or isinstance(inputs[0], int)
        given = [inputs] if alone else inputs
        ids = [row for row in given if isinstance(row, list)]
        texts = iter(await self.decode(ids) if ids else ())
        return [row if isinstance(row, str) else next(texts) for row in given]

    async def infer(self, asked: wire.Cut, texts: list[str], **params: Any) -> InferenceResults:
        """The answer to each text, to which the `asked` parameters apply that the task knows. Raises the
        first error of any."""
        await self._refuse_longer(asked, texts)
        (name,) = field_types(self.task.input)
        params |= self._params(asked)
        items = [{name: text} for text in texts]
        inputs, chosen = await self.router.validator.validate(self.task, DIALECT, items, params)
        answers = await self.router.infer(self.model_id, inputs, chosen)
        for answer in answers:
            if isinstance(answer, InferenceError):
                raise answer
        return answers

    async def scores(self, asked: wire.Cut, query: str, texts: list[str]) -> tuple[list[float], Usage]:
        """How well each text answers the query."""
        for name in self._params(asked):
            raise InvalidInput(f"`{name}` is not understood by a model of {self.task.name}", field=name)
        await self._refuse_longer(asked, [query, *texts])
        return await ranking.score_texts(self.router, DIALECT, self.model_id, query, texts)

    async def tokenize(self, texts: list[str], special: bool = True) -> list[list[TextToken]]:
        """Each text's tokens. Raises `Untokenizable`."""
        return await _tokenized(self.router.tokenize(self.model_id, texts, special))

    async def decode(self, ids: list[list[int]], skip_special: bool = True) -> list[str]:
        """The text of each list of token ids. Raises `Untokenizable`."""
        return await _tokenized(self.router.decode(self.model_id, ids, skip_special))

    def _params(self, asked: wire.Cut) -> dict[str, Any]:
        """The parameters for the task: those that it has, and those that ask for what it has not."""
        params = asked.model_dump(include=wire.PARAMS)
        default = type(asked).model_fields
        has = self.task.params.model_fields
        return {
            name: told
            for name, told in params.items()
            if name in has or (name != "truncate" and told != default[name].default)
        }

    async def _refuse_longer(self, asked: wire.Cut, texts: list[str]) -> None:
        """Raise `InvalidInput` if a text is over the model's limit, where the task itself would cut it."""
        described = self.router.card(self.model_id).description
        limit = described.max_length if described else None
        if limit is None or asked.truncate or "truncate" in self.task.params.model_fields:
            return
        suspects = [text for text in texts if len(text.encode()) + SIGNS > limit]
        if not suspects:
            return
        longest = max(await _tokenized(self.router.count_tokens(self.model_id, suspects)))
        if longest > limit:
            raise InvalidInput(
                f"a text has {longest} tokens; without `truncate`, at most {limit} are accepted"
            )

    def tell(self, answer: Any, texts: list[str], usage: Usage) -> Response:
        """The answer, and in its headers what it took: milliseconds, characters and tokens."""
        total = round(1000 * (time.perf_counter() - self.began))
        described = self.router.card(self.model_id).description
        response = json_response(answer)
        response.headers.update(
            {
                "x-compute-type": described.device if described else "unknown",
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


async def _tokenized(work: Awaitable[T]) -> T:
    try:
        return await work
    except InvalidInput as error:
        raise Untokenizable(str(error)) from None
