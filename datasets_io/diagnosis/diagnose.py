"""All checks on one set of data: a pass over its blocks, then what each has to say."""

import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from datasets_io.diagnosis.actions import ActionCheck
from datasets_io.diagnosis.alignment import check_alignment
from datasets_io.diagnosis.behaviour import behaviour
from datasets_io.diagnosis.blocks import Block, SourceBlocks, shard_blocks
from datasets_io.diagnosis.coverage import EffectiveRowsCheck, check_novelty
from datasets_io.diagnosis.duplicates import DuplicateCheck
from datasets_io.diagnosis.episode_boundaries import EpisodeBoundaryCheck
from datasets_io.diagnosis.episode_ends import ends
from datasets_io.diagnosis.faults import fault_findings
from datasets_io.diagnosis.finding import Fact, Finding, Severity, sort_by_severity
from datasets_io.diagnosis.known_defects import known_defects
from datasets_io.diagnosis.rewards import RewardCheck
from datasets_io.diagnosis.sample import Windows, WindowSampler
from datasets_io.diagnosis.summary import ActionSpace, Check, DataSummary, EpisodeTableBuilder
from datasets_io.diagnosis.values import ValueCheck
from datasets_io.errors import BadValues
from datasets_io.faults import merge
from datasets_io.scores import horizon, identity
from datasets_io.shards.reading import Shards
from datasets_io.source import Source
from datasets_io.sources.catalogue import known_names
from datasets_io.storage import Place

_READABLE = ("D4RL", "Minari", "OGBench", "Table")
"""Sources that are found by a name or a file's name."""

Progress = Callable[[int], None]
"""Told how many rows have been read."""


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What was found.

    Args:
        name: Of the data.
        findings: The gravest first.
        facts: Numbers about the data.
        survey: What they were found in, for pictures; None if not one episode could be read.
    """

    name: str
    findings: list[Finding]
    facts: list[Fact]
    summary: DataSummary | None

    def count(self, severity: Severity) -> int:
        """How many findings are of this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As plain values: name, rows, episodes, findings, facts."""
        return {
            "name": self.name,
            "rows": 0 if self.summary is None else self.summary.rows,
            "episodes": 0 if self.summary is None else len(self.summary.episodes),
            "findings": [finding.to_json() for finding in self.findings],
            "facts": [fact.to_json() for fact in self.facts],
        }


def diagnose_shards(
    shards: Shards, against: Shards | None = None, progress: Progress | None = None
) -> Diagnosis:
    """Examines a data set on disk, shard by shard.

    Args:
        shards: The data set.
        against: Another one, to which its states are compared.
        progress: Told how many rows have been read.

    Raises:
        BadValues: The other data set has observations of another width.
        Corrupt: A shard cannot be read.
    """
    space = ActionSpace.of(shards.action_space)
    limit = horizon(shards.env_id, shards.env_options)
    stream = _counted(shard_blocks(shards), progress)
    checks, summary = _examine(stream, space, limit, _again(shards), against)
    return _conclude(shards.name, checks, summary, shards.manifest.faults, [])


def diagnose_source(
    source: Source,
    path: Place | None,
    name: str,
    again: str,
    against: Shards | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Examines data that have not been ingested; writes nothing.

    Args:
        source: Where the episodes come from.
        path: Handed to it.
        name: Of the data.
        again: The command that ingests them, to be completed by an option.
        against: A data set to which their states are compared.
        progress: Told how many rows have been read.

    Raises:
        UnknownName: There is nothing at `path`.
        BadValues: The other data set has observations of another width.
    """
    blocks = SourceBlocks(source, path, progress)
    stream = iter(blocks)
    first = next(stream, None)  # a source may know its spaces only once it has looked at its files
    space, trouble = _action_space(blocks.source)
    held = [] if first is None else [first]
    limit = horizon(blocks.source.env, blocks.source.env_options)
    checks, summary = _examine(_chain(held, stream), space, limit, again, against)
    return _conclude(name, checks, summary, blocks.source.faults, [*blocks.refusals, *trouble])


def _again(shards: Shards) -> str:
    """The command that makes a data set anew, as far as its manifest tells."""
    origin, own = shards.manifest.source, shards.manifest.source["kind"] not in _READABLE
    words = [identity(shards.manifest), *([origin["path"]] if origin["path"] else [])]
    if own and shards.name not in known_names():
        words = ["…", "--name", shards.name]  # a class of the user's, whose module nobody wrote down
    return f"off2on data add {shlex.join(words)} --overwrite".replace("'…'", "…")


def _chain(held: list[Block], stream: Iterator[Block]) -> Iterator[Block]:
    while held:
        yield held.pop()
    yield from stream


def _counted(blocks: Iterable[Block], progress: Progress | None) -> Iterator[Block]:
    rows = 0
    for block in blocks:
        yield block
        rows += len(block)
        if progress is not None:
            progress(rows)


def _examine(
    blocks: Iterable[Block], space: ActionSpace, limit: int | None, again: str, against: Shards | None
) -> tuple[list[Check], DataSummary | None]:
    """One pass: every check sees every block."""
    acts = ActionCheck(space)
    checks: list[Check] = [
        ValueCheck(),
        DuplicateCheck(),
        acts,
        RewardCheck(),
        EffectiveRowsCheck(),
        EpisodeBoundaryCheck(space.choices),
    ]
    episodes, sampler, rows, width = EpisodeTableBuilder(), WindowSampler(), 0, 0
    for block in blocks:
        rows, width = rows + len(block), block.obs.shape[1]
        episodes.add(block)
        sampler.add(block)
        for check in checks:
            check.add(block)
    if not rows:
        return [], None
    windows = sampler.windows()
    other = None
    if against is not None and windows is not None:
        other = against.name, _sample(against, width)
    return checks, DataSummary(rows, episodes.build(), windows, acts.space, limit, again, other)


def _sample(shards: Shards, width: int) -> Windows:
    sampler = WindowSampler()
    for block in shard_blocks(shards):
        if block.obs.shape[1] != width:
            theirs = block.obs.shape[1]
            raise BadValues(
                f"{shards.name} has observations of {theirs} numbers, these data of {width}.",
                "Only states of one environment can be compared.",
            )
        sampler.add(block)
    windows = sampler.windows()
    if windows is None:
        raise BadValues(f"{shards.name} has no row without NaN or infinity.")
    return windows


def _conclude(
    name: str, checks: list[Check], summary: DataSummary | None, faults: Any, refusals: list[Finding]
) -> Diagnosis:
    said: list[Finding | Fact] = list(refusals)
    if summary is None and not refusals:
        said.append(Finding("error", "schema", "there is not one episode", "there is nothing to learn from"))
    if summary is not None:
        said += ends(summary)
        for check in checks:
            said += check.report(summary)
        for look in (check_alignment, check_novelty, behaviour):
            said += look(summary)
    findings = [item for item in said if isinstance(item, Finding)]
    findings += fault_findings(merge(faults), {finding.check for finding in findings})
    findings += [known.finding() for known in known_defects(name)]
    return Diagnosis(
        name, sort_by_severity(findings), [item for item in said if isinstance(item, Fact)], summary
    )


def _action_space(source: Source) -> tuple[ActionSpace, list[Finding]]:
    """The declared space or the environment's, and what is wrong with the latter."""
    if source.action_space is not None or source.env is None:
        return ActionSpace.of(source.action_space), []
    from datasets_io.environments import spaces_of

    spaces = spaces_of(source.env, source.env_options)
    if not spaces.trouble:
        return ActionSpace.of(spaces.action), []
    what = f"{source.env} cannot be made here ({spaces.trouble})"
    means = "its action space is unknown, and nothing can be evaluated or learned online on this machine"
    return ActionSpace(), [Finding("note", "env", what, means, "install the package it belongs to")]
