"""Read LeRobot data sets, formats 2.0, 2.1 and 3.0: Parquet tables with a description in meta/info.json.

https://github.com/huggingface/lerobot. A row is a frame: what was observed, the action, and, where they were
recorded, the reward and the success that followed. Images and videos are not read.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from datasets_io import storage
from datasets_io.episode import Episode
from datasets_io.errors import MissingColumn, UnknownName, UserError
from datasets_io.source import Source
from datasets_io.sources.tabular import Columns, Table
from datasets_io.storage.documents import read_json

INFO = "meta/info.json"
FORMATS = ("v2.0", "v2.1", "v3.0")
OBSERVATION, ACTION, REWARD, SUCCESS = "observation.", "action", "next.reward", "next.success"
ORDER: Columns = {"episode": ("episode_index",), "step": ("frame_index",)}
IMAGES = ("image", "video")
NO_REWARDS = "no rewards are recorded, all are 0: only imitation can learn from these data"

Count = Annotated[int, Field(ge=0, le=2**53)]


@dataclass(frozen=True)
class Feature:
    """The fields of a column's description that are read: type, and shape of one frame's value."""

    dtype: str
    shape: list[Count]


@dataclass(frozen=True)
class Info:
    """The fields of meta/info.json that are read."""

    codebase_version: str
    features: Mapping[str, Feature]
    total_frames: Count
    total_tasks: Count = 1


@dataclass(frozen=True)
class Part:
    """Files that are read together.

    Attributes:
        files: The files, in order.
        columns: Columns by role, as `Table` takes them.
        has_rewards: False if the column of rewards stands for 0.
    """

    files: tuple[str, ...]
    columns: Columns
    has_rewards: bool


class LeRobot(Source):
    """A LeRobot data set.

    Observations are the vectors whose names begin with ``observation.``, side by side. The reward is
    ``next.reward``, else 1 at ``next.success``, else 0. An episode is terminated by ``next.success`` and
    otherwise cut off: ``next.done`` is also true where a recording simply stops.

    Args:
        columns: Other columns by role, such as ``terminated=next.done``; see `Table`.
        env: Gymnasium id of the environment, if there is one.
        licence: Licence of the data.
    """

    row_options = ()

    def __init__(
        self, columns: Columns | str | None = None, env: str | None = None, licence: str = "unknown"
    ) -> None:
        self.columns = Table(columns).columns
        self.env, self.licence = env, licence

    def parts(self, path: Any) -> list[Part]:
        """Return groups of files with about `rows_per_shard` rows.

        Raises:
            UserError: The folder is no LeRobot data set, or of another format.
            MissingColumn: It has no observations or actions that are vectors.
        """
        root = storage.locate(path)
        info = read_json(root / INFO, Info)
        if info.codebase_version not in FORMATS:
            raise UserError(
                f"{root / INFO} is of the format {info.codebase_version[:40]!r}.",
                f"Known formats: {', '.join(FORMATS)}.",
            )
        columns, has_rewards = self._columns(info, root)
        found = storage.list_files(root / "data", recursive=True)
        files = [file for file in found if file.endswith(".parquet")]
        if not files:
            raise UnknownName(f"{root / 'data'} holds no .parquet file.")
        each = max(1, self.rows_per_shard * len(files) // max(1, info.total_frames))
        groups = (tuple(files[first : first + each]) for first in range(0, len(files), each))
        return [Part(group, columns, has_rewards) for group in groups]

    def episodes(self, part: Part) -> Iterator[Episode]:
        """Read the tables of a part; see `Table.episodes`."""
        for episode in Table(part.columns).episodes(part.files):
            rewards = episode.rewards if part.has_rewards else 0 * episode.rewards
            yield dataclasses.replace(episode, rewards=rewards)

    def fingerprint(self, path: Any) -> str:
        """Return a hash of the description and the tables, without the videos."""
        root = storage.locate(path)
        both = super().fingerprint(root / INFO) + super().fingerprint(root / "data")
        return hashlib.sha256(both.encode()).hexdigest()

    def _columns(self, info: Info, root: storage.Place) -> tuple[Columns, bool]:
        """Return the column of each role, and whether there are rewards."""
        vectors = [
            name for name, one in info.features.items() if one.dtype not in IMAGES and len(one.shape) == 1
        ]
        columns: dict[str, Sequence[str]] = {**ORDER}
        if states := tuple(name for name in vectors if name.startswith(OBSERVATION)):
            columns["obs"] = states
        if ACTION in vectors:
            columns["actions"] = (ACTION,)
        if SUCCESS in vectors:
            columns["terminated"] = (SUCCESS,)
        columns |= self.columns
        for role, usual in (("obs", f"{OBSERVATION}state"), ("actions", ACTION)):
            if role not in columns:
                raise MissingColumn(
                    f"{root} has no vectors for {role!r}: images are not read.",
                    f"Looked for {usual} among: {' '.join(list(info.features)[:50])}",
                    f"--columns {role}=NAME",
                )
        rewards = next((name for name in (REWARD, SUCCESS) if name in vectors), None)
        has_rewards = "rewards" in columns or rewards is not None
        # A table needs a column of rewards; without any, this one's numbers are replaced by 0.
        columns.setdefault("rewards", (rewards or "frame_index",))
        self._report(info, has_rewards)
        return columns, has_rewards

    def _report(self, info: Info, has_rewards: bool) -> None:
        """Note what is left out."""
        images = [name for name, one in info.features.items() if one.dtype in IMAGES]
        if images:
            self.note("skipped", "", f"images and videos: {', '.join(images[:5])}", count=len(images))
        if info.total_tasks > 1:
            self.note("tasks", "", "tasks, which are not told apart", count=info.total_tasks)
        if not has_rewards:
            self.note("no_rewards", "rewards", NO_REWARDS)
