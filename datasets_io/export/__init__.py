"""Write data sets in the formats of other libraries."""

from datasets_io.export.d3rlpy import export_d3rlpy
from datasets_io.export.minari import export_minari

__all__ = ["export_d3rlpy", "export_minari"]
