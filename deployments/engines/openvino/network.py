"""Networks compiled by OpenVINO that run sequences of any lengths in one row, without padding.

A sequence's keys and values are in blocks of a pool, and each pass names the blocks: this is OpenVINO's paged
attention, an experimental operation. So the callers compare a compiled network's outputs with torch's.
"""

import sys
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from deployments.engines.equivalence import OutputMismatch
from deployments.engines.openvino.paged_attention import convert_network
from deployments.errors import ModelNotReady

if TYPE_CHECKING:
    import numpy as np
    import torch

TOLERANCE, HALF_TOLERANCE = 1e-4, 5e-2  # relative errors, for float32 and half-precision weights
MAX_MESSAGE_CHARACTERS = 500  # of OpenVINO's error messages
SOURCE_LINES = ("Check ", "Exception from ", "FrontEnd API ")  # they name locations in OpenVINO's sources
MIN_BLOCKS = 32  # of a pool
# OpenVINO caches its preparation of a layer for each number of tokens, by default for 5,000 numbers: after
# passes of 600 different sizes a network with 8 million weights had a cache of 1 GiB.
CACHED_SHAPES = 128

Compiled = TypeVar("Compiled")


class Subsequence(NamedTuple):
    """The part of a sequence in a pass: `size` tokens after `past` earlier ones, in `blocks` of the pool."""

    past: int
    size: int
    blocks: Sequence[int]


class PagedNetwork:
    """A compiled network, for one thread.

    `forward(network, *inputs, cu_seq_lens_q=...)` runs a network on tensors like `examples`, with all tokens
    of a pass in one row [1, tokens], and passes the `PagedAttentionInputs` to its attention; it returns a
    tuple of tensors. With a number of `layers` attention is causal, and each layer has a separate pool of
    keys and values. Without, a pass runs whole sequences with bidirectional attention, and one pool serves
    all layers.

    Raises any error of transformers, torch and OpenVINO if they do not support the network.
    """

    def __init__(
        self,
        model: Any,
        forward: Callable[..., Any],
        examples: "Sequence[torch.Tensor]",
        layers: int | None = None,
    ) -> None:
        import torch

        # OpenVINO also works without this module, which reports every import to its makers.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        core = openvino.Core()
        has_bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precision = "bf16" if model.dtype == torch.bfloat16 and has_bfloat16 else "f32"
        self._causal = layers is not None
        indices = _pass_indices([Subsequence(0, examples[0].shape[1], [0])], self._causal)
        network = convert_network(model, forward, examples, indices, layers)
        options = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": precision,
            "KV_CACHE_PRECISION": precision,
            "ENABLE_CPU_PINNING": False,  # otherwise all replicas would use the first CPU
            "CPU_RUNTIME_CACHE_CAPACITY": CACHED_SHAPES,
        }
        compiled = core.compile_model(network, "CPU", options)
        self._request = compiled.create_infer_request()
        self._outputs = range(len(compiled.outputs))
        self._pools = compiled.inputs[-2 * (layers or 1) :]
        self._first_pool = len(compiled.inputs) - len(self._pools)
        if self._pools[0].partial_shape[2].is_dynamic:
            raise NotImplementedError("its attention cannot be replaced")
        self.block_size: int = self._pools[0].partial_shape[2].get_length()
        self.blocks = MIN_BLOCKS
        self._memory: list[Any] = [None] * len(self._pools)
        self._initial_memory = [self._create_pool(index, MIN_BLOCKS) for index in range(len(self._pools))]
        self.release()

    def reserve(self, blocks: int) -> None:
        """Grow the pools to at least this many blocks, and keep their content."""
        if blocks > self.blocks:
            blocks = max(blocks, 2 * self.blocks)
            for index, memory in enumerate(self._memory):
                larger = self._create_pool(index, blocks)
                larger.data[: self.blocks] = memory.data[: self.blocks]
                self._set_pool(index, larger)
            self.blocks = blocks

    def release(self) -> None:
        """Free the memory of pools that have grown, with their content. Allocates no memory."""
        for index, memory in enumerate(self._initial_memory):
            self._set_pool(index, memory)
        self.blocks = MIN_BLOCKS

    def _create_pool(self, index: int, blocks: int) -> Any:
        from openvino import Tensor

        pool = self._pools[index]
        sizes = [size.get_length() for size in list(pool.partial_shape)[1:]]
        return Tensor(pool.element_type, [blocks, *sizes])

    def _set_pool(self, index: int, memory: Any) -> None:
        if self._memory[index] is not memory:
            self._memory[index] = memory
            self._request.set_input_tensor(self._first_pool + index, memory)

    def __call__(
        self, inputs: "Sequence[np.ndarray[Any, Any]]", subsequences: Sequence[Subsequence]
    ) -> "list[torch.Tensor]":
        """Run the network for these subsequences. Returns copies of its outputs."""
        import torch
        from openvino import Tensor

        arrays = (*inputs, *_pass_indices(subsequences, self._causal))
        tensors = [Tensor(array, shared_memory=True) for array in arrays]
        for index, tensor in enumerate(tensors):
            self._request.set_input_tensor(index, tensor)
        self._request.start_async()  # `infer` does not report errors
        self._request.wait()
        outputs = (self._request.get_output_tensor(index).data for index in self._outputs)
        return [torch.from_numpy(output.copy()) for output in outputs]


def check_compiled(model: Any, create: Callable[[float], Compiled]) -> Compiled:
    """Return the result of `create`, which compiles the model and compares the outputs with torch's.

    `create` takes the relative error to tolerate. Raises `ModelNotReady` if it cannot compile the model, or
    if the outputs differ by more.
    """
    import torch

    if model.device.type != "cpu":
        raise ModelNotReady("OpenVINO runs on CPUs, and this replica has a GPU: set `engine.device: cpu`")
    try:
        with torch.inference_mode():
            return create(TOLERANCE if model.dtype == torch.float32 else HALF_TOLERANCE)
    except OutputMismatch as error:
        raise ModelNotReady(
            "OpenVINO's outputs differ from torch's with this network: leave `engine.name` out"
        ) from error
    except ImportError as error:
        raise ModelNotReady(f"OpenVINO is not installed (`pip install '.[openvino]'`): {error}") from error
    except Exception as error:
        raise ModelNotReady(
            f"OpenVINO does not support this network: {_root_cause(error)}; "
            "leave `engine.name` out to use torch"
        ) from error


def _root_cause(error: BaseException) -> str:
    """Return the message of the first error of a chain, without locations in OpenVINO's sources."""
    while error.__cause__:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines()]
    message = " ".join(line for line in lines if line and not line.startswith(SOURCE_LINES))
    return message[:MAX_MESSAGE_CHARACTERS]


def _pass_indices(subsequences: Sequence[Subsequence], causal: bool) -> "tuple[np.ndarray[Any, Any], ...]":
    """Return the operation's inputs that say where a pass's tokens are; the names are the operation's."""
    import numpy as np

    past_lens = [subsequence.past for subsequence in subsequences]
    subsequence_begins = [0, *accumulate(subsequence.size for subsequence in subsequences)]
    block_indices = [block for subsequence in subsequences for block in subsequence.blocks]
    block_indices_begins = [0, *accumulate(len(subsequence.blocks) for subsequence in subsequences)]
    max_context_len = max(subsequence.past + subsequence.size for subsequence in subsequences)
    # Type 1 makes attention bidirectional, as Gemma 3 needs it for the tokens of an image.
    token_type_ids = [int(not causal)] * subsequence_begins[-1]
    indices = (
        past_lens,
        subsequence_begins,
        block_indices,
        block_indices_begins,
        max_context_len,
        token_type_ids,
    )
    return tuple(np.array(values, np.int32) for values in indices)
