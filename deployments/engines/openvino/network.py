"""Networks compiled by OpenVINO, through which rows of any lengths pass one after another, without padding.

A row's keys and values lie in blocks of a pool, and each pass tells which: OpenVINO's paged attention, an
operation that it calls experimental. So whoever compiles a network holds its answers to torch's.
"""

import sys
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from deployments.engines.equivalence import DifferentAnswers
from deployments.engines.openvino.paged_attention import converted
from deployments.errors import ModelNotReady

if TYPE_CHECKING:
    import numpy as np
    import torch

TOLERANCE, HALF_TOLERANCE = 1e-4, 5e-2  # of the largest number, by the weights' precision
MOST_SAID = 500  # characters of what OpenVINO says
OF_ITSELF = ("Check ", "Exception from ", "FrontEnd API ")  # lines that name places in its sources
LEAST_BLOCKS = 32  # of a pool
# What OpenVINO prepares for a layer and a number of tokens it keeps for the next such pass, by default 5,000
# times: after passes of 600 sizes a network of 8 million weights had 1 GiB of it.
SHAPES = 128

Made = TypeVar("Made")


class Piece(NamedTuple):
    """What a pass reads of one row: `size` tokens after `past` earlier ones, in `blocks` of the pool."""

    past: int
    size: int
    blocks: Sequence[int]


class Paged:
    """A compiled network, for one thread.

    `forward(network, *given, cu_seq_lens_q=pages)` runs a network on tensors like those in `given`, a pass's
    tokens in one row [1, tokens], and lets its attention have the pages; it returns a tuple of tensors.
    With a number of `layers` a token sees those before it, and each layer keeps what it has read in a pool of
    its own. Without, rows are read whole, a token sees all of its row, and one pool serves all layers.

    Raises whatever transformers, torch and OpenVINO raise where they cannot.
    """

    def __init__(
        self,
        model: Any,
        forward: Callable[..., Any],
        given: "Sequence[torch.Tensor]",
        layers: int | None = None,
    ) -> None:
        import torch

        # Without this module OpenVINO works the same, and does not tell its makers of every import.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        core = openvino.Core()
        half = model.dtype == torch.bfloat16 and "BF16" in core.get_property(
            "CPU", "OPTIMIZATION_CAPABILITIES"
        )
        precision = "bf16" if half else "f32"
        self._causal = layers is not None
        places = _places([Piece(0, given[0].shape[1], [0])], self._causal)
        network = converted(model, forward, given, places, layers)
        options = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": precision,
            "KV_CACHE_PRECISION": precision,
            "ENABLE_CPU_PINNING": False,  # or all replicas would take the first processor
            "CPU_RUNTIME_CACHE_CAPACITY": SHAPES,
        }
        compiled = core.compile_model(network, "CPU", options)
        self._request = compiled.create_infer_request()
        self._outputs = range(len(compiled.outputs))
        self._pools = compiled.inputs[-2 * (layers or 1) :]
        self._first_pool = len(compiled.inputs) - len(self._pools)
        if self._pools[0].partial_shape[2].is_dynamic:
            raise NotImplementedError("its attention cannot be replaced")
        self.block_size: int = self._pools[0].partial_shape[2].get_length()
        self.blocks = LEAST_BLOCKS
        self._memory: list[Any] = [None] * len(self._pools)
        self._least = [self._room(place, LEAST_BLOCKS) for place in range(len(self._pools))]
        self.release()

    def reserve(self, blocks: int) -> None:
        """Let the pool hold so many blocks at least, and keep what is in it."""
        if blocks > self.blocks:
            blocks = max(blocks, 2 * self.blocks)
            for place, before in enumerate(self._memory):
                larger = self._room(place, blocks)
                larger.data[: self.blocks] = before.data[: self.blocks]
                self._use(place, larger)
            self.blocks = blocks

    def release(self) -> None:
        """Let go of the memory of a pool that has grown, and of what is in it. Takes no memory itself."""
        for place, least in enumerate(self._least):
            self._use(place, least)
        self.blocks = LEAST_BLOCKS

    def _room(self, place: int, blocks: int) -> Any:
        from openvino import Tensor

        pool = self._pools[place]
        sizes = [size.get_length() for size in list(pool.partial_shape)[1:]]
        return Tensor(pool.element_type, [blocks, *sizes])

    def _use(self, place: int, memory: Any) -> None:
        if self._memory[place] is not memory:
            self._memory[place] = memory
            self._request.set_input_tensor(self._first_pool + place, memory)

    def __call__(
        self, given: "Sequence[np.ndarray[Any, Any]]", pieces: Sequence[Piece]
    ) -> "list[torch.Tensor]":
        """Run the network for these pieces: its outputs, which are the caller's own."""
        import torch
        from openvino import Tensor

        inputs = [Tensor(one, shared_memory=True) for one in (*given, *_places(pieces, self._causal))]
        for place, one in enumerate(inputs):
            self._request.set_input_tensor(place, one)
        self._request.start_async()  # `infer` does not tell of errors
        self._request.wait()
        return [torch.from_numpy(self._request.get_output_tensor(one).data.copy()) for one in self._outputs]


def checked(model: Any, make: Callable[[float], Made]) -> Made:
    """Return what `make` compiles of the model; its answers are torch's but for a part of the largest number.

    `make` takes this tolerance. Raises `ModelNotReady` if it cannot compile the model, or the answers differ.
    """
    import torch

    if model.device.type != "cpu":
        raise ModelNotReady(
            "OpenVINO runs on processors, and this replica has a GPU: set `engine.device: cpu`"
        )
    try:
        with torch.inference_mode():
            return make(TOLERANCE if model.dtype == torch.float32 else HALF_TOLERANCE)
    except DifferentAnswers as different:
        raise ModelNotReady(
            "OpenVINO's answers are not torch's with this network: leave `engine.name` out"
        ) from different
    except ImportError as absent:
        raise ModelNotReady(f"OpenVINO is not installed (`pip install '.[openvino]'`): {absent}") from absent
    except Exception as refused:
        raise ModelNotReady(f"OpenVINO does not run this network; torch may: {_said(refused)}") from refused


def _said(error: BaseException) -> str:
    """Of a chain of errors what is about the network, and not about tracer and converter."""
    while error.__cause__:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(OF_ITSELF))[:MOST_SAID]


def _places(pieces: Sequence[Piece], causal: bool) -> "tuple[np.ndarray[Any, Any], ...]":
    """Where a pass's tokens are: the operation's inputs of these names."""
    import numpy as np

    past_lens = [piece.past for piece in pieces]
    subsequence_begins = [0, *accumulate(piece.size for piece in pieces)]
    block_indices = [block for piece in pieces for block in piece.blocks]
    block_indices_begins = [0, *accumulate(len(piece.blocks) for piece in pieces)]
    max_context_len = max(piece.past + piece.size for piece in pieces)
    # An image's tokens in a text, as Gemma 3 has them, see all of it; so do those of a row read whole.
    token_type_ids = [int(not causal)] * subsequence_begins[-1]
    places = (
        past_lens,
        subsequence_begins,
        block_indices,
        block_indices_begins,
        max_context_len,
        token_type_ids,
    )
    return tuple(np.array(place, np.int32) for place in places)
