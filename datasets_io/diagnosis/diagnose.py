"""Run of all checks on a data set or a source: a pass over its blocks, then the report of each check."""

import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from datasets_io.diagnosis.actions import ActionCheck
from datasets_io.diagnosis.alignment import check_alignment
from datasets_io.diagnosis.behaviour import check_behaviour
from datasets_io.diagnosis.blocks import Block, SourceBlocks, shard_blocks
from datasets_io.diagnosis.coverage import EffectiveRowsCheck, check_novelty
from datasets_io.diagnosis.duplicates import DuplicateCheck
from datasets_io.diagnosis.early_end import EarlyEndCheck
from datasets_io.diagnosis.episode_boundaries import EpisodeBoundaryCheck
from datasets_io.diagnosis.episode_ends import check_ends
from datasets_io.diagnosis.faults import fault_findings
from datasets_io.diagnosis.finding import Fact, Finding, Severity, sort_by_severity
from datasets_io.diagnosis.known_defects import known_defects
from datasets_io.diagnosis.rewards import RewardCheck
from datasets_io.diagnosis.sample import Windows, WindowSampler
from datasets_io.diagnosis.summary import ActionSpace, DataCheck, DataSummary, EpisodeTableBuilder
from datasets_io.diagnosis.values import ValueCheck
from datasets_io.errors import BadValues
from datasets_io.faults import merge
from datasets_io.scores import horizon, identity
from datasets_io.shards.again import line_to_add_again
from datasets_io.shards.reading import Shards
from datasets_io.source import Source
from datasets_io.sources.catalogue import known_names
from datasets_io.storage import Place

_READABLE = ("D4RL", "Minari", "OGBench", "Table")
"""Sources that are selected by a name or a file name."""

RowProgress = Callable[[int], None]
"""Callback with the number of rows read so far."""


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Result of all checks.

    Args:
        name: Name of the data.
        findings: Findings, the highest severity first.
        facts: Statistics of the data.
        summary: Summary of the data, for figures; None if no episode could be read.
    """

    name: str
    findings: list[Finding]
    facts: list[Fact]
    summary: DataSummary | None

    def count(self, severity: Severity) -> int:
        """Return the number of findings of this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return plain values: name, rows, episodes, findings, facts."""
        return {
            "name": self.name,
            "rows": 0 if self.summary is None else self.summary.rows,
            "episodes": 0 if self.summary is None else len(self.summary.episodes),
            "findings": [finding.to_json() for finding in self.findings],
            "facts": [fact.to_json() for fact in self.facts],
        }


def diagnose_shards(
    shards: Shards, against: Shards | None = None, progress: RowProgress | None = None
) -> Diagnosis:
    """Check a data set, shard by shard.

    Args:
        shards: The data set.
        against: Another data set with which its states are compared.
        progress: Callback with the number of rows read so far.

    Raises:
        BadValues: The observations of the other data set have another width.
        Corrupt: A shard cannot be read.
    """
    space = ActionSpace.of(shards.action_space)
    limit = horizon(shards.env_id, shards.env_options)
    stream = _with_progress(shard_blocks(shards), progress)
    checks, summary = _examine(stream, space, limit, _ingest_command(shards), against)
    return _collect_results(shards.name, checks, summary, shards.manifest.faults, [])


def diagnose_source(
    source: Source,
    path: Place | None,
    name: str,
    ingest_command: str,
    against: Shards | None = None,
    progress: RowProgress | None = None,
) -> Diagnosis:
    """Check data that have not been ingested, without writing anything.

    Args:
        source: Source of the episodes.
        path: Argument of `source.parts`.
        name: Name of the data.
        ingest_command: Command that ingests the data, to which a finding adds an option.
        against: A data set with which their states are compared.
        progress: Callback with the number of rows read so far.

    Raises:
        UnknownName: Nothing is found at `path`.
        BadValues: The observations of the other data set have another width.
    """
    blocks = SourceBlocks(source, path, progress)
    stream = iter(blocks)
    first = next(stream, None)  # some sources set their spaces while they read their files
    space, error = _action_space(blocks.source)
    first_blocks = [] if first is None else [first]
    limit = horizon(blocks.source.env, blocks.source.env_options)
    checks, summary = _examine(_with_first(first_blocks, stream), space, limit, ingest_command, against)
    return _collect_results(name, checks, summary, blocks.source.faults, [*blocks.refusals, *error])


def _ingest_command(shards: Shards) -> str:
    """Return the command that ingests a data set again, as far as its manifest describes it."""
    if (line := line_to_add_again(shards.manifest)) != "":
        return line
    origin, own = shards.manifest.source, shards.manifest.source["kind"] not in _READABLE
    words = [identity(shards.manifest), *([origin["path"]] if origin["path"] else [])]
    if own and shards.name not in known_names():
        words = ["…", "--name", shards.name]  # a source class of the user; the manifest lacks its module
    return f"off2on data add {shlex.join(words)} --overwrite".replace("'…'", "…")


def _with_first(first_blocks: list[Block], stream: Iterator[Block]) -> Iterator[Block]:
    while first_blocks:  # popped, so that the memory is freed
        yield first_blocks.pop()
    yield from stream


def _with_progress(blocks: Iterable[Block], progress: RowProgress | None) -> Iterator[Block]:
    rows = 0
    for block in blocks:
        yield block
        rows += len(block)
        if progress is not None:
            progress(rows)


def _examine(
    blocks: Iterable[Block],
    space: ActionSpace,
    limit: int | None,
    ingest_command: str,
    against: Shards | None,
) -> tuple[list[DataCheck], DataSummary | None]:
    """Pass every block to every check; return the checks and the summary, or None without a row."""
    action_check = ActionCheck(space)
    checks: list[DataCheck] = [
        ValueCheck(),
        DuplicateCheck(),
        action_check,
        RewardCheck(),
        EffectiveRowsCheck(),
        EpisodeBoundaryCheck(space.choices),
        EarlyEndCheck(),
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
    return checks, DataSummary(
        rows, episodes.build(), windows, action_check.space, limit, ingest_command, other
    )


def _sample(shards: Shards, width: int) -> Windows:
    sampler = WindowSampler()
    for block in shard_blocks(shards):
        if block.obs.shape[1] != width:
            raise BadValues(
                f"observations of {shards.name} have {block.obs.shape[1]} numbers, these data have {width}.",
                "Only states of the same environment can be compared.",
            )
        sampler.add(block)
    windows = sampler.windows()
    if windows is None:
        raise BadValues(f"every row of {shards.name} contains NaN or infinity.")
    return windows


def _collect_results(
    name: str, checks: list[DataCheck], summary: DataSummary | None, faults: Any, refusals: list[Finding]
) -> Diagnosis:
    results: list[Finding | Fact] = list(refusals)
    if summary is None and not refusals:
        results.append(
            Finding("error", "schema", "the data contain no episode", "no policy can be trained on them")
        )
    if summary is not None:
        results += check_ends(summary)
        for check in checks:
            results += check.report(summary)
        for look in (check_alignment, check_novelty, check_behaviour):
            results += look(summary)
    findings = [item for item in results if isinstance(item, Finding)]
    findings += fault_findings(merge(faults), {finding.check for finding in findings})
    findings += [known.finding() for known in known_defects(name)]
    return Diagnosis(
        name, sort_by_severity(findings), [item for item in results if isinstance(item, Fact)], summary
    )


def _action_space(source: Source) -> tuple[ActionSpace, list[Finding]]:
    """Return the declared action space or that of the environment, and a finding if the latter fails."""
    if source.action_space is not None or source.env is None:
        return ActionSpace.of(source.action_space), []
    from datasets_io.environments import spaces_of

    spaces = spaces_of(source.env, source.env_options, named=not source.env_from_file)
    if not spaces.error:
        return ActionSpace.of(spaces.action), []
    what = f"{source.env} cannot be created here ({spaces.error})"
    means = "its action space is unknown; evaluation and online training are impossible on this machine"
    return ActionSpace(), [Finding("note", "env", what, means, "install the package of the environment")]
