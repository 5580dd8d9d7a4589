"""Write an exported policy in ONNX, for programs without Python and torch."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from datasets_io import storage
from off2on.errors import UserError
from off2on.policy_files.program import load_program

INPUT, OUTPUT, ROWS = "obs", "actions", "rows"


def write_onnx(policy: Path, target: Path, properties: Mapping[str, str]) -> None:
    """Write a policy as a model that maps ``obs`` [rows, D] to ``actions`` [rows, A] or [rows].

    Observations are raw, actions in the environment's units; both are float32, choices are int64. The actions
    are the policy's deterministic ones, and differ from its own by rounding.

    Args:
        policy: A file policy.pt.
        target: File to write.
        properties: Texts to store in the model's metadata.

    Raises:
        UserError: A package is missing, the file is no policy, or it has an operator that ONNX lacks.
    """
    try:
        import onnx  # noqa: F401 - asked for before the policy is read
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error.name} is not installed.", "", "pip install 'off2on[onnx]'") from None
    module = load_program(policy)
    graph: torch.fx.Graph = module.graph  # type: ignore[assignment]
    (obs,) = (node.meta["val"] for node in graph.nodes if node.op == "placeholder")
    if obs.dim() > 2:
        raise UserError(
            f"{policy} decides by a history of {obs.shape[1]} steps; an ONNX file is for one observation.",
            "Load it in Python: off2on.policy.load_policy, with off2on.recipe.acting_memory.History.",
        )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names every library that is not installed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module,
                (torch.zeros(2, obs.shape[1]),),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim(ROWS)},),
            )
        except torch.onnx.errors.OnnxExporterError as error:
            first = str(error).strip().partition("\n")[0]
            raise UserError(f"{policy} cannot be written in ONNX: {first}") from None
    if program is None:
        raise UserError(f"{policy} cannot be written in ONNX.")
    model = program.model_proto
    for name, text in properties.items():
        model.metadata_props.add(key=name, value=text)
    with storage.open_output(target) as file:
        file.write(model.SerializeToString())
