"""Augmentations of batches, and masks of the bootstrap."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets_io import Shards
from off2on.algorithms.iql import IQL
from off2on.recipe.batch import Batch
from off2on.replay.augmentation.base import AugmentationContext, BatchAugmentation
from off2on.replay.augmentation.bootstrap import Bootstrap
from off2on.replay.augmentation.catalogue import parse_entry
from off2on.replay.augmentation.compose import batch_augmentations
from off2on.replay.augmentation.states import Amplitude, Dropout, Mixup, Noise, Uniform
from off2on.replay.transforms import Transforms

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Changes of batches.


def context(mean: Any = (0.0, 10.0), std: Any = (1.0, 100.0), **more: Any) -> AugmentationContext:
    return AugmentationContext(torch.tensor(mean), torch.tensor(std), **more)


def batch_of(count: int, width: int = 2) -> Batch:
    return Batch(
        obs=torch.randn(count, width) * 3,
        action=torch.rand(count, 1),
        reward=torch.randn(count),
        next_obs=torch.randn(count, width) * 3,
        mask=torch.ones(count),
    )


def changed(augmentation: BatchAugmentation, batch: Batch, seed: int = 0, position: Any = None) -> Batch:
    position = torch.arange(len(batch.obs)) if position is None else torch.as_tensor(position)
    return augmentation.augment(Batch(**vars(batch)), position, generator(seed))


STATE_CHANGES = [Noise, Uniform, Amplitude, Dropout, Mixup]


@pytest.mark.parametrize("kind", STATE_CHANGES)
def test_a_state_augmentation_changes_states_alone_and_writes_into_nothing(kind: type[BatchAugmentation]):
    batch = batch_of(64)
    before = {name: value.clone() for name, value in vars(batch).items()}
    after = changed(kind(kind.default, context()), batch)
    assert not torch.equal(after.obs, before["obs"])
    assert torch.equal(after.next_obs, before["next_obs"]) is (kind is Mixup)
    for name in ("action", "reward", "mask"):
        assert getattr(after, name) is getattr(batch, name)
    assert all(torch.equal(getattr(batch, name), value) for name, value in before.items())
    assert (after.obs.shape, after.obs.dtype) == (batch.obs.shape, torch.float32)


@pytest.mark.parametrize("kind", STATE_CHANGES)
def test_only_the_given_generator_makes_it_random(kind: type[BatchAugmentation]):
    batch, augmentation = batch_of(64), kind(kind.default, context())
    torch.manual_seed(1)
    one = changed(augmentation, batch, seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(changed(augmentation, batch, seed=5).obs, one.obs)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(changed(augmentation, batch, seed=6).obs, one.obs)


@pytest.mark.parametrize("kind", [Noise, Uniform, Amplitude, Dropout])
def test_nothing_of_it_is_nothing(kind: type[BatchAugmentation]):
    batch = batch_of(32)
    after = changed(kind(0.0, context()), batch)
    assert torch.equal(after.obs, batch.obs)
    assert torch.equal(after.next_obs, batch.next_obs)


def test_an_algorithm_that_reads_no_next_observation_has_none_afterwards():
    batch = Batch(obs=torch.randn(8, 2), action=torch.rand(8, 1))
    assert set(vars(changed(Noise(0.1, context()), batch))) == {"obs", "action"}


@pytest.mark.parametrize(("kind", "spread"), [(Noise, 1.0), (Uniform, 3**-0.5)])
def test_noise_has_the_asked_size_in_units_of_the_datas(kind: type[BatchAugmentation], spread: float):
    batch = batch_of(100_000)
    noise = changed(kind(0.05, context()), batch).obs - batch.obs
    np.testing.assert_allclose(noise.std(0), [0.05 * spread, 5 * spread], rtol=0.02)
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.05)
    largest = noise.abs().amax(0)
    assert (largest > 0.05 * spread * torch.tensor([1.0, 100.0])).all()
    if kind is Uniform:
        assert (largest <= 0.05 * torch.tensor([1.0, 100.0]) + 1e-4).all()


def test_noise_on_the_next_observation_is_other_noise():
    batch = batch_of(10_000)
    after = changed(Noise(1.0, context()), batch)
    here, there = after.obs - batch.obs, after.next_obs - batch.next_obs
    assert abs(np.corrcoef(here[:, 0], there[:, 0])[0, 1]) < 0.05


def test_amplitude_stretches_from_the_datas_mean_by_one_factor_per_state():
    batch = batch_of(20_000)
    after = changed(Amplitude(0.2, context()), batch)
    mean = torch.tensor([0.0, 10.0])
    factor = (after.obs - mean) / (batch.obs - mean)
    torch.testing.assert_close(factor[:, 0], factor[:, 1], rtol=1e-2, atol=1e-2)
    assert factor[:, 1].min() == pytest.approx(0.8, abs=1e-2)
    assert factor[:, 1].max() == pytest.approx(1.2, abs=1e-2)
    assert factor[:, 1].mean() == pytest.approx(1.0, abs=1e-2)


def test_dropout_puts_the_mean_in_place_of_one_dimension_of_some():
    batch = batch_of(20_000)
    after = changed(Dropout(0.3, context()), batch).obs
    gone = after != batch.obs
    assert (gone.sum(1) <= 1).all()
    np.testing.assert_allclose(gone.float().mean(0), [0.15, 0.15], atol=0.01)
    assert (after[gone[:, 0], 0] == 0).all()
    assert (after[gone[:, 1], 1] == 10).all()


def test_mixup_lies_on_the_line_to_the_next_state():
    batch = batch_of(50_000, 3)
    after = changed(Mixup(0.4, context()), batch).obs
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
    assert changed(Mixup(alpha, context()), batch_of(1000)).obs.isfinite().all()


@pytest.mark.parametrize("word", ["noise:0.1", "uniform:0.1", "amplitude:0.3", "dropout:1"])
def test_a_number_means_the_same_with_and_without_normalised_observations(wide: Shards, word: str):
    obs = torch.from_numpy(wide.read_all(["obs"])["obs"][:64])
    raw = []
    for normalise in (False, True):
        transforms = Transforms.of(wide, IQL.Hyperparameters(normalise_obs=normalise))
        (augmentation,) = batch_augmentations([word], wide, transforms, members=1, seed=0, device=CPU)
        mean, std = torch.tensor(transforms.obs_mean), torch.tensor(transforms.obs_std)
        batch = Batch(obs=(obs - mean) / std)
        raw.append(changed(augmentation, batch).obs * std + mean)
    torch.testing.assert_close(raw[0], raw[1], rtol=1e-4, atol=1e-4)
    assert not torch.equal(raw[0], obs)


def test_noise_in_units_of_a_data_sets_own_spread(wide: Shards):
    transforms = Transforms.of(wide, IQL.Hyperparameters(normalise_obs=False))
    (augmentation,) = batch_augmentations(["noise:0.1"], wide, transforms, members=1, seed=0, device=CPU)
    batch = Batch(obs=torch.zeros(50_000, 5))
    spread = wide.read_all(["obs"])["obs"].std(0)
    np.testing.assert_allclose(changed(augmentation, batch).obs.std(0), 0.1 * spread, rtol=0.02)


def test_changes_come_in_the_order_of_their_words_and_weights_are_none_of_them(wide: Shards):
    words = ("noise:0.1", "top:0.5", "mixup", "bootstrap", "returns", "uniform")
    transforms = Transforms.of(wide, IQL.Hyperparameters(normalise_obs=False))
    found = batch_augmentations(words, wide, transforms, members=2, seed=0, device=CPU)
    assert [type(augmentation) for augmentation in found] == [Noise, Mixup, Bootstrap, Uniform]
    assert batch_augmentations((), wide, transforms, members=2, seed=0, device=CPU) == []


MY_LAB = """
from off2on.replay.augmentation.base import BatchAugmentation


class Halving(BatchAugmentation):
    def augment(self, batch, position, generator):
        batch.reward = batch.reward / 2
        return batch
"""


def test_a_users_own_expansion_is_found_by_its_module_and_class(
    wide: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "my_halving_lab.py").write_text(MY_LAB)
    monkeypatch.syspath_prepend(tmp_path)
    words = ("my_halving_lab:Halving", "my_halving_lab:Halving:7")
    assert [parse_entry(word)[1] for word in words] == [0, 7]
    transforms = Transforms.of(wide, IQL.Hyperparameters(augment=words))
    found = batch_augmentations(words, wide, transforms, members=1, seed=0, device=CPU)
    batch = Batch(obs=torch.zeros(1, 5), reward=torch.tensor([8.0]))
    for augmentation in found:
        batch = changed(augmentation, batch)
    assert batch.reward.tolist() == [2.0]


# The bootstrap.


def masks(positions: Any, share: float = 0.5, members: int = 4, seed: int = 0) -> torch.Tensor:
    positions = torch.as_tensor(positions)
    batch = Batch(obs=torch.zeros(len(positions), 1))
    return changed(Bootstrap(share, context(members=members, seed=seed)), batch, 0, positions).weight


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
    after = changed(Bootstrap(0.5, context(members=64)), batch, 0, torch.arange(4))
    assert after.weight.shape == (64, 10)
    assert (after.weight[:, 4:] == 3).all()
    assert set(after.weight[:, :4].flatten().tolist()) == {0.0, 3.0}
