"""Examine this machine: versions, devices, memory, disk, and problems."""

import importlib
import os
import platform
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets_io.imports import installed_version

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
"""Package to install by the name of the module to import."""
OPTIONAL = {"mujoco": "off2on[mujoco]"}
LEAST_DISK = 2 * 2**30
LEAST_MEMORY = 2 * 2**30


def examine() -> dict[str, Any]:
    """Examine this machine; imports all dependencies of off2on, which takes some seconds.

    Returns:
        Plain values: `versions` (None for a missing package), `imports` (module to error), `devices`,
        `cores`, `threads`, `compiler` (None: updates are not compiled), `memory`, `data`, and `problems`:
        pairs of a problem and a line to paste.
    """
    imports: dict[str, str | None] = {module: _import_error(module) for module in (*DEPENDENCIES, *OPTIONAL)}
    report: dict[str, Any] = {
        "off2on": version("off2on"),
        "python": platform.python_version(),
        "system": f"{platform.system().lower()} {platform.machine()}",
        "versions": {name: installed_version(name) for name in [*DEPENDENCIES.values(), "mujoco"]},
        "imports": imports,
        "devices": _devices() if imports["torch"] is None else [],
        "cores": os.cpu_count(),
        "allowed_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": _threads() if imports["torch"] is None else None,
        "compiler": _compiler() if imports["torch"] is None else None,
        "memory": {"free": _free_memory(), "shared": _free_disk(Path("/dev/shm"))},
        "data": _data(),
    }
    report["problems"] = list(_problems(report))
    return report


def summary_line(report: dict[str, Any]) -> str:
    """Return the result of `examine` as one line, for a bug report."""
    versions, data = report["versions"], report["data"]
    parts = [f"off2on {report['off2on']}", f"python {report['python']}", report["system"]]
    parts += [
        f"{name} {versions[name] or 'missing'}" for name in ("torch", "ray", "gymnasium", "mujoco", "numpy")
    ]
    parts += [", ".join(report["devices"]) or "no device"]
    parts += [f"{report['allowed_cores']} of {report['cores']} cores, {report['threads']} threads"]
    parts += [f"C++ compiler {report['compiler'] or 'not found: updates are not compiled'}"]
    parts += [f"{_gib(report['memory']['free'])} memory free", f"{_gib(data['disk_free'])} disk free"]
    parts += [f"data sets in {data['folder']}: {data['sets']}", f"problems: {len(report['problems'])}"]
    return " · ".join(parts)


def _problems(report: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    packages = {**DEPENDENCIES, **OPTIONAL}
    for module, error_text in report["imports"].items():
        if error_text is not None and not (module in OPTIONAL and error_text == "missing"):
            found.append((f"{module} cannot be imported: {error_text}", f"pip install '{packages[module]}'"))
    free, disk = report["memory"]["free"], report["data"]["disk_free"]
    if free is not None and free < LEAST_MEMORY:
        found.append((f"only {_gib(free)} of memory is free", "off2on train … --memory 500M"))
    if disk is not None and disk < LEAST_DISK:
        found.append(
            (f"only {_gib(disk)} of disk is free at {report['data']['folder']}", "export OFF2ON_DATA=…")
        )
    if not report["data"]["writable"]:
        found.append((f"{report['data']['folder']} is not writable", "export OFF2ON_DATA=…"))
    return found


def _import_error(module: str) -> str | None:
    """Return the reason why a module cannot be imported; None if it can."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return "missing" if error.name == module.partition(".")[0] else f"{error}"
    except Exception as error:
        # A broken package may raise any exception.
        return f"{type(error).__name__}: {error}".splitlines()[0]
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


def _compiler() -> str | None:
    from off2on.rllib.traced.compilation import cpp_compiler

    return cpp_compiler()


def _data() -> dict[str, Any]:
    from datasets_io.shards.reading import data_folders, data_root

    root = data_root()
    # Files for a bucket are first written to the temporary folder of this machine.
    folder = root if isinstance(root, Path) else Path(tempfile.gettempdir())
    existing = next((path for path in (folder, *folder.absolute().parents) if path.is_dir()), Path("/"))
    return {
        "folder": str(root),
        "sets": len(data_folders(root)),
        "writable": os.access(existing, os.W_OK),
        "disk_free": _free_disk(existing),
    }


def _free_disk(path: Path) -> int | None:
    return shutil.disk_usage(path).free if path.is_dir() else None


def _free_memory() -> int | None:
    """Return the bytes that this process can still use, on the machine or in its container."""
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
