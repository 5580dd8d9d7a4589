import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

import datasets_io
import off2on

ROOT = Path(__file__).parents[1]


def test_the_platform_folder_does_not_shadow_the_standard_library():
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert platform.system()
    # A tool started in the project's root has that root first on its path.
    code = "import platform; print(platform.system())"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == platform.system()


def test_the_version_is_the_packages():
    assert off2on.__version__ == importlib.metadata.version("off2on")


def test_every_public_name_of_the_data_package_is_there():
    for name in datasets_io.__all__:
        assert getattr(datasets_io, name).__name__ == name


def test_the_bare_packages_import_nothing_heavy():
    code = (
        "import sys, off2on, datasets_io, off2on.algorithms, off2on.strategies;"
        "print(*[name for name in ('ray', 'pandas', 'matplotlib') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == []
