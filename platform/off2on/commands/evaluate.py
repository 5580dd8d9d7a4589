"""``off2on eval``: evaluate a run's policy in its environment."""

from contextlib import suppress
from typing import Any

import click

from off2on.commands.options import checkpoint_option
from off2on.commands.output import print_json
from off2on.errors import SimulatorError, UnknownName


@click.command("eval")
@click.argument("run")
@click.option(
    "--episodes", type=click.IntRange(min=1), default=20, show_default=True, help="Number of episodes."
)
@checkpoint_option
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of the first episode; each further episode adds 1.",
)
@click.option("--env", metavar="ID", help="Environment.  [default: the run's]")
@click.option(
    "--target-return",
    type=float,
    help="Return that a Decision Transformer is asked for.  [default: the run's]",
)
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def evaluate(
    run: str,
    episodes: int,
    checkpoint: str,
    seed: int,
    env: str | None,
    target_return: float | None,
    json_: bool,
) -> None:
    """Evaluate a run's deterministic policy in its environment.

    RUN is a folder, or a name with only one match in ./runs. Prints one line per episode on stdout, so that
    `off2on eval RUN | cut -f2` prints the returns.
    """
    import numpy as np

    from datasets_io.environments import options_for
    from off2on.runs.record import find_run

    folder, metadata = find_run(run)
    own_env = env is None or env == metadata.env
    env = env or metadata.known_env()
    if env is None:
        raise SimulatorError(
            f"{folder} has no simulator.", "Expected one with --env.", "--env my_lab.sim:Forklift-v0"
        )
    # Imported late, so that a mistyped run is reported at once.
    from off2on.policy import load_policy
    from off2on.runs.folder import policy_file
    from off2on.training import evaluate as evaluation

    policy = evaluation.numpy_policy(load_policy(policy_file(folder, checkpoint), target_return))
    options = options_for(env, metadata.env, metadata.env_options or {})
    evaluation.check_policy(policy, env, options)
    if not own_env:
        with suppress(UnknownName):  # the training data may be on another machine
            shards = metadata.training_data()
            evaluation.check_simulator(
                env, shards.observation_space, shards.action_space, shards.name, options, named=True
            )
    results = evaluation.evaluate(policy, env, episodes=episodes, seed=seed, options=options)
    returns = np.array([episode.ret for episode in results])
    # The reference scores hold for the run's environment only.
    reference = metadata.data.reference if own_env else None
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
        "success": evaluation.success_rate(results),
    }
    if json_:
        print_json(summary | {"episodes": [vars(episode) for episode in results]})
        return
    rate = summary["success"]
    click.echo("episode\treturn\tlength\tseed" + ("" if rate is None else "\tsuccess"))
    for number, episode in enumerate(results):
        success = "" if episode.success is None else f"\t{episode.success:d}"
        click.echo(f"{number}\t{episode.ret:.6g}\t{episode.length}\t{episode.seed}{success}")
    scored = "" if normalised is None else f" · {normalised:.1f} normalised"
    scored += "" if rate is None else f" · success {rate:.0%}"
    click.echo(f"{summary['mean']:.1f} ± {summary['std']:.1f} over {len(results)} episodes{scored}", err=True)
