"""Capture traced updates on a GPU: the kernels of several updates are started by one call.

The tests run everything here but torch's capture itself on the CPU, too.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx

from off2on.recipe.batch import Batch
from off2on.rllib.traced.draws import Draw, empty_of, lift_draws, make_draws
from off2on.rllib.traced.trace import Trace
from off2on.rllib.traced.watched import Numbers

SLOTS = 10
"""Largest number of updates that wait, and number of updates of a graph.

It is a multiple or a divisor of the usual periods of delayed objectives (2, 4, 20), so that few sequences of
traces occur, and a divisor of the usual numbers of updates per call, so that no update is left over.
"""
MOST_SEQUENCES = 32
"""Largest number of sequences of traces that are captured; updates of other sequences are made one by one."""
WARM_UPS = 3
"""Number of runs before a capture, in which libraries allocate their memory."""

Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Function that records what another function does on the GPU, and returns a function that repeats it."""


class CudaGraphs:
    """Records functions as CUDA graphs.

    The graphs share the memory of their intermediate results: no graph reads what another left there.
    """

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record a function's kernels."""
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as Ray's, may use the GPU during the capture.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            work()
        return graph.replay


class CapturedTrace(Trace):
    """A trace whose updates wait until several are made at once.

    The inputs and outputs of each update that waits have fixed memory, a slot.

    Args:
        trace: The trace.
        graph: Its graph, with the random draws as inputs after the others.
        draws: The draws.
        updates: The updates that wait.
    """

    def __init__(
        self, trace: Trace, graph: fx.Graph, draws: Sequence[Draw], updates: "CapturedUpdates"
    ) -> None:
        super().__init__(
            trace.graph, trace.state, trace.columns, trace.numbers, trace.logged, trace.conditions,
            trace.device,
        )  # fmt: skip
        self.program = fx.GraphModule(trace.graph, graph).forward
        # With this program, the comparisons with the recipe's own code include the separation of the draws.
        self.plain = lambda *inputs: self.program(*inputs, *make_draws(draws))
        self.draws, self.updates = draws, updates
        placeholders = [node.meta["val"] for node in graph.nodes if node.op == "placeholder"]
        columns = placeholders[len(self.state) :][: len(self.columns)]
        self._columns = [[empty_of(like) for like in columns] for _ in range(SLOTS)]
        self._drawn = [[empty_of(draw.like) for draw in draws] for _ in range(SLOTS)]
        self._values = [[0.0] * len(self.numbers) for _ in range(SLOTS)]
        self._numbers = torch.zeros(SLOTS, len(self.numbers), dtype=torch.float64, device=self.device)
        self._inputs = [
            [*columns, *numbers.unbind(), *drawn]
            for columns, numbers, drawn in zip(self._columns, self._numbers, self._drawn, strict=True)
        ]
        self.outputs = torch.zeros(SLOTS, len(self.logged), device=self.device)
        """Losses and metrics of the update in each slot [SLOTS, n]."""

    def repeat(
        self,
        state: Sequence[Tensor],
        batch: Batch,
        numbers: Numbers,
        run: Callable[..., Sequence[Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """Let an update wait; with `run`, make it at once, see `Trace.repeat`.

        Returns:
            The losses and metrics, which have their values after `CapturedUpdates.flush`.
        """
        if run is not None:
            return super().repeat(state, batch, numbers, run)
        return dict(zip(self.logged, self.updates.add(self, state, batch, numbers).unbind(), strict=True))

    def write(self, slot: int, batch: Batch, numbers: Numbers) -> None:
        """Write the inputs of an update into its slot; make its random draws there."""
        columns = vars(batch)
        torch._foreach_copy_(self._columns[slot], [columns[name] for name in self.columns])
        self._values[slot] = [numbers[name] for name in self.numbers]
        for draw, tensor in zip(self.draws, self._drawn[slot], strict=True):
            draw.fill(tensor)

    def send_numbers(self) -> None:
        """Copy the numbers of all slots to the device."""
        self._numbers.copy_(torch.tensor(self._values, dtype=torch.float64), non_blocking=True)

    def copy_slot(self, source: int, target: int) -> None:
        """Copy the inputs of a slot into another one."""
        torch._foreach_copy_(self._inputs[target], self._inputs[source])

    def make(self, slot: int, state: Sequence[Tensor]) -> None:
        """Make the update of a slot."""
        logged = self.program(*state, *self._inputs[slot])
        torch.stack([one.reshape(()).float() for one in logged], out=self.outputs[slot])

    def warm_up(self, slot: int, state: Sequence[Tensor]) -> None:
        """Run the update of a slot on copies: the update itself is made by the first replay."""
        for _ in range(WARM_UPS):
            self.program(*copy.deepcopy([*state, *self._inputs[slot]]))


Waiting = Sequence[tuple[CapturedTrace, Sequence[Tensor]]]
"""Traces of updates that wait, in order, with the tensors of the update; they are in the slots 0, 1, …"""


class CapturedUpdates:
    """Makes updates of traces, `SLOTS` at once where so many follow each other.

    A sequence of traces is captured when it first occurs, and again when the tensors that it changes were
    replaced.

    Args:
        record: Function that records updates; None: as CUDA graphs.
    """

    def __init__(self, record: Record | None = None) -> None:
        self.record = record or CudaGraphs()
        self.captures = 0
        """Number of captures made."""
        self._waiting: list[tuple[CapturedTrace, Sequence[Tensor]]] = []
        self._results: dict[CapturedTrace, Tensor] = {}
        """Results [SLOTS, n] of the updates that wait, which their callers hold."""
        self._captured: dict[tuple[CapturedTrace, ...], tuple[list[int], Callable[[], None]]] = {}
        """Addresses of the tensors of a sequence of traces, and the function that repeats it."""

    def prepare(self, trace: Trace) -> Trace:
        """Return a trace whose updates are captured; the same one if a draw depends on a tensor's value."""
        lifted = lift_draws(trace.graph.graph)
        return trace if lifted is None else CapturedTrace(trace, *lifted, self)

    def add(self, trace: CapturedTrace, state: Sequence[Tensor], batch: Batch, numbers: Numbers) -> Tensor:
        """Let an update wait, and make all updates that wait if these are `SLOTS`.

        Returns:
            The losses and metrics [n], which have their values after `flush`.
        """
        slot = len(self._waiting)
        trace.write(slot, batch, numbers)
        self._waiting.append((trace, state))
        if trace not in self._results:
            self._results[trace] = torch.empty_like(trace.outputs)
        result = self._results[trace][slot]
        if len(self._waiting) == SLOTS:
            self.flush()
        return result

    @torch.no_grad()
    def flush(self) -> None:
        """Make the updates that wait."""
        waiting, self._waiting = self._waiting, []
        results, self._results = self._results, {}
        for trace in results:
            trace.send_numbers()
        if self._is_worth_capturing(waiting):
            self._replay(waiting)
            for trace, result in results.items():
                result.copy_(trace.outputs)
            return
        for slot, (trace, state) in enumerate(waiting):
            if slot > 0:
                trace.copy_slot(slot, 0)
            self._replay([(trace, state)])
            results[trace][slot].copy_(trace.outputs[0])

    def _is_worth_capturing(self, waiting: Waiting) -> bool:
        """Return True if the updates are made at once: rare sequences, such as a rest, are not captured."""
        is_known = tuple(trace for trace, _ in waiting) in self._captured
        return len(waiting) == SLOTS and (is_known or len(self._captured) < MOST_SEQUENCES)

    def _replay(self, waiting: Waiting) -> None:
        sequence = tuple(trace for trace, _ in waiting)
        addresses = [tensor.data_ptr() for state in dict(waiting).values() for tensor in state]
        captured_addresses, replay = self._captured.get(sequence, (None, None))
        if replay is None or captured_addresses != addresses:
            replay = self._capture(waiting)
            self._captured[sequence] = addresses, replay
        replay()

    def _capture(self, waiting: Waiting) -> Callable[[], None]:
        first = {trace: slot for slot, (trace, _) in reversed([*enumerate(waiting)])}

        def warm_up() -> None:
            for trace, slot in first.items():
                trace.warm_up(slot, waiting[slot][1])

        def work() -> None:
            for slot, (trace, state) in enumerate(waiting):
                trace.make(slot, state)

        if waiting[0][0].device.type == "cuda":
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                warm_up()
            torch.cuda.current_stream().wait_stream(stream)
        else:
            warm_up()
        self.captures += 1
        return self.record(work)
