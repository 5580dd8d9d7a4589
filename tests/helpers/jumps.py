"""A data set whose rows do not follow each other, as formats with one observation a step cannot hold."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from datasets_io import Episode, Shards, Source
from datasets_io.ingestion.ingest import ingest


class Jumps(Source):
    """An episode whose next observations are not those of the following rows."""

    def episodes(self, part: Any) -> Iterator[Episode]:
        obs = np.arange(5.0)
        yield Episode(obs, np.zeros(4), np.zeros(4), True, extras={"new_obs": -obs[1:, None]})


def jumps(folder: Path) -> Shards:
    """Ingest it into a folder."""
    return ingest(Jumps(), None, folder, name="jumps")
