"""``off2on eval``: what a run's policy earns in its environment."""

from contextlib import suppress
from typing import Any

import click

from off2on.commands.output import print_json
from off2on.errors import SimulatorError, UnknownName


@click.command("eval")
@click.argument("run")
@click.option("--episodes", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--checkpoint", type=click.Choice(["handover", "last"]), default="last", show_default=True)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the first episode; each has its own."
)
@click.option("--env", metavar="ID", help="Another environment than the run's.")
@click.option("--json", "json_", is_flag=True)
def evaluate(run: str, episodes: int, checkpoint: str, seed: int, env: str | None, json_: bool) -> None:
    """Play episodes with a run's deterministic policy.

    RUN is a folder, or a name with only one match below ./runs. One line per episode goes to stdout,
    so that `off2on eval RUN | cut -f2` are the returns.
    """
    import numpy as np

    from datasets_io import open_shards
    from datasets_io.environments import options_for
    from off2on.runs.record import find_run

    folder, about = find_run(run)
    env = env or about.get("env")
    if env is None:
        raise SimulatorError(
            f"{folder} has no simulator to play in.", "Name one.", "--env my_lab.sim:Forklift-v0"
        )
    # Only now: a mistyped run should be told at once.
    from off2on.policy import load_policy
    from off2on.runs.folder import policy_file
    from off2on.training import evaluate as play

    policy = play.numpy_policy(load_policy(policy_file(folder, checkpoint)))
    options = options_for(env, about.get("env"), about.get("env_options") or {})
    if env != about.get("env"):
        with suppress(UnknownName):  # what it learned from may be elsewhere
            shards = open_shards(about["data"]["pinned"])
            play.check_simulator(env, shards.observation_space, shards.action_space, shards.name, options)
    played = play.evaluate(policy, env, episodes=episodes, seed=seed, options=options)
    returns = np.array([episode.ret for episode in played])
    # Of another environment the references say nothing.
    reference = about["data"].get("reference") if env == about.get("env") else None
    normalised = None
    if reference is not None:
        low, high = reference
        normalised = float(100 * (returns.mean() - low) / (high - low))
    summary: dict[str, Any] = {
        "run": str(folder),
        "checkpoint": checkpoint,
        "env": env,
        "mean": float(returns.mean()),
        "std": float(returns.std()),
        "normalised": normalised,
    }
    if json_:
        print_json(summary | {"episodes": [vars(episode) for episode in played]})
        return
    click.echo("episode\treturn\tlength\tseed")
    for number, episode in enumerate(played):
        click.echo(f"{number}\t{episode.ret:.6g}\t{episode.length}\t{episode.seed}")
    scored = "" if normalised is None else f" · {normalised:.1f} normalised"
    click.echo(f"{summary['mean']:.1f} ± {summary['std']:.1f} over {len(played)} episodes{scored}", err=True)
