"""Check of episode ends: terminals and truncations, time limits, missing ends, episodes of one step."""

from collections.abc import Iterator

from datasets_io.diagnosis.finding import Fact, Finding, Severity, share
from datasets_io.diagnosis.summary import DataSummary, EpisodeTable

_MARK_AS_TRUNCATED = (
    "mark the cut as truncated, not terminated: timeouts (D4RL), truncated= (a table or an Episode)"
)


def check_ends(summary: DataSummary) -> Iterator[Finding | Fact]:
    """Check terminals and timeouts, using only the table of episodes."""
    episodes = summary.episodes
    done, cut = int(episodes.terminated.sum()), int((~episodes.terminated).sum())
    low, high = int(episodes.lengths.min()), int(episodes.lengths.max())
    spread = f"{low:,} steps" if low == high else f"{low:,} to {high:,} steps"
    yield Fact(
        "episodes",
        f"{len(episodes):,} of {spread} · {done:,} ended by the task, {cut:,} cut off",
        {"count": len(episodes), "shortest": low, "longest": high, "terminated": done, "cut": cut},
    )
    yield from _marked_twice(episodes)
    yield from _missing_ends(summary)
    yield from _too_long(summary)
    yield from _limit_as_terminal(summary)
    yield from _single_steps(episodes)
    yield from _incomplete_last(episodes)


def _marked_twice(episodes: EpisodeTable) -> Iterator[Finding]:
    both = episodes.terminated & episodes.truncated
    if both.any():
        yield Finding(
            "warning",
            "ends",
            f"{int(both.sum()):,} of {len(both):,} episodes are marked as terminated and as truncated",
            "they are used as terminated: no value is bootstrapped from their last state, which is wrong if "
            "they were only cut off",
            "mark an episode as terminated only if the task itself ended",
            tuple(episodes.rows[both][:5]),
        )


def _missing_ends(summary: DataSummary) -> Iterator[Finding]:
    if len(summary.episodes) == 1 and summary.rows >= 1000:
        yield Finding(
            "warning",
            "ends",
            f"no row before the last of {summary.rows:,} ends an episode",
            "all rows are one episode: there is one return, and every start except the first is used as the "
            "result of an action",
            "mark ends by terminals or timeouts (D4RL), or by terminated=, truncated= or episode= (a table)",
        )


def _too_long(summary: DataSummary) -> Iterator[Finding]:
    limit, lengths = summary.time_limit, summary.episodes.lengths
    if limit is None or lengths.max() <= limit:
        return
    long = lengths > limit
    yield Finding(
        "warning",
        "ends",
        f"{int(long.sum()):,} episodes have more steps than the environment allows ({limit:,}); the "
        f"longest has {int(lengths.max()):,}",
        "episode ends are missing, so that episodes are joined; or the data were recorded with a higher time "
        "limit, and returns are not comparable",
        "mark the missing ends, or name the environment with this limit (--env)",
        tuple(summary.episodes.rows[long][:5]),
    )


def _limit_as_terminal(summary: DataSummary) -> Iterator[Finding]:
    """Check for terminals that all come after the same number of steps."""
    episodes = summary.episodes
    lengths = episodes.lengths[episodes.terminated]
    if len(lengths) < 3 or episodes.lengths.max() < 2:
        return
    horizon = int(lengths.max())
    at_limit = int((lengths == horizon).sum())
    known = summary.time_limit == horizon
    # Failures and successes are spread over steps; ten or more at the last possible step are a time limit.
    is_limit = at_limit >= 0.9 * len(lengths) or (
        at_limit >= 10 and at_limit > 10 * (lengths == horizon - 1).sum() + 0.02 * len(lengths)
    )
    later = (episodes.lengths[~episodes.terminated] > horizon).any()
    if later or not (is_limit or (known and at_limit >= 3)):
        return
    limit = ", which is the environment's time limit" if known else ""
    yield Finding(
        "warning",
        "horizon",
        f"{share(at_limit, len(lengths))} of the {len(lengths):,} terminals come after exactly {horizon:,} "
        f"steps{limit}, and no episode is longer: a time limit seems to be marked as terminal",
        "values near the limit are learned as if no reward came after it, although the state does not "
        "contain the remaining time",
        _MARK_AS_TRUNCATED,
        tuple(episodes.rows[episodes.terminated][lengths == horizon][:3] + horizon - 1),
    )


def _single_steps(episodes: EpisodeTable) -> Iterator[Finding]:
    one = episodes.lengths == 1
    if not one.any():
        return
    if one.all():
        yield Finding(
            "note" if episodes.terminated.all() else "warning",
            "one step",
            f"each of the {len(one):,} episodes has one step",
            "no action affects later rewards: this is a bandit problem, and the discount has no effect",
            "if rows follow each other, do not mark each as terminal: name the column that identifies "
            "episodes (episode=)",
        )
        return
    severity: Severity = "warning" if one.mean() > 0.1 else "note"
    if not episodes.terminated[one].any():
        severity = "note"
        cause = "they were cut off after it, as short parts between gaps are: this does no harm"
        remedy = "if longer episodes were recorded, check the marks of truncation"
    elif one.mean() > 0.5:
        cause = "the column of ends seems to hold discounts, masks (0 at the end) or step types"
        remedy = "give a column that is 1 in the last row of an episode, and 0 elsewhere"
    else:
        cause = "they start where the task ends, or an end was marked twice or in rows after the end"
        remedy = "keep the first of several consecutive end marks, and drop the rows after it"
    yield Finding(
        severity,
        "one step",
        f"{share(one.sum(), len(one))} of the episodes ({int(one.sum()):,}) have one step only",
        cause,
        remedy,
        tuple(episodes.rows[one][:5]),
    )


def _incomplete_last(episodes: EpisodeTable) -> Iterator[Finding]:
    """Check for a last episode that is shorter than the other truncated ones, which have equal lengths."""
    cut = episodes.lengths[:-1][~episodes.terminated[:-1]]
    last = int(episodes.lengths[-1])
    if episodes.terminated[-1] or len(cut) < 3 or (cut != cut.max()).any() or last >= cut.max():
        return
    yield Finding(
        "note",
        "ends",
        f"the last episode stops after {last:,} steps; all other truncated episodes have {int(cut.max()):,}",
        "the recording or the file ended there; its return is not that of a whole episode",
        "",
        (int(episodes.rows[-1]),),
    )
