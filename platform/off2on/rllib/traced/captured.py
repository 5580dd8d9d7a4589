"""Capture a traced update on a GPU: all its kernels are then started by one call.

Not yet run on a GPU; the tests run everything here but torch's capture itself, on the CPU.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx

from off2on.rllib.traced.draws import lift_draws, make_draws
from off2on.rllib.traced.trace import Program, Trace

WARM_UPS = 3
"""Number of runs before the capture, in which libraries allocate their memory."""

Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Function that records what another function does on the GPU, and returns a function that repeats it."""


def record_cuda_graph(work: Callable[[], None]) -> Callable[[], None]:
    """Record a function's kernels as a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    # Other threads, such as Ray's, may use the GPU during the capture.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


class CapturedUpdate:
    """A traced update that reads its batch, numbers and draws from fixed memory.

    It is captured when it is first called, and again when the tensors that it changes were replaced.

    Args:
        program: Function of all inputs of the trace and of the draws.
        draws: Functions that make the draws.
        states: Number of inputs that are tensors of the update; the other inputs are copied.
        outputs: Number of outputs, which are scalars.
        record: Function that records the update.
    """

    def __init__(
        self,
        program: Program,
        draws: Sequence[Callable[[], Tensor]],
        states: int,
        outputs: int,
        record: Record = record_cuda_graph,
    ) -> None:
        self.program, self.draws, self.states, self.record = program, draws, states, record
        self.outputs = outputs
        self.captures = 0
        """Number of captures made."""
        self._addresses: list[int] = []
        self._held: list[Tensor] = []

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Make an update with inputs in the order of the trace; return its losses and metrics."""
        state, given = inputs[: self.states], [*inputs[self.states :], *make_draws(self.draws)]
        if not self._held:
            self._held = [
                torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device) for x in given
            ]
        for held, one in zip(self._held, given, strict=True):
            held.copy_(one)
        addresses = [tensor.data_ptr() for tensor in state]
        if addresses != self._addresses:
            self._capture(state)
            self._addresses = addresses
        self._replay()
        return list(self._outputs.clone().unbind())

    def _capture(self, state: Sequence[Tensor]) -> None:
        if state[0].is_cuda:
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._warm_up(state)
            torch.cuda.current_stream().wait_stream(stream)
        else:
            self._warm_up(state)
        self._outputs = torch.empty(self.outputs, device=state[0].device)

        def work() -> None:
            logged = self.program(*state, *self._held)
            torch.stack([one.reshape(()).float() for one in logged], out=self._outputs)

        self._replay = self.record(work)
        self.captures += 1

    def _warm_up(self, state: Sequence[Tensor]) -> None:
        """Run the update on copies: the update itself is made by the first replay."""
        for _ in range(WARM_UPS):
            self.program(*copy.deepcopy(list(state)), *self._held)


def capture_trace(trace: Trace, record: Record = record_cuda_graph) -> CapturedUpdate | None:
    """Return a trace as a captured update; None if a draw depends on the value of a tensor."""
    lifted = lift_draws(trace.graph.graph)
    if lifted is None:
        return None
    graph, draws = lifted
    program = fx.GraphModule(trace.graph, graph).forward
    return CapturedUpdate(program, draws, len(trace.state), len(trace.logged), record)
