"""Data sets on disk or in a bucket: Parquet files of whole episodes, and a manifest that describes them."""

from datasets_io.shards.reading import Shards, data_root, open_shards

__all__ = ["Shards", "data_root", "open_shards"]
