"""Write the small RLDS data sets of tests/fixtures/rlds with TensorFlow Datasets.

usage: python make_rlds.py FOLDER     with tensorflow-datasets 4.9.10 and tensorflow-cpu 2.21.0 installed

`vectors` is made by `tfds.rlds`, as EnvLogger does; `arm` is a builder with nested observations, images, text
and actions as a dictionary, as the data sets of Open X-Embodiment are.
"""

import sys

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.rlds import rlds_base

FOLDER = sys.argv[1]
STEPS = {"terminal": 5, "cut": 4, "stopped": 3}
"""Number of steps of each episode: its end is terminal, cut off by a limit, or not recorded."""


def steps_of(kind, number, observation, action):
    """Return the steps of an episode: reward t + 0.25 is earned by the action of step t."""
    count = STEPS[kind]
    return [
        {
            "observation": observation(number, t),
            "action": action(t) if t < count - 1 or kind == "stopped" else action(99),
            "reward": np.float32(t + 0.25 if t < count - 1 or kind == "stopped" else 0),
            "discount": np.float32(1),
            "is_first": t == 0,
            "is_last": t == count - 1 and kind != "stopped",
            "is_terminal": t == count - 1 and kind == "terminal",
        }
        for t in range(count)
    ]


class Vectors(tfds.core.GeneratorBasedBuilder):
    """Vectors, written by the functions of `tfds.rlds`."""

    name = "vectors"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        config = rlds_base.DatasetConfig(
            name="vectors",
            observation_info=tfds.features.Tensor(shape=(3,), dtype=np.float32),
            action_info=tfds.features.Tensor(shape=(2,), dtype=np.float32),
            reward_info=np.float32,
            discount_info=np.float32,
            episode_metadata_info={"seed": np.int64},
        )
        return rlds_base.build_info(config, self)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0), "val": self._generate_examples(10)}

    def _generate_examples(self, first):
        for index, kind in enumerate(STEPS):
            steps = steps_of(
                kind,
                first + index,
                lambda number, t: np.array([number, t, 0.5], np.float32),
                lambda t: np.array([t / 10, -1], np.float32),
            )
            yield index, {"steps": steps, "seed": index}


class Arm(tfds.core.GeneratorBasedBuilder):
    """A robot: nested observations with an image, text, and actions as a dictionary."""

    name = "arm"
    VERSION = tfds.core.Version("0.1.0")

    def _info(self):
        step = {
            "observation": {
                "state": {"joints": tfds.features.Tensor(shape=(2,), dtype=np.float64), "gripper": np.int32},
                "pose": tfds.features.Tensor(shape=(2, 2), dtype=np.float32),
                "image": tfds.features.Image(shape=(4, 4, 3)),
                "instruction": tfds.features.Text(),
            },
            "action": {
                "world_vector": tfds.features.Tensor(shape=(3,), dtype=np.float32),
                "open": tfds.features.Scalar(dtype=np.float32),
            },
            "reward": tfds.features.Scalar(dtype=np.float32),
            "discount": np.float32,
            "is_first": np.bool_,
            "is_last": np.bool_,
            "is_terminal": np.bool_,
            "language_instruction": tfds.features.Text(),
        }
        features = {
            "steps": tfds.features.Dataset(step),
            "episode_metadata": {"file_path": tfds.features.Text()},
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index, kind in enumerate(STEPS):
            steps = steps_of(
                kind,
                index,
                lambda number, t: {
                    "state": {"joints": np.array([number, t], np.float64), "gripper": t},
                    "pose": np.array([[t, 1], [2, 3]], np.float32),
                    "image": np.zeros((4, 4, 3), np.uint8),
                    "instruction": "reach",
                },
                lambda t: {
                    "world_vector": np.array([t, t + 0.1, t + 0.2], np.float32),
                    "open": np.float32(1),
                },
            )
            steps[-1]["reward"] = np.float32(1)  # where these data sets have it
            whole = [{**step, "language_instruction": "reach"} for step in steps]
            yield index, {"steps": whole, "episode_metadata": {"file_path": "/x"}}


class Choices(Vectors):
    """Whole numbers as actions, one number as an observation."""

    name = "choices"

    def _info(self):
        config = rlds_base.DatasetConfig(
            name="choices",
            observation_info=np.float32,
            action_info=np.int64,
            reward_info=np.float64,
            discount_info=np.float64,
        )
        return rlds_base.build_info(config, self)

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples(0)}

    def _generate_examples(self, first):
        for index, kind in enumerate(STEPS):
            yield (
                index,
                {"steps": steps_of(kind, index, lambda number, t: np.float32(t), lambda t: t % 2)},
            )


for builder in (Vectors, Arm, Choices):
    builder(data_dir=FOLDER).download_and_prepare()
