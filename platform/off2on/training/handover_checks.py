"""What is asked of a learner at the handover: are transitions the same on both sides, are its values true?

Functions of a learner, called where it is: `OfflineToOnline.call_learners`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from datasets_io.column_names import STEP_COLUMNS
from datasets_io.returns import returns_to_go
from off2on.recipe.batch import Batch
from off2on.replay.buffer import to_learner_columns
from off2on.replay.transforms import Array
from off2on.rllib.learner import RecipeLearner


def both_ways(learner: RecipeLearner, count: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """The first recorded transitions: as batches have them, and as they would come in from an environment."""
    source = learner.replay.source
    reader, (part, _) = source.reader, source.reader.part(0)
    world = reader.shards.read(reader.shards.pieces[0], ["obs", "actions", "rewards"])
    online = source.transforms.rows({name: column[part][:count] for name, column in world.items()})
    offline = vars(learner.rows.layout.split(reader.packed(0)[:count]))
    return {name: offline[name].numpy() for name in online}, online


@torch.no_grad()
def judge(learner: RecipeLearner, columns: Mapping[str, Array]) -> dict[str, float]:
    """What the critics say of whole episodes, against what those really returned.

    Args:
        learner: Whose critics.
        columns: RLlib's columns [n, …] and ``last`` [n], in the world's units, in the order of time.

    Returns:
        Means over the transitions: ``q``, over all critics, and the discounted ``return`` of the learner's
        rewards, which from a time limit on is what the critics say; and their ``correlation``. Nothing if
        there is no critic.
    """
    recipe, nets, hp = learner.recipe, learner.nets, learner.hp
    made = to_learner_columns(columns, STEP_COLUMNS, learner.replay.source.transforms, hp.discount)
    batch = Batch(**{name: torch.from_numpy(column).to(learner.rows.data) for name, column in made.items()})
    here = recipe.q(nets, batch.obs, batch.action)
    ahead = recipe.q(nets, batch.next_obs, recipe.act(nets, batch.next_obs, hp, explore=False))
    if here is None or ahead is None:
        return {}
    q, beyond = (values.mean(0).cpu().numpy() for values in (here, ahead))
    cut_off = columns["last"] & ~columns["terminateds"]
    returns = returns_to_go(made["reward"] + cut_off * hp.discount * beyond, columns["last"], hp.discount)
    alike = np.corrcoef(q, returns)[0, 1] if np.ptp(q) and np.ptp(returns) else np.nan
    return {"q": float(q.mean()), "return": float(returns.mean()), "correlation": float(alike)}


def spread(learner: RecipeLearner, obs: Array, samples: int = 16) -> dict[str, float]:
    """How random the exploring policy is at observations [n, D] in the world's units.

    Returns:
        ``std``, of its actions in units of half the action box, 0 if it always does the same; of whole
        numbers, the share that is not the most frequent. ``entropy`` in nats, of the density in the
        environment's units, if it has one.
    """
    policy = learner.module["default_policy"].policy
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seen = torch.from_numpy(np.asarray(obs, np.float32)).to(learner.rows.data)
        actions = torch.stack([policy(seen, explore=True) for _ in range(samples)])
        found = {}
        if policy.has_density:
            found["entropy"] = -float(policy.sampled(seen.repeat(samples, 1))[1].mean())
    if policy.discrete:
        return found | {"std": float((actions != actions.mode(0).values).float().mean())}
    half = (policy.get_buffer("action_high") - policy.get_buffer("action_low")) / 2
    return found | {"std": float((actions / half).std(0).mean())}


def decide(runner: Any, obs: Array) -> Array:
    """What a runner's policy does at observations [n, D] when it does not explore."""
    with torch.no_grad():
        actions: Array = runner.module.policy(torch.from_numpy(np.asarray(obs, np.float32))).numpy()
    return actions


def tensor(obs: Array) -> torch.Tensor:
    """Observations as a policy takes them."""
    return torch.from_numpy(np.asarray(obs, np.float32))
