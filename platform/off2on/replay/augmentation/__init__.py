"""Data augmentation: weights of episodes and changes of batches, without other files."""
