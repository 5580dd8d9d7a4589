"""State augmentations: change the observations of every batch a little, at random.

Sinha, Mandlekar & Garg, "S4RL: Surprisingly Simple Self-Supervision for Offline Reinforcement
Learning in Robotics", CoRL 2021, arXiv:2103.06326. With z = (s - mean) / std of the data:

    noise       z + e,          e ~ N(0, SIGMA^2) in each dimension
    uniform     z + e,          e ~ U(-ALPHA, ALPHA) in each dimension
    amplitude   e z,            e ~ U(1 - ALPHA, 1 + ALPHA), one for all dimensions
    dropout     z_i = 0         for one i of all, in a share P of the observations
    mixup       l z + (1 - l) z',   l ~ Beta(ALPHA, ALPHA), one for all dimensions

Observation and next observation are changed independently; rewards and actions are kept.

Differences: the paper changes raw states; here z is changed, so that a number has the same meaning with and
without ``normalise_obs`` and for every dimension. ``amplitude`` is symmetric (0.2 and 0.4 are [0.8, 1.2] and
[0.6, 1.4] of the paper). ``mixup`` does not change the next observation, since a transition does not hold the
one after it. There is one draw per observation and update; the paper also averages the critics' values over
several. Two of its seven changes are left out: switching two dimensions, because the dimensions that may be
switched depend on the environment, and the adversarial one, because it needs the critics' gradient.
"""

import torch
from torch import Tensor

from off2on.recipe.batch import Batch
from off2on.recipe.hyperparameters import Rule
from off2on.replay.augmentation.base import BatchAugmentation


class ObservationAugmentation(BatchAugmentation):
    """Changes ``obs`` and ``next_obs`` independently in the same way."""

    columns = ("obs",)

    def augment(self, batch: Batch, position: Tensor, generator: torch.Generator) -> Batch:
        """Return the batch with changed observations."""
        for name in ("obs", "next_obs"):
            if name in vars(batch):
                setattr(batch, name, self.augment_obs(getattr(batch, name), generator))
        return batch

    def augment_obs(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed observations [B, D], in transformed units."""
        raise NotImplementedError


class Noise(ObservationAugmentation):
    """Gaussian noise."""

    number = Rule("standard deviation, in the data's standard deviations", least=0)
    default = 3e-4

    def augment_obs(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        """Add the noise."""
        noise = torch.randn(obs.shape, generator=generator, device=obs.device)
        return obs + self.value * self.context.obs_std * noise


class Uniform(ObservationAugmentation):
    """Uniform noise."""

    number = Rule("largest size, in the data's standard deviations", least=0)
    default = 3e-4

    def augment_obs(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        """Add the noise."""
        noise = 2 * torch.rand(obs.shape, generator=generator, device=obs.device) - 1
        return obs + self.value * self.context.obs_std * noise


class Amplitude(ObservationAugmentation):
    """Multiplication by a random factor."""

    number = Rule("largest distance of the factor from 1", least=0, most=1)
    default = 0.2

    def augment_obs(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        """Scale the deviation from the data's mean."""
        noise = 2 * torch.rand((len(obs), 1), generator=generator, device=obs.device) - 1
        return obs + self.value * noise * (obs - self.context.obs_mean)


class Dropout(ObservationAugmentation):
    """Replacement of one dimension by its mean."""

    number = Rule("share of the observations with a replaced dimension", least=0, most=1)
    default = 0.5

    def augment_obs(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        """Replace one dimension by the data's mean."""
        count, width = obs.shape
        dropped = torch.randint(width, (count, 1), generator=generator, device=obs.device)
        is_changed = torch.rand((count, 1), generator=generator, device=obs.device) < self.value
        mask = is_changed & (dropped == torch.arange(width, device=obs.device))
        return torch.where(mask, self.context.obs_mean, obs)


class Mixup(BatchAugmentation):
    """Random interpolation between the observation and the next one."""

    number = Rule(
        "both parameters of the Beta distribution: near 0 takes one of the two observations, 1 is uniform",
        above=0,
    )
    default = 0.4
    columns = ("obs", "next_obs")
    single_steps = True

    def augment(self, batch: Batch, position: Tensor, generator: torch.Generator) -> Batch:
        """Return the batch with observations between its own and the next ones."""
        shape = torch.full((2, len(batch.obs), 1), self.value, device=batch.obs.device)
        # torch.distributions.Beta takes no generator; X / (X + Y) of two Gamma variables is Beta distributed.
        own, other = torch._standard_gamma(shape, generator=generator)
        batch.obs = torch.lerp(batch.next_obs, batch.obs, own / (own + other))
        return batch
