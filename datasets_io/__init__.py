"""Read, store and check recorded data: sources, episodes, Parquet shards. Independent of `off2on`.

A source of one's own is six lines, and works wherever a data set is named:

    class Forklifts(Source):
        "Forklifts of the east hall, spring 2026."
        env = None
        def episodes(self, part):
            for trip in read_trips(part):
                yield Episode(trip.states, trip.controls, trip.rewards, terminated=trip.crashed)

    shards = ingest(Forklifts(), Path("trips/"), Path("data"), name="forklifts")
    batch = shards.read_all(["obs", "actions", "rewards", "new_obs"])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets_io.episode import Episode
    from datasets_io.ingestion.ingest import ingest
    from datasets_io.shards import Shards, open_shards
    from datasets_io.shards.manifest import Manifest
    from datasets_io.source import Source

__all__ = ["Episode", "Manifest", "Shards", "Source", "ingest", "open_shards"]

_MODULES = {
    "Episode": "episode",
    "Manifest": "shards.manifest",
    "Shards": "shards",
    "Source": "source",
    "ingest": "ingestion.ingest",
    "open_shards": "shards",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: numpy and pyarrow take longer than `off2on --help` may.
    if name not in _MODULES:
        raise AttributeError(f"module 'datasets_io' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"datasets_io.{_MODULES[name]}"), name)
