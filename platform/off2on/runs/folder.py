"""The folder of a run; only this module knows the layout.

    run.yaml        options, settings, versions, status        metrics.csv    one row per evaluation
    checkpoints/    handover, the newest, last -> the newest   episodes.csv   one row per episode
    policy.pt       the deterministic policy                   exploring.pt   the policy that draws actions
    handover.yaml   changes and checks at the handover         guard.yaml     decisions of the guard
    log.txt         output of libraries, warnings, tracebacks  policies/      policies of evaluations, if kept

Every file but log.txt and TensorBoard's events is written under another name and then renamed, so that none
is ever incomplete.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from datasets_io import storage
from datasets_io.storage import Place
from datasets_io.storage.buckets import Location
from datasets_io.storage.documents import dump_yaml, read_yaml
from datasets_io.storage.redaction import redact
from datasets_io.storage.replacing import partial_of
from off2on.errors import Exists, UnknownName
from off2on.runs.bucket_mirror import POLICIES, Mirror
from off2on.runs.checkpoints import CHECKPOINTS, LAST, NUMBERED, PARTS, check_checkpoint, list_parts
from off2on.runs.lock import has_stopped
from off2on.runs.metadata import FILE, read_metadata
from off2on.runs.tables import read_episodes, read_metrics, write_table

Row = dict[str, Any]
HANDOVER = "handover"
POLICY, EXPLORING = "policy.pt", "exploring.pt"


class Run:
    """The folder of one run.

    Args:
        folder: The folder; use `create` or `resume`.
        place: Location to publish it to, which may be in a bucket; None: the folder itself.
    """

    def __init__(self, folder: Path, place: Place | None = None) -> None:
        # Learners elsewhere write checkpoints too, and RLlib takes no relative paths.
        self.folder = folder.absolute()
        self.checkpoints = self.folder / CHECKPOINTS
        self.metadata: dict[str, Any] = {}
        self.metrics: list[Row] = []
        self.episodes: list[Row] = []
        self.mirror = Mirror(self.folder, place) if isinstance(place, Location) else None
        self.protected = {HANDOVER}
        """Names of checkpoints that are not replaced by newer ones."""

    @classmethod
    def create(cls, folder: Path, place: Place | None = None) -> Self:
        """Make a new folder.

        Raises:
            Exists: There is a run of this name.
        """
        refuse_existing(folder)
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        return cls(folder, place)

    @classmethod
    def resume(cls, folder: Path, place: Place | None = None) -> Self:
        """Open the folder of a run that stopped, with its records.

        Raises:
            UnknownName: There is no run.
        """
        if not (folder / "run.yaml").is_file():
            others = [path.parent.name for path in folder.parent.glob("*/run.yaml")]
            raise UnknownName(
                f"there is no run at {folder} to resume.",
                "Looked for run.yaml in it.",
                "leave out --resume to start it",
                given=folder.name,
                known=others,
            )
        run = cls(folder, place)
        read_metadata(folder)  # checks the content; all of it is kept, also what is not read
        run.metadata = read_yaml(folder / FILE, dict[str, Any])
        run.metrics = [*read_metrics(folder)]
        run.episodes = [*read_episodes(folder)]
        return run

    def describe(self, metadata: Mapping[str, Any]) -> None:
        """Merge facts into run.yaml."""
        self.metadata |= metadata
        write(self.folder / FILE, dump_yaml(redact(self.metadata)))
        if self.mirror is not None:
            self.mirror.send_metadata()

    def record(self, row: Row, episodes: list[Row]) -> None:
        """Add an evaluation and its episodes."""
        self.metrics.append(row)
        self.episodes += episodes
        self._write_records()

    def forget_after(self, updates: int, env_steps: int, went_online: bool) -> None:
        """Drop the records that are later than a checkpoint with these counters."""

        def is_covered(row: Row) -> bool:
            done = int(row["updates"]) <= updates and int(row["env_steps"]) <= env_steps
            return done and (went_online or row["side"] == "offline")

        self.metrics = [row for row in self.metrics if is_covered(row)]
        self.episodes = [row for row in self.episodes if is_covered(row)]
        self._write_records()

    def _write_records(self) -> None:
        for name, rows in (("episodes.csv", self.episodes), ("metrics.csv", self.metrics)):
            if rows:
                write(self.folder / name, write_table(rows))
            else:
                (self.folder / name).unlink(missing_ok=True)

    def checkpoint(self, name: str, save: Callable[[str], object]) -> Path:
        """Keep a checkpoint; of those with numbers as names, only the protected ones and the newest stay.

        Args:
            name: The folder's name; nothing is written if the newest checkpoint has it.
            save: Writes the checkpoint into the folder it is given.
        """
        target, partial = self.checkpoints / name, partial_of(self.checkpoints / name)
        newest = self.last_checkpoint
        if newest is not None and newest.name == name:
            return target  # replacing it by itself would leave a moment without a checkpoint
        shutil.rmtree(partial, ignore_errors=True)
        save(str(partial))
        write(partial / PARTS, list_parts(partial))
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        link = partial_of(self.checkpoints / LAST)
        link.unlink(missing_ok=True)
        link.symlink_to(name, target_is_directory=True)
        link.rename(self.checkpoints / "last")
        for other in self.checkpoints.iterdir():
            is_ours = NUMBERED.fullmatch(other.name) and other.is_dir() and not other.is_symlink()
            if is_ours and other.name not in (name, *self.protected):
                shutil.rmtree(other)
        if self.mirror is not None:
            self.mirror.send()
        return target

    def publish(self) -> None:
        """Send what is not yet in the bucket, if the run belongs into one."""
        if self.mirror is not None:
            self.mirror.send(must=True)

    @property
    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint; None without one.

        Raises:
            Corrupt: It lies elsewhere, or is not whole.
        """
        there = os.path.lexists(self.checkpoints / LAST)
        return check_checkpoint(self.folder, LAST) if there else None

    def save_policy(self, policy: Any) -> None:
        """Write the policy as it is now."""
        write_policy(self.folder, policy)

    def keep_policy(self, name: str, policy: Any) -> None:
        """Write the policy as it is now under the name that a checkpoint has now."""
        folder = self.folder / POLICIES / name
        folder.mkdir(parents=True, exist_ok=True)
        write_policy(folder, policy)

    def save_handover_policy(self) -> None:
        """Copy the policy of the handover, which its checkpoint contains."""
        for file in (self.checkpoints / HANDOVER / name for name in (EXPLORING, POLICY)):
            if file.is_file():
                write(self.folder / file.name, file.read_bytes())


def write_policy(folder: Path, policy: Any) -> None:
    """Write the deterministic policy and, if its actions have a density, the exploring one."""
    if policy.has_density:
        write(folder / EXPLORING, policy.export(explore=True))
    write(folder / POLICY, policy.export())


def policy_file(folder: Path, which: str = "last", explore: bool = False) -> Path:
    """Return the path of a policy file.

    Args:
        folder: The run.
        which: ``last``, ``handover``, or a name that `Run.keep_policy` was given.
        explore: Return the policy that draws its actions and gives their log probabilities.

    Raises:
        UnknownName: The run does not have it.
    """
    path = _policy_path(folder, which)
    if not path.is_file():
        other = HANDOVER if which == LAST else LAST
        is_there = _policy_path(folder, other).with_name(EXPLORING if explore else POLICY).is_file()
        kept = sorted(str(found.relative_to(folder)) for found in folder.glob("**/policy.pt"))
        raise UnknownName(
            f"the run {folder} has no policy called '{which}'.",
            f"Looked for {path.relative_to(folder)}; there is {', '.join(kept) or 'none yet'}.",
            f"--checkpoint {other}" if is_there else "",
        )
    if explore and not path.with_name(EXPLORING).is_file():
        raise UnknownName(
            f"the exploring policy of the run {folder} has no density.",
            f"Looked for {path.relative_to(folder).with_name(EXPLORING)}; policies whose actions are drawn "
            "from a distribution have one.",
        )
    return path.with_name(EXPLORING) if explore else path


def _policy_path(folder: Path, which: str) -> Path:
    if NUMBERED.fullmatch(which):
        return folder / POLICIES / which / POLICY
    return (folder if which == LAST else folder / CHECKPOINTS / which) / POLICY


def kept_policies(folder: Path) -> list[str]:
    """Return the names of the policies that a run has kept, in order."""
    return sorted(file.parent.name for file in folder.glob(f"{POLICIES}/*/{POLICY}"))


def refuse_existing(folder: Path) -> None:
    """Raise `Exists` if there is a run in the folder."""
    if not (folder / "run.yaml").is_file():
        return
    metadata = read_metadata(folder)
    status = "stopped without an end" if has_stopped(folder) else metadata.status
    raise Exists(
        f"{folder} exists, {status}, started {metadata.started}.",
        f"Use --resume to continue it (also to more --updates), --seed {metadata.seed + 1} for another run, "
        f"or --out {folder.parents[1]}-again to keep both.",
        "--resume",
    )


def write(place: Place, content: str | bytes) -> None:
    """Replace a file in one step; secrets in text are hidden."""
    with storage.open_output(place) as file:
        file.write(redact(content).encode() if isinstance(content, str) else content)
