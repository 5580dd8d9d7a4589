"""A worker that makes gradient updates with d3rlpy, sampling included.

usage: python worker_d3rlpy.py COLUMNS.npz     then the lines of `answering`

It is executed by the Python of d3rlpy's own environment. d3rlpy has no EDAC.
"""

import sys
import warnings

warnings.simplefilter("ignore")

import d3rlpy  # noqa: E402
import numpy as np  # noqa: E402
from answering import answer, repeat  # noqa: E402
from d3rlpy.models.encoders import VectorEncoderFactory  # noqa: E402

BATCH = 256
THREE = VectorEncoderFactory([256, 256, 256])
NORMALISED = VectorEncoderFactory([256, 256, 256], use_layer_norm=True)
WIDE = {"actor_encoder_factory": THREE, "critic_encoder_factory": THREE}
algos = d3rlpy.algos
CONFIGS = {
    "bc": lambda: algos.BCConfig(batch_size=BATCH),
    "td3_bc": lambda: algos.TD3PlusBCConfig(batch_size=BATCH),
    "iql": lambda: algos.IQLConfig(batch_size=BATCH),
    "awac": lambda: algos.AWACConfig(batch_size=BATCH, **WIDE),
    "rebrac": lambda: algos.ReBRACConfig(
        batch_size=BATCH, actor_encoder_factory=THREE, critic_encoder_factory=NORMALISED
    ),
    "cql": lambda: algos.CQLConfig(batch_size=BATCH, alpha_learning_rate=0.0, **WIDE),
    "cal_ql": lambda: algos.CalQLConfig(batch_size=BATCH, alpha_learning_rate=0.0, max_q_backup=True, **WIDE),
    "sac_n": lambda: algos.SACConfig(batch_size=BATCH, n_critics=10, **WIDE),
}


def main() -> None:
    """Build the data set once and answer lines."""
    data = np.load(sys.argv[1])
    numbers = (data[name][:, 0] for name in ("reward", "done", "truncated"))
    dataset = d3rlpy.dataset.MDPDataset(data["obs"], data["action"], *numbers)

    def build(name: str):
        algo = CONFIGS[name]().create("cpu:0")
        algo.build_with_dataset(dataset)
        return repeat(lambda: algo.update(dataset.sample_transition_batch(BATCH)))

    answer({name: lambda threads, name=name: build(name) for name in CONFIGS})


if __name__ == "__main__":
    main()
