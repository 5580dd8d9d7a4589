"""Compile a traced update: one program, in which operations on the same numbers are made together.

Results differ from those of the trace by rounding of float32, and tanh by at most 2e-7.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from off2on.rllib.traced.draws import lift_draws, make_draws
from off2on.rllib.traced.trace import Program, Trace

aten = torch.ops.aten

OPTIONS: dict[str, Any] = {"cpp.use_decompose_tanh": True}
"""Options of the compiler: tanh, which GELU has, by one exponential, in half of the time on a CPU."""


def compile_trace(trace: Trace) -> Program | None:
    """Return a compiled function with the inputs and outputs of the trace's graph.

    It is compiled when it is first called. None if the trace's random draws depend on values of tensors.
    """
    lifted = lift_draws(trace.graph.graph)
    if lifted is None:
        return None
    graph, draws = lifted
    _read_parameters_from_vectors(graph, trace.state)
    _write_out_adam(graph)
    program = torch.compile(
        fx.GraphModule(trace.graph, graph), fullgraph=True, dynamic=False, options=OPTIONS
    )

    def run(*inputs: Tensor) -> Sequence[Tensor]:
        return program(*inputs, *make_draws(draws))  # type: ignore[no-any-return]

    return run


def _read_parameters_from_vectors(graph: fx.Graph, state: Sequence[str]) -> None:
    """Read parameters as parts of their network's vector, so that the compiler sees its changes."""
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    vectors: dict[str, fx.Node] = {}
    starts: dict[str, int] = {}
    for name, node in zip(state, inputs, strict=False):
        kind, _, rest = name.partition("/")
        if kind == "vector":
            vectors[rest] = node
        elif kind == "parameter":
            owner, _, _ = rest.rpartition("/")
            start, shape = starts.get(owner, 0), node.meta["val"].shape
            starts[owner] = start + shape.numel()
            for user in list(node.users):
                with graph.inserting_before(user):
                    part = graph.call_function(aten.slice.Tensor, (vectors[owner], 0, start, starts[owner]))
                    view = graph.call_function(aten.view.default, (part, list(shape)))
                user.replace_input_with(node, view)


def _write_out_adam(graph: fx.Graph) -> None:
    """Replace torch's Adam kernels, which the compiler does not know, by their operations."""
    decoupled = {aten._fused_adam_.tensor_lr: False, aten._fused_adamw_.tensor_lr: True}
    for node in [node for node in graph.nodes if node.target in decoupled]:
        vectors, gradients, means, squares, _, steps = node.args
        options = dict(node.kwargs)
        with graph.inserting_before(node):
            graph.call_function(
                adam_,
                (vectors[0], gradients[0], means[0], squares[0], steps[0], options["lr"], options["beta1"],
                 options["beta2"], options["weight_decay"], options["eps"], decoupled[node.target]),
            )  # fmt: skip
        graph.erase_node(node)


def adam_(
    vector: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    count: Tensor,
    lr: Tensor,
    beta1: float,
    beta2: float,
    weight_decay: float,
    eps: float,
    decoupled: bool,
) -> None:
    """Make a step of Adam in place (Kingma & Ba, 2015), or of AdamW if `decoupled`.

    Args:
        vector: Parameters [P].
        gradient: Their gradient [P].
        mean: Running mean [P] of the gradient.
        square: Running mean [P] of its square.
        count: Number of this step [], from 1.
        lr: Learning rate [].
        beta1: Decay of `mean`.
        beta2: Decay of `square`.
        weight_decay: Weight of the parameters' squared norm, or share of them to subtract if `decoupled`.
        eps: Number added to the square root.
        decoupled: True for AdamW.
    """
    # The corrections are small differences of numbers near 1: in float64, and then once rounded.
    corrected1, corrected2 = 1 - beta1 ** count.double(), (1 - beta2 ** count.double()).sqrt()
    rate, least = (lr * corrected2 / corrected1).float(), (eps * corrected2).float()
    if weight_decay and decoupled:
        vector.mul_((1 - lr * weight_decay).float())
    elif weight_decay:
        gradient = gradient + weight_decay * vector
    mean.copy_(beta1 * mean + (1 - beta1) * gradient)
    square.copy_(beta2 * square + (1 - beta2) * gradient * gradient)
    vector.sub_(rate * mean / (square.sqrt() + least))
