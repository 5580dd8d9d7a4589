"""Makes the measurements that `off2on plan` computes with: ``fold.py scaling.json LIST.json …``.

Lists are those of test_scaling.py and test_costs.py. Measurements of the same thing become one: the median of
their seconds, between the least and the most of them.
"""

import json
import os
import platform
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import ray
import torch
from test_scaling import SCENARIOS
from waymo_records import real_record

ASSUMED = {
    "gpu_operator_s": 1e-5,  # to launch a kernel from Python, one after the other
    "gpu_flop_s": 1e-13,  # half of an A100's 19.5 TFLOP/s in float32
    "gpu_element_s": 1.2e-11,  # 12 bytes read and written at 1 TB/s
    "gpu_call_s": 3e-5,  # an all-reduce by NCCL within a machine
    "gpu_bandwidth": 1e11,  # bytes a second between its GPUs
    "network_step_s": 5e-5,  # one way, in a data centre
    "factor": 3.0,  # by which all of this may be off, either way
}
IQL_CALLS = 3
"""Networks whose gradients test_scaling averages."""


def described(row: dict[str, Any]) -> dict[str, Any]:
    """A measurement with what its stage needs to be told from others."""
    if row["stage"] == "ingest":
        return row | {"files": round(row["bytes"] / (SCENARIOS * len(real_record("scenario"))))}
    if row["stage"] == "all_reduce" and "calls" not in row:
        return row | {"calls": IQL_CALLS}
    return row


def fold(lists: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One measurement of each thing."""
    same: dict[str, list[dict[str, Any]]] = defaultdict(list)
    times = ("seconds", "low", "high")
    for row in (described(row) for each in lists for row in each):
        same[json.dumps({name: value for name, value in row.items() if name not in times})].append(row)
    return [
        json.loads(what)
        | {
            "seconds": median(row["seconds"] for row in found),
            "low": min(row.get("low", row["seconds"]) for row in found),
            "high": max(row.get("high", row["seconds"]) for row in found),
            "turns": len(found),
        }
        for what, found in same.items()
    ]


def machine() -> dict[str, Any]:
    """What was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return {
        "cpu": next(line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, Ray {ray.__version__}",
        "measured": time.strftime("%Y-%m-%d"),
        "load": [round(load, 1) for load in os.getloadavg()],
        "command": "make scaling",
    }


def main(target: str, *lists: str) -> None:
    """Write the file."""
    rows = fold([json.loads(Path(each).read_text()) for each in lists])
    body = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    head = f' "machine": {json.dumps(machine())},\n "assumed": {json.dumps(ASSUMED)}'
    Path(target).write_text(f'{{\n{head},\n "rows": [\n{body}\n ]\n}}\n')


if __name__ == "__main__":
    main(*sys.argv[1:])
