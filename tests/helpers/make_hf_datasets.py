"""Write the small data sets of tests/fixtures/hf_datasets with the library `datasets` of Hugging Face.

usage: python make_hf_datasets.py FOLDER     with datasets 5.2.0 and pyarrow 26.0.1 installed

`disk` is written by `Dataset.save_to_disk` in two files, `splits` by `DatasetDict.save_to_disk`, and `hub`
has the layout of `push_to_hub`: data/train-00000-of-00002.parquet.
"""

import sys
from pathlib import Path

import numpy as np
from datasets import Array2D, Dataset, DatasetDict, Features, Sequence, Value

FOLDER = Path(sys.argv[1])
LENGTHS = (4, 3, 5)
FEATURES = Features(
    {
        "observations": Sequence(Value("float32"), length=3),
        "actions": Sequence(Value("float32")),
        "rewards": Value("float64"),
        "terminated": Value("bool"),
        "episode_id": Value("int64"),
        "pose": Array2D((2, 2), "float32"),
        "note": Value("string"),
    }
)


def rows(first):
    """Yield the rows of the episodes: episode 0 ends terminated, the others are cut off."""
    for episode, length in enumerate(LENGTHS):
        for step in range(length):
            yield {
                "observations": np.array([first + episode, step, 0.5], np.float32),
                "actions": np.array([step / 10, -1], np.float32),
                "rewards": step + 0.25,
                "terminated": episode == 0 and step == length - 1,
                "episode_id": episode,
                "pose": np.array([[step, 1], [2, 3]], np.float32),
                "note": "x",
            }


train, test = (Dataset.from_list(list(rows(first)), features=FEATURES) for first in (0, 10))
train.save_to_disk(FOLDER / "disk", num_shards=2)
DatasetDict(train=train, test=test).save_to_disk(FOLDER / "splits")
(FOLDER / "hub" / "data").mkdir(parents=True)
for name, data, count in (("train", train, 2), ("test", test, 1)):
    for number in range(count):
        shard = data.shard(count, number, contiguous=True)
        shard.to_parquet(FOLDER / "hub" / "data" / f"{name}-{number:05}-of-{count:05}.parquet")
(FOLDER / "hub" / "README.md").write_text("---\nlicense: mit\n---\n")
