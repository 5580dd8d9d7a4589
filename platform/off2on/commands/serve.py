"""``off2on serve``: serve the policy of a run over HTTP."""

import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from off2on.commands.options import checkpoint_option
from off2on.commands.output import print_line
from off2on.errors import DataError, RecipeError, UnknownName, UserError

if TYPE_CHECKING:
    from off2on.runs.metadata import RunMetadata

MAX_PORT = 65535


@click.command(short_help="Serve the policy of a run over HTTP; record its episodes.")
@click.argument("run")
@checkpoint_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, MAX_PORT), default=8000, show_default=True)
@click.option(
    "--replicas", type=click.IntRange(min=1), default=1, show_default=True, help="Number of processes."
)
@click.option("--explore", is_flag=True, help="Draw actions, and answer with their log probabilities.")
@click.option("--log", "name", metavar="NAME", help="Record episodes and add them to this data set.")
@click.option(
    "--every", type=click.IntRange(min=1), default=10, show_default=True, help="Episodes per generation."
)
def serve(
    run: str,
    checkpoint: str,
    host: str,
    port: int,
    replicas: int,
    explore: bool,
    name: str | None,
    every: int,
) -> None:
    """Answer POST /act with actions of the policy of RUN; they are deterministic without --explore.

    RUN is a folder, or a name with only one match below ./runs. A policy that is replaced while it is
    served is read again. With --log, /act takes an 'episode' and answers with an 'id'; POST /reward
    gives the outcome of that id. Complete episodes become generations of the data set NAME, for
    `off2on train --from RUN --new-data NAME`.
    """
    from datasets_io.storage.names import check_name
    from off2on.runs.folder import HANDOVER, policy_file
    from off2on.runs.record import find_run

    if name is not None:
        check_name(name, "--log {}")
    folder, about = find_run(run)
    _check_answers(folder, about)
    file = policy_file(folder, checkpoint, explore)
    shards = about.training_data()
    journal = None if name is None else _journal_options(folder, about, shards, name, every, explore)
    _check_port(host, port)
    click.echo(f"starting   {folder} ({checkpoint}) on {host}:{port} …", err=True)
    try:
        from off2on.serving import service
    except ImportError:
        raise UserError("Ray Serve is not installed.", "", "pip install 'off2on[serve]'") from None
    _check_policy(file, folder, HANDOVER if checkpoint == "last" else "last", explore)

    from datasets_io.local_ray import start_ray, stop_ray
    from datasets_io.ray_internals import signal_handlers_kept

    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))
    about_run = {"run": str(folder), "checkpoint": checkpoint, "algorithm": about.algorithm}
    width = int(shards.observation_space.shape[0])
    options = {"file": str(file.absolute()), "width": width, "about": about_run}
    with signal_handlers_kept():
        start_ray()
        with _port_errors(host, port):
            handle = service.start(host, port, replicas, options, journal)
    if host not in ("127.0.0.1", "localhost", "::1"):
        click.echo("warning: other machines can send requests, and there is no authentication.", err=True)
    print_line("serving", f"http://{host}:{port}/act   {folder} ({checkpoint})")
    _wait_for(signals)
    service.stop(handle)
    stop_ray()
    click.echo("stopped", err=True)


def _wait_for(signals: Sequence[int]) -> None:
    """Wait until a signal's handler has added it."""
    while not signals:
        time.sleep(0.2)  # signal.pause would miss a signal that comes just before it


def _journal_options(
    folder: Path, about: "RunMetadata", shards: Any, name: str, every: int, explore: bool
) -> dict[str, Any]:
    """Return the options of the journal; an existing data set must have the spaces and columns of the run."""
    from datasets_io.shards.columns import FIXED_COLUMNS
    from datasets_io.shards.reading import open_shards
    from off2on.serving.journal import BATCH, LINES
    from off2on.serving.served_episodes import EXTRAS, ServedEpisodes, read_batch, read_journal

    known = [it for it in EXTRAS if explore or it != "action_logp"]
    try:
        there = open_shards(name)
    except UnknownName:
        extras = known
    else:
        if shards.observation_space.shape != there.observation_space.shape:
            _refuse(name, "observation space", there.observation_space, shards.observation_space)
        if shards.action_space != there.action_space:
            _refuse(name, "action space", there.action_space, shards.action_space)
        if there.env_id and about.env and there.env_id != about.env:
            _refuse(name, "environment", there.env_id, about.env)
        extras = [it for it, _, _ in there.manifest.columns if it not in (*FIXED_COLUMNS, "new_obs")]
        if unknown := [it for it in extras if it not in known]:
            raise RecipeError(
                f"{name} has a column '{unknown[0]}', which served episodes do not have.",
                f"They have: {' '.join(known)}." + ("" if explore else " With --explore also action_logp."),
            )
    source = ServedEpisodes(about.env, shards.observation_space, shards.action_space, extras)
    journal = folder.absolute() / "served" / name
    if damaged := read_journal(journal / LINES)[1]:
        click.echo(f"warning: {len(damaged)} damaged lines of {journal / LINES} are set aside.", err=True)
    if (journal / BATCH).is_file():
        try:
            list(read_batch(journal / BATCH))
        except UserError as error:
            click.echo(f"warning: {error.what} The batch is set aside.", err=True)
    return {"folder": str(journal), "name": name, "source": source, "every": every}


def _check_answers(folder: Path, about: "RunMetadata") -> None:
    """Check that the policy decides about one action, by one observation, as /act does."""
    if about.hyperparameters.get("context") is not None:
        raise RecipeError(
            f"the policy of {folder} decides by a history; serve keeps none.",
            "Load its policy.pt, with off2on.recipe.acting_memory.History for the steps of each episode.",
        )
    recorded = about.hyperparameters.get("chunk")
    chunk = 1 if recorded is None else recorded.count("chunk")
    if chunk > 1:
        raise RecipeError(
            f"the policy of {folder} decides about chunks of {chunk} actions; serve answers with one action.",
            "Load its policy.pt: it returns the whole chunk, to be executed one action after another.",
        )


def _check_policy(file: Path, folder: Path, other: str, explore: bool) -> None:
    """Check that the policy can be loaded: an error of a replica would not name the file.

    Args:
        file: The policy.
        folder: The run.
        other: The checkpoint that can be served instead, if the run has its policy.
        explore: The policy draws its actions.

    Raises:
        DataError: It is damaged.
    """
    from off2on.policy import load_policy
    from off2on.runs.folder import policy_file

    try:
        load_policy(file)
    except UserError as error:
        try_ = ""
        with suppress(UnknownName):
            policy_file(folder, other, explore)
            try_ = f"--checkpoint {other}"
        raise DataError(error.what, error.expected, try_) from None


def _refuse(name: str, what: str, theirs: Any, ours: Any) -> None:
    raise RecipeError(
        f"the {what} of {name} is {theirs}, that of the run {ours}.",
        "Served episodes are added to a data set with the spaces and the environment of the run.",
    )


def _check_port(host: str, port: int) -> None:
    with _port_errors(host, port):
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # Connections that linger do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)


@contextmanager
def _port_errors(host: str, port: int) -> Iterator[None]:
    """Turn a failure to listen into an error with another port."""
    try:
        yield
    except OSError as error:
        other = port + 1 if port < MAX_PORT else port - 1
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}.", "", f"--port {other}") from None
