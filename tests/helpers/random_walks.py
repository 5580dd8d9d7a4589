"""Synthetic episodes for tests of the diagnosis, and access to its findings."""

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from datasets_io import Episode, Source
from datasets_io.diagnosis import Diagnosis, Finding, diagnose_source
from datasets_io.diagnosis.blocks import Block, SourceBlocks
from datasets_io.diagnosis.finding import Fact


class Lab(Source):
    """Source of a list of episodes; exceptions in the list are raised."""

    def __init__(self, episodes: Sequence[Any], space: Any = None) -> None:
        self._episodes, self.action_space = list(episodes), space

    def episodes(self, part: Any) -> Iterator[Episode]:
        for episode in self._episodes:
            if isinstance(episode, Exception):
                raise episode
            yield episode


def random_walks(lengths: Sequence[int], seed: int = 0, **changed: Any) -> list[Episode]:
    """Simulate random walks in two dimensions that add the action; the reward is the first coordinate."""
    rng = np.random.default_rng(seed)
    episodes = []
    for steps in lengths:
        actions = rng.uniform(-1, 1, (steps, 2))
        obs = np.cumsum(np.concatenate([rng.normal(size=(1, 2)), 0.1 * actions]), 0)
        columns = {
            "obs": obs,
            "actions": actions,
            "rewards": obs[1:, 0].copy(),
            "terminated": False,
        } | changed
        episodes.append(Episode(**columns))
    return episodes


def diagnose(episodes: Sequence[Any], space: Any = gym.spaces.Box(-1, 1, (2,))) -> Diagnosis:  # noqa: B008
    return diagnose_source(Lab(episodes, space), None, "lab", "off2on data add lab")


def only(diagnosis: Diagnosis, check: str) -> Finding:
    (finding,) = (finding for finding in diagnosis.findings if finding.check == check)
    return finding


def fact(diagnosis: Diagnosis, name: str) -> Fact:
    (found,) = (fact for fact in diagnosis.facts if fact.name == name)
    return found


def checks(diagnosis: Diagnosis) -> set[str]:
    return {finding.check for finding in diagnosis.findings}


def blocks_of(episodes: Sequence[Episode]) -> list[Block]:
    return list(SourceBlocks(Lab(episodes), None))
