"""RLlib's algorithm, configuration, learner, module and environment runners, for every recipe."""
