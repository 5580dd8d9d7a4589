"""A worker that makes gradient updates with d3rlpy, sampling included.

usage: python worker_d3rlpy.py ALGORITHM COLUMNS.npz     then one number of updates per line
"""

import sys
import time
import warnings

warnings.simplefilter("ignore")

import d3rlpy  # noqa: E402
import numpy as np  # noqa: E402
from d3rlpy.models.encoders import VectorEncoderFactory  # noqa: E402

WIDE = VectorEncoderFactory([256, 256, 256])
CONFIGS = {
    "td3_bc": lambda: d3rlpy.algos.TD3PlusBCConfig(batch_size=256),
    "iql": lambda: d3rlpy.algos.IQLConfig(batch_size=256),
    "cql": lambda: d3rlpy.algos.CQLConfig(
        batch_size=256, actor_encoder_factory=WIDE, critic_encoder_factory=WIDE, alpha_learning_rate=0.0
    ),
}


def main() -> None:
    """Answer lines until there are none."""
    name, path = sys.argv[1:]
    data = np.load(path)
    dataset = d3rlpy.dataset.MDPDataset(
        data["obs"], data["actions"], data["rewards"], data["terminateds"], data["truncateds"]
    )
    algo = CONFIGS[name]().create("cpu:0")
    algo.build_with_dataset(dataset)
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            algo.update(dataset.sample_transition_batch(256))
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
