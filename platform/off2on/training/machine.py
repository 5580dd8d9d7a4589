"""What this machine has: versions, devices, memory, disk; and what is missing."""

import importlib
import os
import platform
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

DEPENDENCIES = {
    "torch": "torch",
    "ray.rllib": "ray",
    "ray.tune": "ray",
    "ray.data": "ray",
    "gymnasium": "gymnasium",
    "numpy": "numpy",
    "pyarrow": "pyarrow",
    "pandas": "pandas",
    "h5py": "h5py",
    "click": "click",
    "rich": "rich",
    "matplotlib": "matplotlib",
    "yaml": "PyYAML",
    "tensorboardX": "tensorboardX",
}
"""Module to import → package to install."""
OPTIONAL = {"mujoco": "off2on[mujoco]"}
LITTLE_DISK = 2 * 2**30
LITTLE_MEMORY = 2 * 2**30


def examine() -> dict[str, Any]:
    """Looks at everything; imports all that off2on depends on, which takes some seconds.

    Returns:
        Plain values: `versions` (None where a package is missing), `imports` (module → what went wrong),
        `devices`, `cores`, `threads`, `memory`, `data`, `disk`, and `problems`: (what, what to do) pairs.
    """
    imports: dict[str, str | None] = {module: _trouble(module) for module in (*DEPENDENCIES, *OPTIONAL)}
    about: dict[str, Any] = {
        "off2on": version("off2on"),
        "python": platform.python_version(),
        "system": f"{platform.system().lower()} {platform.machine()}",
        "versions": {
            package: _version(package) for package in dict.fromkeys([*DEPENDENCIES.values(), "mujoco"])
        },
        "imports": imports,
        "devices": _devices() if imports["torch"] is None else [],
        "cores": os.cpu_count(),
        "allowed_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": _threads() if imports["torch"] is None else None,
        "memory": {"free": _free_memory(), "shared": _free_disk(Path("/dev/shm"))},
        "data": _data(),
    }
    about["problems"] = list(_problems(about))
    return about


def one_line(about: dict[str, Any]) -> str:
    """The line to paste into an issue."""
    versions, data = about["versions"], about["data"]
    said = [f"off2on {about['off2on']}", f"python {about['python']}", about["system"]]
    said += [
        f"{name} {versions[name] or 'missing'}" for name in ("torch", "ray", "gymnasium", "mujoco", "numpy")
    ]
    said += [", ".join(about["devices"]) or "no device"]
    said += [f"{about['allowed_cores']} of {about['cores']} cores, {about['threads']} threads"]
    said += [f"{_gib(about['memory']['free'])} memory free", f"{_gib(data['disk_free'])} disk free"]
    said += [f"data sets in {data['folder']}: {data['sets']}", f"problems: {len(about['problems'])}"]
    return " · ".join(said)


def _problems(about: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    packages = {**DEPENDENCIES, **OPTIONAL}
    for module, trouble in about["imports"].items():
        if trouble is not None and not (module in OPTIONAL and trouble == "missing"):
            found.append((f"{module} cannot be imported: {trouble}", f"pip install '{packages[module]}'"))
    free, disk = about["memory"]["free"], about["data"]["disk_free"]
    if free is not None and free < LITTLE_MEMORY:
        found.append((f"only {_gib(free)} of memory are free", "off2on train … --memory 500M"))
    if disk is not None and disk < LITTLE_DISK:
        found.append(
            (f"only {_gib(disk)} of disk are free at {about['data']['folder']}", "export OFF2ON_DATA=…")
        )
    if not about["data"]["writable"]:
        found.append((f"{about['data']['folder']} cannot be written", "export OFF2ON_DATA=…"))
    return found


def _trouble(module: str) -> str | None:
    """Why a module cannot be imported, None if it can."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return "missing" if error.name == module.partition(".")[0] else f"{error}"
    except Exception as error:
        # A broken package raises whatever it likes; naming it is what this is for.
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> list[str]:
    import torch

    if not torch.cuda.is_available():
        return ["cpu"]
    cards = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
    return [f"cuda:{index} {card.name} {_gib(card.total_memory)}" for index, card in enumerate(cards)]


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _data() -> dict[str, Any]:
    from datasets_io.shards.reading import data_folders, data_root

    root = data_root()
    # Into a bucket, files go by way of this machine's folder for temporary ones.
    here = root if isinstance(root, Path) else Path(tempfile.gettempdir())
    there = next((place for place in (here, *here.absolute().parents) if place.is_dir()), Path("/"))
    return {
        "folder": str(root),
        "sets": len(data_folders(root)),
        "writable": os.access(there, os.W_OK),
        "disk_free": _free_disk(there),
    }


def _free_disk(path: Path) -> int | None:
    return shutil.disk_usage(path).free if path.is_dir() else None


def _free_memory() -> int | None:
    """Bytes that this process may still use: the machine's, or its container's if that is less."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text()
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit) - int(used))


def _gib(count: int | None) -> str:
    return "?" if count is None else f"{count / 2**30:.1f} GiB"
