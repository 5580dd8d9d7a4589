"""Write the small LeRobot data sets of tests/fixtures/lerobot with the real library.

usage: python make_lerobot.py FOLDER     with lerobot 0.3.3 (format 2.1) or 0.4.2 (format 3.0) installed
"""

import inspect
import sys

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

LENGTHS = (4, 3, 5)
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
    "observation.environment_state": {"dtype": "float32", "shape": (2,), "names": ["u", "v"]},
    "observation.images.front": {
        "dtype": "image",
        "shape": (4, 4, 3),
        "names": ["height", "width", "channel"],
    },
    "action": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    "next.success": {"dtype": "bool", "shape": (1,), "names": None},
}

data = LeRobotDataset.create("lab/toy", fps=10, root=sys.argv[1], use_videos=False, features=FEATURES)
takes_task = "task" in inspect.signature(data.add_frame).parameters
for episode, length in enumerate(LENGTHS):
    for step in range(length):
        is_last = step == length - 1
        frame = {
            "observation.state": np.array([episode, step, 0.5], np.float32),
            "observation.environment_state": np.array([step, episode], np.float32),
            "observation.images.front": np.zeros((4, 4, 3), np.uint8),
            "action": np.array([step / 10, -episode / 10], np.float32),
            "next.reward": np.array([step / 10], np.float32),
            "next.done": np.array([is_last]),
            "next.success": np.array([is_last and episode == 0]),
        }
        task = "reach" if episode < 2 else "push"
        if takes_task:
            data.add_frame(frame, task)
        else:
            data.add_frame({**frame, "task": task})
    data.save_episode()
if hasattr(data, "finalize"):
    data.finalize()
