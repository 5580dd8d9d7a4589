"""One algorithm of each shape that the learner treats differently."""

REPRESENTATIVES = {
    "bc": "one network, no rewards",
    "awr": "columns computed from the networks (`relabel`), objectives that alternate",
    "td3_bc": "a delayed actor and target networks",
    "iql": "three objectives in order, a learning rate schedule",
    "cql": "temperature and multiplier, a batch that `prepare` completes",
    "edac": "an ensemble of critics",
    "bcq": "a generative model",
    "mopo": "a fitted dynamics model and its rollouts",
    "dqn": "target networks copied every so many updates",
    "discrete_sac": "discrete actions with an actor",
}
"""Name to what is particular about it."""
