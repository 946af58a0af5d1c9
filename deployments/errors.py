"""What can go wrong, named once; each dialect decides how to say it.

InferenceError        kind          raised when
├─ InvalidInput       invalid       the caller sent something the task cannot read
│  └─ TaskMismatch    invalid       the model is live but performs another task
├─ Unauthorized       unauthorized  the caller has not said who they are
├─ Forbidden          forbidden     the operator does not allow it
├─ ModelNotFound      not_found     no model has that name
├─ TooLarge           too_large     a body, a picture, a text or a list is over its limit
├─ Overloaded         overloaded    every queue is full; carries `retry_after` seconds
├─ ModelNotReady      unavailable   the model is known, but nothing can answer for it; carries `retry_after`
├─ TimedOut           timeout       the caller's patience, or ours, has ended
└─ Internal           internal      anything else; its cause is logged, never quoted

Raised anywhere with one sentence and, where one field of the request is wrong, with that `field`; a dialect
turns the `kind` into its own status, once, at the door.
"""

import sys
from typing import Any

# What plain RuntimeErrors of allocators say, which have neither a type nor a code of their own.
NO_MEMORY = (
    "out of memory",  # the CUDA runtime: cudaErrorMemoryAllocation, where torch did not allocate itself
    "_STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN, cuSOLVER and their kin, by the names of their status codes
    "can't allocate memory",  # torch's c10/core/impl/alloc_cpu.cpp on Linux
    "not enough memory",  # the same on Windows and macOS
    "bad_alloc",  # the standard library of C++, by way of torch's and OpenVINO's bindings
)


class InferenceError(Exception):
    """A failure that can be told to the caller: one sentence and a kind.

    `field` is the path of the request's field that is wrong, as the sentence writes it ("messages[0].role").
    """

    kind = "internal"
    field: str | None = None
    retry_after: float | None = None

    def __init__(self, sentence: str, *, field: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.field = field
        if retry_after is not None:
            self.retry_after = retry_after

    def restated(self, sentence: str, *, field: str | None = None) -> "InferenceError":
        """Return this error with another sentence, and another `field` if one is given."""
        return type(self)(sentence, field=field or self.field, retry_after=self.retry_after)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.field, self.retry_after)


def _rebuild(
    error: type[InferenceError], sentence: str, field: str | None, retry_after: float | None
) -> InferenceError:
    return error(sentence, field=field, retry_after=retry_after)


class InvalidInput(InferenceError):
    kind = "invalid"


class TaskMismatch(InvalidInput):
    pass


class Unauthorized(InferenceError):
    kind = "unauthorized"


class Forbidden(InferenceError):
    kind = "forbidden"


class ModelNotFound(InferenceError):
    kind = "not_found"


class TooLarge(InferenceError):
    kind = "too_large"


class Overloaded(InferenceError):
    kind = "overloaded"
    retry_after = 1.0


class ModelNotReady(InferenceError):
    kind = "unavailable"
    retry_after = 2.0


class TimedOut(InferenceError):
    kind = "timeout"


class Internal(InferenceError):
    pass


def count_failures(answer: Any, failures: int) -> int:
    """How many answers in a row have failed unforeseen: with this one, after so many `failures`.

    An `InferenceError` and a call that was given up tell nothing of the model.
    """
    if not isinstance(answer, BaseException):
        return 0
    return failures + (isinstance(answer, Exception) and not isinstance(answer, InferenceError))


def out_of_memory(error: BaseException) -> bool:
    """Return whether a pass has failed for its size: by the error's type, or an allocator's message."""
    torch = sys.modules.get("torch")  # not imported here: where it is not loaded, it has not failed
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in NO_MEMORY)
