"""How a batch is made: the replay buffer, the sampler, the stream, transforms, augmentation."""
