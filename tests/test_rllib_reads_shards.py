"""Check that RLlib's behaviour cloning trains on shards without conversion: columns have RLlib's names."""

import pytest
import torch

from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.toy import ToyCartPole, ToyPendulum

pytestmark = [
    pytest.mark.slow,
    # All of them RLlib's and Ray Data's own, about their own code.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.rllib"),
]


def log_likelihood(algo, shards):
    """Compute the mean log-probability of the actions of the data under the policy."""
    data = shards.read_all(["obs", "actions"])
    module = algo.learner_group._learner.module["default_policy"]  # get_module() needs an environment
    with torch.no_grad():
        out = module.forward_train({"obs": torch.tensor(data["obs"])})
        policy = module.get_train_action_dist_cls().from_logits(out["action_dist_inputs"])
        return float(policy.logp(torch.tensor(data["actions"])).mean())


@pytest.mark.parametrize("toy", [ToyPendulum, ToyCartPole])
def test_rllib_bc_trains_from_shards(tmp_path, toy, ray_session):
    from ray.rllib.algorithms.bc import BCConfig

    shards = ingest(toy(episodes=10), None, tmp_path, name="toy", rows_per_shard=500)
    config = (
        BCConfig()
        .environment(
            shards.env_id,
            # Without evaluation RLlib makes no environment, so it must be told the spaces.
            observation_space=shards.observation_space,
            action_space=shards.action_space,
        )
        .offline_data(
            input_=[str(shards.folder.absolute())],
            # RLlib takes every further column for an output of the model and stacks it; `final_obs`, null in
            # all rows but an episode's last, cannot be stacked.
            input_read_method_kwargs={
                "columns": ["eps_id", "obs", "actions", "rewards", "terminateds", "truncateds"]
            },
            # BC needs no next observation, and shards do not store what can be derived.
            ignore_final_observation=True,
            map_batches_kwargs={"concurrency": 1, "num_cpus": 1},
            dataset_num_iters_per_learner=10,
        )
        .learners(num_learners=0)
        .training(train_batch_size_per_learner=128, lr=1e-3)
    )
    algo = config.build_algo()
    try:
        before = log_likelihood(algo, shards)
        trained = [algo.train()["learners"]["default_policy"]["num_module_steps_trained"] for _ in range(4)]
        after = log_likelihood(algo, shards)
    finally:
        algo.stop()
    assert all(steps > 1000 for steps in trained)
    assert after > before + 0.01  # the policy has become likelier to do what the data did
