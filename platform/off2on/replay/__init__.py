"""Replay buffer, sampler, streams, transforms and augmentations, from which batches are made."""
