"""Large data that take no room: a data set many times over, by links to its shards."""

import json
import os
from pathlib import Path

import numpy as np

from datasets_io import Shards


def linked(shards: Shards, folder: Path, copies: int) -> Shards:
    """The same shards so many times over, as one data set.

    Args:
        shards: A data set of one generation.
        folder: Of the new data set.
        copies: How often.
    """
    plain = json.loads((Path(str(shards.path)) / "manifest.json").read_text())
    (folder / "shards").mkdir(parents=True)
    files = []
    for number in range(copies):
        for listed in plain["files"]:
            files.append({**listed, "name": f"{number:05d}-{listed['name']}"})
            os.link(shards.folder / listed["name"], folder / "shards" / files[-1]["name"])
    plain |= {"files": files, "returns": plain["returns"] * copies, "lengths": plain["lengths"] * copies}
    for counts in (plain, *plain["generations"]):
        for name in ("rows", "episodes", "terminated", "truncated"):
            counts[name] *= copies
    plain["generations"][0]["files"] = len(files)
    for moments in plain["generations"][0]["moments"].values():
        moments["count"] *= copies
        moments["m2"] = (copies * np.asarray(moments["m2"])).tolist()
    (folder / "manifest.json").write_text(json.dumps(plain))
    return Shards(folder)
