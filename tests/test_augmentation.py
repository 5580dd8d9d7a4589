"""Check the entries of ``augment``, and weights of episodes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from datasets_io import Shards
from off2on.algorithms.bc import BC
from off2on.algorithms.iql import IQL
from off2on.errors import HyperparameterError, UnknownName
from off2on.recipe.hyperparameters import Hyperparameters
from off2on.replay.augmentation import catalogue
from off2on.replay.augmentation.base import (
    BatchAugmentation,
    EpisodeAugmentation,
    Episodes,
    EpisodeWeighting,
)
from off2on.replay.augmentation.catalogue import (
    CATALOGUE,
    check_augmentations,
    incompatibility,
    parse_entry,
)
from off2on.replay.augmentation.compose import episode_weights
from off2on.replay.augmentation.states import Mixup
from off2on.replay.augmentation.top import Top
from off2on.replay.augmentation.trajectories import Advantages, Returns

CPU = torch.device("cpu")
Build = Callable[..., Any]
returns = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40).map(np.array)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Given(Episodes):
    """Episodes that lie in no file."""

    def __init__(self, returns: Any, first: Any = ()) -> None:
        self.given, self.first = np.asarray(returns, float), np.asarray(first, float)

    @property
    def returns(self) -> Any:
        return self.given

    def first_obs(self) -> Any:
        return self.first


# Words.


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_listed_expansion_is_found_and_says_what_its_number_is(name: str):
    kind, value = parse_entry(name)
    assert issubclass(kind, EpisodeWeighting | EpisodeAugmentation | BatchAugmentation)
    assert value == kind.default
    assert kind.number.allows(value)
    assert len(kind.number.meaning) > 10
    assert kind.number.range() != "any"
    text = __import__(kind.__module__, fromlist=["_"]).__doc__
    assert "arXiv:" in text


def test_the_catalogue_is_the_folder():
    folder = Path(catalogue.__file__).parent
    listed = {target.partition(":")[0].rpartition(".")[2] for target, _ in CATALOGUE.values()}
    assert listed == {file.stem for file in folder.glob("*.py")} - {
        "__init__",
        "base",
        "catalogue",
        "compose",
    }


@pytest.mark.parametrize(
    ("words", "parsed"),
    [
        ("noise:0.003,top:0.5,bootstrap:0.5", ("noise:0.003", "top:0.5", "bootstrap:0.5")),
        ("top", ("top",)),
        ("", ()),
        ("[noise:1e-3, top]", ("noise:1e-3", "top")),
        (["noise:1e-3", "top"], ("noise:1e-3", "top")),
        (("off2on.replay.augmentation.top:Top:0.5",), ("off2on.replay.augmentation.top:Top:0.5",)),
        ("off2on.replay.augmentation.top:Top", ("off2on.replay.augmentation.top:Top",)),
    ],
)
def test_entries_of_a_command_line_or_a_file(words: Any, parsed: tuple[str, ...]):
    assert Hyperparameters.parse({"augment": words}, "it").augment == parsed


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("noize:0.003", ["'noize'", "nearest: noise", "bootstrap", "package.module:Class"]),
        ("noize", ["'noize'", "nearest: noise"]),
        ("noize:loud", ["'noize:loud'", "nearest: noise", "package.module:Class"]),
        ("no_such_lab:Own:3", ["'no_such_lab:Own'", "package.module:Class"]),
        (
            "off2on.recipe.networks:Critic",
            ["wrong type", "base.EpisodeWeighting or", "base.BatchAugmentation"],
        ),
        ("noise:-1", ["'noise:-1'", "≥ 0", "'-1'", "standard deviation"]),
        ("noise:loud", ["≥ 0", "'loud'", "0.0003"]),
        ("noise:", ["≥ 0", "''"]),
        ("noise:inf", ["≥ 0"]),
        ("noise:1:2", ["'1:2'"]),
        ("top:0", ["(0, 1]"]),
        ("top:1.01", ["(0, 1]"]),
        ("top:nan", ["(0, 1]"]),
        ("returns:0", ["> 0", "temperature"]),
        ("bootstrap:0", ["(0, 1]"]),
        ("off2on.replay.augmentation.top:Top:2", ["(0, 1]"]),
    ],
)
def test_a_wrong_entry_is_refused_before_a_run_starts(wide: Shards, word: str, says: list[str]):
    kinds = HyperparameterError, UnknownName
    with pytest.raises(kinds) as refusal:
        Hyperparameters(augment=("top:0.5", word))
    for part in says:
        assert part in str(refusal.value)
    with pytest.raises(kinds):
        IQL.configure(wide.path).training(augment=f"top,{word}").validate()


def test_a_value_that_is_no_list_is_refused_with_the_syntax():
    with pytest.raises(HyperparameterError, match="NAME:NUMBER"):
        Hyperparameters.parse({"augment": 3}, "it")


def test_an_algorithm_without_critics_cannot_be_bootstrapped(wide: Shards):
    with pytest.raises(HyperparameterError, match="'critic'") as refusal:
        check_augmentations(("top", "bootstrap:0.5"), BC)
    assert "noise" in refusal.value.expected
    assert "bootstrap" not in refusal.value.expected
    check_augmentations(("top", "bootstrap:0.5", "mixup"), IQL)


def test_what_needs_a_column_needs_it():
    assert (incompatibility(Mixup, BC) is None) == ("next_obs" in BC.columns)
    lean = type("Lean", (IQL,), {"columns": ("obs", "action", "reward")})
    assert "next_obs" in (incompatibility(Mixup, lean) or "")


# Weights of episodes.


def test_top_by_hand():
    episodes = Given([3, 9, 5, 9, 1])
    assert Top(0.4).weights(episodes).tolist() == [0, 1, 0, 1, 0]
    assert Top(0.6).weights(episodes).tolist() == [0, 1, 1, 1, 0]
    assert Top(0.01).weights(episodes).tolist() == [0, 1, 0, 0, 0]  # at least one; of equals the first
    assert Top(1.0).weights(episodes).tolist() == [1, 1, 1, 1, 1]
    assert Top(0.29).weights(Given(np.arange(100))).sum() == 29  # 0.29 · 100 is 28.999…


@given(returns, st.floats(1e-3, 1))
def test_top_keeps_exactly_the_best(found: Any, share: float):
    weights = Top(share).weights(Given(found))
    kept = weights > 0
    assert set(weights) <= {0.0, 1.0}
    assert kept.sum() == max(1, int(share * len(found) + 1e-9))
    assert found[kept].min() >= found[~kept].max(initial=-np.inf)


def test_returns_by_hand():
    e = np.e
    weights = Returns(0.5).weights(Given([0, 5, 10]))
    np.testing.assert_allclose(weights, [e**-2, e**-1, 1])
    np.testing.assert_allclose(Returns(0.1).weights(Given([-7, -7, -7])), 1)


def test_advantages_by_hand():
    # V is the line through (0, 0), (1, 3), (2, 2): 2/3 + s. What is beyond it: -2/3, 4/3, -2/3.
    weights = Advantages(1.0).weights(Given([0, 3, 2], [[0.0], [1.0], [2.0]]))
    np.testing.assert_allclose(weights, [np.exp(-1), 1, np.exp(-1)])


def test_advantages_do_not_reward_a_lucky_start():
    rng = np.random.default_rng(0)
    start, skill = rng.normal(size=(50, 3)), rng.normal(size=50)
    found = start @ [100.0, -50.0, 20.0] + 7 + skill
    order = np.argsort(Advantages(0.2).weights(Given(found, start)))
    assert abs(np.corrcoef(np.argsort(order), skill)[0, 1]) > 0.9
    assert abs(np.corrcoef(Returns(0.2).weights(Given(found)), skill)[0, 1]) < 0.5


@given(returns, st.floats(0.01, 10), st.floats(-100, 100), st.floats(0.01, 100))
def test_weights_do_not_depend_on_the_returns_unit(found: Any, alpha: float, shift: float, scale: float):
    assume(np.ptp(found) >= 1e-2)
    one, other = (Returns(alpha).weights(Given(values)) for values in (found, shift + scale * found))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-9)
    assert one.max() == 1
    assert (np.diff(one[np.argsort(found)]) >= -1e-12).all()  # better is never less


@pytest.mark.parametrize("kind", [Returns, Advantages])
def test_a_huge_temperature_is_uniform_and_a_small_one_the_best_alone(kind: type[EpisodeWeighting]):
    first = np.random.default_rng(0).normal(size=(30, 2))
    episodes = Given(np.random.default_rng(1).normal(size=30), first)
    np.testing.assert_allclose(kind(1e9).weights(episodes), 1)
    assert (kind(1e-6).weights(episodes) > 0).sum() == 1


def row_mass(weights: Any, shards: Shards) -> float:
    lengths = np.array(shards.manifest.lengths)
    return float((weights * lengths).sum() / lengths[weights > 0].sum())


@pytest.mark.parametrize("words", [("returns:0.3",), ("advantages",), ("top:0.3",), ("returns:0.3", "top")])
def test_weights_are_one_on_average_over_the_rows_that_are_kept(wide: Shards, words: tuple[str, ...]):
    weights = episode_weights(words, wide)
    assert weights is not None
    assert weights.shape == (wide.episodes,)
    assert row_mass(weights, wide) == pytest.approx(1)


def test_no_word_that_weighs_no_weights(wide: Shards):
    assert episode_weights((), wide) is None
    assert episode_weights(("noise:0.1", "bootstrap"), wide) is None


def test_words_compose_in_their_order(wide: Shards):
    def scaled(weights: Any) -> Any:
        return weights / row_mass(weights, wide)

    found = wide.returns
    best = np.argsort(-found)[:6]
    left = np.isin(np.arange(len(found)), best)
    # The worst of the best half is the zero of the normalised return.
    normal = (found - found[best].min()) / np.ptp(found[best])
    np.testing.assert_allclose(
        episode_weights(("top:0.5", "returns:0.2"), wide), scaled(np.where(left, np.exp(normal / 0.2), 0))
    )
    normal = (found - found.min()) / np.ptp(found)
    np.testing.assert_allclose(
        episode_weights(("returns:0.2", "top:0.5"), wide), scaled(np.where(left, np.exp(normal / 0.2), 0))
    )
    quarter = episode_weights(("top:0.5", "top:0.5"), wide)
    assert quarter is not None
    assert set(np.flatnonzero(quarter)) == set(np.argsort(-found)[:3])


def test_the_first_observations_are_those_of_the_episodes(wide: Shards):
    whole = wide.read_all(["obs", "last"])
    firsts = np.flatnonzero(np.concatenate([[True], whole["last"][:-1]]))
    np.testing.assert_array_equal(Episodes(wide).first_obs(), whole["obs"][firsts])
    some = np.isin(np.arange(wide.episodes), [2, 5, 11])
    np.testing.assert_array_equal(Episodes(wide).subset(some).first_obs(), whole["obs"][firsts[some]])
    assert Episodes(wide).subset(some).lengths.tolist() == np.array(wide.manifest.lengths)[some].tolist()


def test_every_episode_lies_in_one_shard(wide: Shards):
    parts = [piece.episodes for piece in wide.pieces]
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == wide.episodes
    for part, piece in zip(parts, wide.pieces, strict=True):
        assert sum(wide.manifest.lengths[part]) == piece.size
