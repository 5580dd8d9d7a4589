"""What an algorithm file imports besides its base class: hooks, hyperparameters, losses, networks."""
