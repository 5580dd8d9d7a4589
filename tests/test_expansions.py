"""More out of the same data: weights of episodes and changed batches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets_io import Shards
from off2on.algorithms.bc import BC
from off2on.algorithms.iql import IQL
from off2on.batches import Batch
from off2on.errors import HyperparameterError, UnknownName
from off2on.expansions import CATALOGUE, check_fit, find_expansion, unfit
from off2on.expansions.base import (
    About,
    BatchChange,
    Episodes,
    EpisodeWeights,
    batch_expansions,
    episode_weights,
)
from off2on.expansions.bootstrap import Bootstrap
from off2on.expansions.states import Amplitude, Dropout, Mixup, Noise, Uniform
from off2on.expansions.top import Top
from off2on.expansions.trajectories import Advantages, Returns
from off2on.hyperparameters import Hyperparameters
from off2on.transforms import Transforms

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
    kind, value = find_expansion(name)
    assert issubclass(kind, EpisodeWeights | BatchChange)
    assert value == kind.default
    assert kind.number.allows(value)
    assert len(kind.number.meaning) > 10
    assert kind.number.range() != "any"
    text = __import__(kind.__module__, fromlist=["_"]).__doc__
    assert "arXiv:" in text


def test_the_catalogue_is_the_folder():
    folder = Path(__import__("off2on.expansions").expansions.__file__).parent
    listed = {target.partition(":")[0].rpartition(".")[2] for target, _ in CATALOGUE.values()}
    assert listed == {file.stem for file in folder.glob("*.py")} - {"__init__", "base"}


@pytest.mark.parametrize(
    ("words", "parsed"),
    [
        ("noise:0.003,top:0.5,bootstrap:0.5", ("noise:0.003", "top:0.5", "bootstrap:0.5")),
        ("top", ("top",)),
        ("", ()),
        ("[noise:1e-3, top]", ("noise:1e-3", "top")),
        (["noise:1e-3", "top"], ("noise:1e-3", "top")),
        (("off2on.expansions.top:Top:0.5",), ("off2on.expansions.top:Top:0.5",)),
        ("off2on.expansions.top:Top", ("off2on.expansions.top:Top",)),
    ],
)
def test_words_of_a_command_line_or_a_file(words: Any, parsed: tuple[str, ...]):
    assert Hyperparameters.parse({"expand": words}, "it").expand == parsed


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("noize:0.003", ["'noize'", "nearest: noise", "bootstrap", "package.module:Class"]),
        ("noize", ["'noize'", "nearest: noise"]),
        ("noize:loud", ["'noize:loud'", "nearest: noise", "package.module:Class"]),
        ("no_such_lab:Own:3", ["'no_such_lab:Own'", "package.module:Class"]),
        ("off2on.nets:Critic", ["not an expansion", "EpisodeWeights or BatchChange"]),
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
        ("off2on.expansions.top:Top:2", ["(0, 1]"]),
    ],
)
def test_a_wrong_word_is_refused_before_anything_starts(wide: Shards, word: str, says: list[str]):
    kinds = HyperparameterError, UnknownName
    with pytest.raises(kinds) as refusal:
        Hyperparameters(expand=("top:0.5", word))
    for part in says:
        assert part in str(refusal.value)
    with pytest.raises(kinds):
        IQL.configure(wide.path).training(expand=f"top,{word}").validate()


def test_what_is_no_list_of_words_is_refused_with_the_form():
    with pytest.raises(HyperparameterError, match="NAME:NUMBER"):
        Hyperparameters.parse({"expand": 3}, "it")


MY_LAB = """
from off2on.expansions.base import BatchChange


class Halving(BatchChange):
    def batch(self, batch, position, generator):
        batch.reward = batch.reward / 2
        return batch
"""


def test_a_users_own_expansion_is_found_by_its_module_and_class(
    wide: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "my_halving_lab.py").write_text(MY_LAB)
    monkeypatch.syspath_prepend(tmp_path)
    words = ("my_halving_lab:Halving", "my_halving_lab:Halving:7")
    assert [find_expansion(word)[1] for word in words] == [0, 7]
    transforms = Transforms.of(wide, IQL.Hyperparameters(expand=words))
    found = batch_expansions(words, wide, transforms, members=1, seed=0, device=CPU)
    batch = Batch(obs=torch.zeros(1, 5), reward=torch.tensor([8.0]))
    for expansion in found:
        batch = changed(expansion, batch)
    assert batch.reward.tolist() == [2.0]


def test_an_algorithm_without_critics_cannot_be_bootstrapped(wide: Shards):
    with pytest.raises(HyperparameterError, match="'critic'") as refusal:
        check_fit(("top", "bootstrap:0.5"), BC)
    assert "noise" in refusal.value.expected
    assert "bootstrap" not in refusal.value.expected
    check_fit(("top", "bootstrap:0.5", "mixup"), IQL)


def test_what_needs_a_column_needs_it():
    assert (unfit(Mixup, BC) is None) == ("next_obs" in BC.columns)
    lean = type("Lean", (IQL,), {"columns": ("obs", "action", "reward")})
    assert "next_obs" in (unfit(Mixup, lean) or "")


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
    if np.ptp(found) < 1e-2:
        return
    one, other = (Returns(alpha).weights(Given(values)) for values in (found, shift + scale * found))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-9)
    assert one.max() == 1
    assert (np.diff(one[np.argsort(found)]) >= -1e-12).all()  # better is never less


@pytest.mark.parametrize("kind", [Returns, Advantages])
def test_a_huge_temperature_is_uniform_and_a_small_one_the_best_alone(kind: type[EpisodeWeights]):
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
    np.testing.assert_array_equal(Episodes(wide).those(some).first_obs(), whole["obs"][firsts[some]])
    assert Episodes(wide).those(some).lengths.tolist() == np.array(wide.manifest.lengths)[some].tolist()


def test_every_episode_lies_in_one_shard(wide: Shards):
    numbers = [wide.manifest.episodes_of(number) for number in range(len(wide.files))]
    assert [part.start for part in numbers] == [0, *(part.stop for part in numbers[:-1])]
    assert numbers[-1].stop == wide.episodes
    for part, rows in zip(numbers, wide.manifest.rows_per_file, strict=True):
        assert sum(wide.manifest.lengths[part]) == rows


# Changes of batches.


def about(mean: Any = (0.0, 10.0), std: Any = (1.0, 100.0), **more: Any) -> About:
    return About(torch.tensor(mean), torch.tensor(std), **more)


def batch_of(count: int, width: int = 2) -> Batch:
    return Batch(
        obs=torch.randn(count, width) * 3,
        action=torch.rand(count, 1),
        reward=torch.randn(count),
        next_obs=torch.randn(count, width) * 3,
        mask=torch.ones(count),
    )


def changed(expansion: BatchChange, batch: Batch, seed: int = 0, position: Any = None) -> Batch:
    position = torch.arange(len(batch.obs)) if position is None else torch.as_tensor(position)
    return expansion.batch(Batch(**vars(batch)), position, generator(seed))


STATE_CHANGES = [Noise, Uniform, Amplitude, Dropout, Mixup]


@pytest.mark.parametrize("kind", STATE_CHANGES)
def test_a_state_augmentation_changes_states_alone_and_writes_into_nothing(kind: type[BatchChange]):
    batch = batch_of(64)
    before = {name: value.clone() for name, value in vars(batch).items()}
    after = changed(kind(kind.default, about()), batch)
    assert not torch.equal(after.obs, before["obs"])
    assert torch.equal(after.next_obs, before["next_obs"]) is (kind is Mixup)
    for name in ("action", "reward", "mask"):
        assert getattr(after, name) is getattr(batch, name)
    assert all(torch.equal(getattr(batch, name), value) for name, value in before.items())
    assert (after.obs.shape, after.obs.dtype) == (batch.obs.shape, torch.float32)


@pytest.mark.parametrize("kind", STATE_CHANGES)
def test_only_the_given_generator_makes_it_random(kind: type[BatchChange]):
    batch, expansion = batch_of(64), kind(kind.default, about())
    torch.manual_seed(1)
    one = changed(expansion, batch, seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(changed(expansion, batch, seed=5).obs, one.obs)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(changed(expansion, batch, seed=6).obs, one.obs)


@pytest.mark.parametrize("kind", [Noise, Uniform, Amplitude, Dropout])
def test_nothing_of_it_is_nothing(kind: type[BatchChange]):
    batch = batch_of(32)
    after = changed(kind(0.0, about()), batch)
    assert torch.equal(after.obs, batch.obs)
    assert torch.equal(after.next_obs, batch.next_obs)


def test_an_algorithm_that_reads_no_next_observation_has_none_afterwards():
    batch = Batch(obs=torch.randn(8, 2), action=torch.rand(8, 1))
    assert set(vars(changed(Noise(0.1, about()), batch))) == {"obs", "action"}


@pytest.mark.parametrize(("kind", "spread"), [(Noise, 1.0), (Uniform, 3**-0.5)])
def test_noise_has_the_asked_size_in_units_of_the_datas(kind: type[BatchChange], spread: float):
    batch = batch_of(100_000)
    noise = changed(kind(0.05, about()), batch).obs - batch.obs
    np.testing.assert_allclose(noise.std(0), [0.05 * spread, 5 * spread], rtol=0.02)
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.05)
    largest = noise.abs().amax(0)
    assert (largest > 0.05 * spread * torch.tensor([1.0, 100.0])).all()
    if kind is Uniform:
        assert (largest <= 0.05 * torch.tensor([1.0, 100.0]) + 1e-4).all()


def test_noise_on_the_next_observation_is_other_noise():
    batch = batch_of(10_000)
    after = changed(Noise(1.0, about()), batch)
    here, there = after.obs - batch.obs, after.next_obs - batch.next_obs
    assert abs(np.corrcoef(here[:, 0], there[:, 0])[0, 1]) < 0.05


def test_amplitude_stretches_from_the_datas_mean_by_one_factor_per_state():
    batch = batch_of(20_000)
    after = changed(Amplitude(0.2, about()), batch)
    mean = torch.tensor([0.0, 10.0])
    factor = (after.obs - mean) / (batch.obs - mean)
    torch.testing.assert_close(factor[:, 0], factor[:, 1], rtol=1e-2, atol=1e-2)
    assert factor[:, 1].min() == pytest.approx(0.8, abs=1e-2)
    assert factor[:, 1].max() == pytest.approx(1.2, abs=1e-2)
    assert factor[:, 1].mean() == pytest.approx(1.0, abs=1e-2)


def test_dropout_puts_the_mean_in_place_of_one_dimension_of_some():
    batch = batch_of(20_000)
    after = changed(Dropout(0.3, about()), batch).obs
    gone = after != batch.obs
    assert (gone.sum(1) <= 1).all()
    np.testing.assert_allclose(gone.float().mean(0), [0.15, 0.15], atol=0.01)
    assert (after[gone[:, 0], 0] == 0).all()
    assert (after[gone[:, 1], 1] == 10).all()


def test_mixup_lies_on_the_line_to_the_next_state():
    batch = batch_of(50_000, 3)
    after = changed(Mixup(0.4, about()), batch).obs
    share = ((after - batch.next_obs) / (batch.obs - batch.next_obs))[:, 0]
    expected = batch.next_obs + share[:, None] * (batch.obs - batch.next_obs)
    torch.testing.assert_close(after, expected, rtol=1e-2, atol=1e-2)
    # Beta(0.4, 0.4): mean 1/2, variance 1 / (4 (2 · 0.4 + 1)).
    assert share.mean() == pytest.approx(0.5, abs=0.01)
    assert share.var() == pytest.approx(1 / 7.2, abs=0.005)
    assert share.min() >= -1e-3
    assert share.max() <= 1 + 1e-3


@pytest.mark.parametrize("alpha", [1e-4, 1e4])
def test_mixup_is_finite_for_extreme_shapes(alpha: float):
    assert changed(Mixup(alpha, about()), batch_of(1000)).obs.isfinite().all()


@pytest.mark.parametrize("word", ["noise:0.1", "uniform:0.1", "amplitude:0.3", "dropout:1"])
def test_a_number_means_the_same_with_and_without_normalised_observations(wide: Shards, word: str):
    obs = torch.from_numpy(wide.read_all(["obs"])["obs"][:64])
    raw = []
    for normalise in (False, True):
        transforms = Transforms.of(wide, IQL.Hyperparameters(normalise_obs=normalise))
        (expansion,) = batch_expansions([word], wide, transforms, members=1, seed=0, device=CPU)
        mean, std = torch.tensor(transforms.obs_mean), torch.tensor(transforms.obs_std)
        batch = Batch(obs=(obs - mean) / std)
        raw.append(changed(expansion, batch).obs * std + mean)
    torch.testing.assert_close(raw[0], raw[1], rtol=1e-4, atol=1e-4)
    assert not torch.equal(raw[0], obs)


def test_noise_in_units_of_a_data_sets_own_spread(wide: Shards):
    transforms = Transforms.of(wide, IQL.Hyperparameters(normalise_obs=False))
    (expansion,) = batch_expansions(["noise:0.1"], wide, transforms, members=1, seed=0, device=CPU)
    batch = Batch(obs=torch.zeros(50_000, 5))
    spread = wide.read_all(["obs"])["obs"].std(0)
    np.testing.assert_allclose(changed(expansion, batch).obs.std(0), 0.1 * spread, rtol=0.02)


def test_changes_come_in_the_order_of_their_words_and_weights_are_none_of_them(wide: Shards):
    words = ("noise:0.1", "top:0.5", "mixup", "bootstrap", "returns", "uniform")
    transforms = Transforms.of(wide, IQL.Hyperparameters(normalise_obs=False))
    found = batch_expansions(words, wide, transforms, members=2, seed=0, device=CPU)
    assert [type(expansion) for expansion in found] == [Noise, Mixup, Bootstrap, Uniform]
    assert batch_expansions((), wide, transforms, members=2, seed=0, device=CPU) == []


# The bootstrap.


def masks(positions: Any, share: float = 0.5, members: int = 4, seed: int = 0) -> torch.Tensor:
    positions = torch.as_tensor(positions)
    batch = Batch(obs=torch.zeros(len(positions), 1))
    return changed(Bootstrap(share, about(members=members, seed=seed)), batch, 0, positions).weight


def test_a_row_has_the_same_mask_whenever_it_is_drawn():
    whole = masks(torch.arange(1000))
    assert whole.shape == (4, 1000)
    assert set(whole.flatten().tolist()) == {0.0, 1.0}
    some = torch.randint(1000, (256,))
    assert torch.equal(masks(some), whole[:, some])
    assert torch.equal(masks(some, members=3), whole[:3, some])


@given(share=st.floats(0.01, 1), seed=st.integers(0, 2**62), start=st.sampled_from([0, 10**6, 2**31, 2**40]))
def test_the_masks_share(share: float, seed: int, start: int):
    found = masks(start + torch.arange(20_000), share, 3, seed)
    assert found.mean(1).sub(share).abs().max() < 5 * np.sqrt(0.25 / 20_000)


def test_masks_of_critics_rows_and_seeds_have_nothing_in_common():
    found = masks(torch.arange(50_000), members=5)
    others = torch.cat((found, masks(torch.arange(50_000), members=5, seed=1)))
    correlation = np.corrcoef(others) - np.eye(10)
    assert np.abs(correlation).max() < 5 / np.sqrt(50_000)
    neighbours = np.corrcoef(found[0, :-1], found[0, 1:])[0, 1]
    assert abs(neighbours) < 5 / np.sqrt(50_000)
    # Every combination of critics is as frequent as the others.
    code = (found * 2 ** torch.arange(5).unsqueeze(1)).sum(0).long()
    counts = np.bincount(code, minlength=32)
    assert np.abs(counts - 50_000 / 32).max() < 5 * np.sqrt(50_000 / 32)


def test_a_share_of_one_is_no_mask():
    assert (masks(torch.arange(5000), 1.0) == 1).all()


def test_imagined_rows_go_to_every_critic_and_weights_multiply():
    batch = Batch(obs=torch.zeros(10, 1), weight=torch.full((10,), 3.0))
    after = changed(Bootstrap(0.5, about(members=64)), batch, 0, torch.arange(4))
    assert after.weight.shape == (64, 10)
    assert (after.weight[:, 4:] == 3).all()
    assert set(after.weight[:, :4].flatten().tolist()) == {0.0, 3.0}
