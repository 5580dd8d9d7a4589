"""Building blocks of algorithms: hooks, hyperparameters, batches, losses, networks, distributions."""
