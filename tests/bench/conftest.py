"""The real file that speeds are measured on; without it the benchmarks that need it are skipped."""

from pathlib import Path

import pytest

from datasets_io import Shards
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.d4rl import D4RL

FILE = Path(__file__).parents[3] / "shared" / "data" / "halfcheetah-medium.hdf5"


@pytest.fixture(scope="session")
def halfcheetah_file() -> Path:
    """100 episodes of HalfCheetah-v5 in D4RL's layout."""
    if not FILE.exists():
        pytest.skip(f"no {FILE.name} beside the project")
    return FILE


@pytest.fixture(scope="session")
def halfcheetah(halfcheetah_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """The same as shards."""
    root = tmp_path_factory.mktemp("bench")
    return ingest(D4RL(env="HalfCheetah-v5"), halfcheetah_file, root, name="halfcheetah-medium")
