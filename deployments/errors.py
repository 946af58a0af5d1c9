"""The errors of inference. Each dialect decides how to write them.

InferenceError        kind          raised when
├─ InvalidInput       invalid       the request has a field that the task cannot read
│  ├─ TaskMismatch    invalid       the model performs another task
│  └─ ContextLengthExceeded         a text has more tokens than the network reads
├─ Unauthorized       unauthorized  the client has not authenticated
├─ Forbidden          forbidden     the operator does not allow the action
├─ ModelNotFound      not_found     no model has this name
├─ TooLarge           too_large     a body, an image, a text or a list exceeds its limit
├─ Overloaded         overloaded    every queue is full; has `retry_after` seconds
├─ ModelNotReady      unavailable   the model has no running replica; has `retry_after` seconds
├─ TimedOut           timeout       the client's deadline or the gateway's time-out has passed
└─ Internal           internal      anything else; the log has the cause, the client never sees it

Any code may raise one, with a message of one sentence and, if one field of the request is wrong, its `field`.
The dialect converts the `kind` to its own status when it writes the response.
"""

import sys
from typing import Any

# Allocators raise plain RuntimeErrors: only the message shows that memory is the reason.
OUT_OF_MEMORY_MESSAGES = (
    "out of memory",  # the CUDA runtime: cudaErrorMemoryAllocation, if torch itself did not allocate
    "_STATUS_ALLOC_FAILED",  # the status codes of cuBLAS, cuDNN, cuSOLVER and similar libraries
    "can't allocate memory",  # torch's c10/core/impl/alloc_cpu.cpp on Linux
    "not enough memory",  # the same on Windows and macOS
    "bad_alloc",  # C++'s standard library, through torch's and OpenVINO's bindings
)


class InferenceError(Exception):
    """An error that a client may see: one sentence and a kind.

    `field` is the path of the wrong field of the request, as the message writes it ("messages[0].role").
    `retry_after` is in seconds.
    """

    kind = "internal"
    field: str | None = None
    retry_after: float | None = None

    def __init__(self, message: str, *, field: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.field = field
        if retry_after is not None:
            self.retry_after = retry_after

    def restated(self, message: str, *, field: str | None = None) -> "InferenceError":
        """Return a copy of this error with another message, and with `field` if it is not None."""
        return type(self)(message, field=field or self.field, retry_after=self.retry_after)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.field, self.retry_after)


def _rebuild(
    error: type[InferenceError], message: str, field: str | None, retry_after: float | None
) -> InferenceError:
    return error(message, field=field, retry_after=retry_after)


class InvalidInput(InferenceError):
    kind = "invalid"


class TaskMismatch(InvalidInput):
    pass


class ContextLengthExceeded(InvalidInput):
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


def count_failures(result: Any, failures: int) -> int:
    """Return the number of consecutive unexpected failures after `result`; there were `failures` before it.

    An `InferenceError` and a cancelled call leave the count unchanged: they are no evidence about the model.
    """
    if not isinstance(result, BaseException):
        return 0
    return failures + (isinstance(result, Exception) and not isinstance(result, InferenceError))


def out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, by the error's type or an allocator's message."""
    torch = sys.modules.get("torch")  # no import: if torch is not loaded, it did not raise the error
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        message in str(error) for message in OUT_OF_MEMORY_MESSAGES
    )
