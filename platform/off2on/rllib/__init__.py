"""The only room that knows RLlib: algorithm, configuration, learner, module, environment runners."""
