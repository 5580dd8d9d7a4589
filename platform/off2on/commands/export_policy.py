"""``off2on export``: write a run's policy in ONNX."""

from pathlib import Path

import click

from off2on.commands.options import checkpoint_option
from off2on.commands.output import format_size, print_line
from off2on.errors import UserError


@click.command("export")
@click.argument("run")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@checkpoint_option
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
def export_policy(run: str, file: Path | None, checkpoint: str, overwrite: bool) -> None:
    """Write the policy of a run in ONNX.

    FILE is by default policy.onnx beside the run's policy.pt. The model maps raw observations `obs` [rows, D]
    to the deterministic `actions` in the environment's units. RUN is a folder, or a name with only one match
    in ./runs. Needs off2on[onnx].
    """
    from off2on.policy_files.onnx_file import write_onnx
    from off2on.runs.folder import policy_file
    from off2on.runs.record import find_run

    folder, metadata = find_run(run)
    policy = policy_file(folder, checkpoint)
    target = file or policy.with_suffix(".onnx")
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists.", "", "--overwrite")
    described = {
        "algorithm": metadata.algorithm,
        "data": metadata.data.name,
        "environment": metadata.env or "",
        "obs": "raw observations, as the environment gives them",
        "actions": "actions in the environment's units",
    }
    write_onnx(policy, target, described)
    print_line("writing", f"{target}   {format_size(target.stat().st_size)}")
