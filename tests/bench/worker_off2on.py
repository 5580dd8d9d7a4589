"""A worker that makes gradient updates with off2on.

usage: python worker_off2on.py ALGORITHM SHARDS bare|train [BYTES]
       then one number of updates per line in, seconds out

usage: python worker_off2on.py plain|compiled SHARDS
       then the lines of `answering`, for a learner without RLlib's `train()` around it: what that costs is
       measured by itself

With BYTES, what the data may take in memory, updates run in one thread: how many are fastest is measured, and
two workers that are to differ in their data alone must not differ in that.
"""

import sys
import time


def updater(name: str, shards: str, how: str, memory: str | None = None):
    """A function that makes n updates: the bare losses in a loop, or RLlib's `train()`."""
    import ray

    from off2on.algorithms import find_algorithm

    config = find_algorithm(name).configure(shards).offline(10_000_000)
    if memory is not None:
        config.data(memory_budget=int(memory)).training(threads=1)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    algo = config.training(updates_per_call=100).build_algo()
    algo.pause_at = 1
    algo.train()
    if how == "train":

        def train(updates: int) -> None:
            algo.pause_at = algo.updates + updates
            while algo.updates < algo.pause_at:
                algo.train()

        return train
    return bare(algo.learner_group._learner)


def bare(learner):
    """The recipe's losses in a plain loop: no learner, no targets per flat vector, no metrics."""
    import torch

    recipe, hp, nets, rows = learner.recipe, learner.hp, learner.nets, learner.rows
    optimizers = {
        o.name: learner.get_optimizer("default_policy", o.name) for o in recipe.objectives_in_order()
    }
    done = 0

    def loop(updates: int) -> None:
        nonlocal done
        for _ in range(updates // 50):
            for batch in rows.batches_at(torch.randint(rows.offline, (50, hp.batch_size))):
                done += 1
                recipe.prepare(nets, batch, hp)
                for objective in recipe.objectives_in_order():
                    if done % objective.every == 0:
                        flat = learner.flat[objective.name]
                        loss, _ = learner.recipe.loss(objective.name, learner.nets, batch, learner.hp)
                        flat.set_gradient(torch.autograd.grad(loss, flat.parameters))
                        optimizers[objective.name].step()
                if done % recipe.target_update_interval == 0:
                    for target, network in learner.target_pairs:
                        target.move_towards(network, hp.polyak)

    return loop


VARIANTS = {"plain": "off", "compiled": "on"}
"""Values of the option `compile`, by the variant's name."""
OWN_UPDATES = 5
"""Updates of a kind by the recipe's own code before they are traced: few, to measure soon."""
WIDE = {"hidden": (256, 256, 256), "batch_size": 256}
SETTINGS = {
    "bc": {},
    "td3_bc": {},
    "iql": {},
    "awac": {**WIDE, "weight": "exp_clip"},
    "rebrac": WIDE,
    "cql": WIDE,
    "cal_ql": WIDE,
    "sac_n": {**WIDE, "critics": 10},
    "edac": {**WIDE, "critics": 10},
}
"""Hyperparameters that differ from the defaults, by algorithm: those that the peers are given too."""


def learner(name: str, variant: str, shards: str, threads: int):
    """Return a function that makes n updates with a new learner."""
    from off2on.algorithms import find_algorithm

    config = find_algorithm(name).configure(shards).offline(10_000_000).training(threads=threads)
    config.training(**SETTINGS[name])
    if hasattr(config, "compile"):
        config.compile = VARIANTS[variant]
    built = config.get_default_learner_class()(config=config, module_spec=config.get_rl_module_spec())
    built.build()
    if hasattr(built, "traced"):
        built.traced.after = OWN_UPDATES
    return built.advance


if __name__ == "__main__":
    if sys.argv[1] in VARIANTS:
        from answering import answer

        variant, shards = sys.argv[1:]
        answer(
            {name: lambda threads, name=name: learner(name, variant, shards, threads) for name in SETTINGS}
        )
        sys.exit()
    update = updater(*sys.argv[1:])
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        update(int(line))
        print(time.perf_counter() - started, flush=True)
