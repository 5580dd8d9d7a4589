"""Writing of one part of an ingest with its report; the report is written last."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

from datasets_io import storage
from datasets_io.errors import Corrupt
from datasets_io.ingestion.inspection import IngestOptions
from datasets_io.ingestion.part_report import PartReport
from datasets_io.ingestion.workspace import SHARDS
from datasets_io.ingestion.writing import PartWriter
from datasets_io.shards.scenes import SCENES_FOLDER as SCENES
from datasets_io.source import Source
from datasets_io.storage import Place


@dataclass(frozen=True)
class PartJob:
    """Settings and paths with which a worker writes any part of an ingest.

    Args:
        source: Source of the episodes.
        folder: Folder of the data set.
        reports: Folder of the reports of the parts.
        options: Options of the ingest.
        discount: Discount of a stored column `ret`, or None.
        split: Number of rows after which a new file begins, or None for one file per part.
        prefix: Prefix of the file names.
        id_prefix: Prefix of the ids of episodes without an id.
    """

    source: Source
    folder: Place
    reports: Place
    options: IngestOptions
    discount: float | None
    split: int | None
    prefix: str = ""
    id_prefix: str = ""

    def write(self, index: int, part: Any, progress: Callable[[int], None] | None = None) -> PartReport:
        """Write part `index` and then its report."""
        source = copy(self.source)
        source.__dict__["_faults"], source.__dict__["_quarantined"] = [], []  # those of this part alone
        writer = PartWriter(
            self.folder,
            index,
            self.options,
            discount=self.discount,
            split=self.split,
            prefix=self.prefix,
            id_prefix=self.id_prefix,
            progress=progress,
        )
        report = writer.write(source.episodes(part), source.faults)
        report.quarantined = source.quarantined
        storage.write_text(self.reports / _report_name(index), report.to_json())
        return report

    def report(self, index: int) -> PartReport | None:
        """Read the report of a part; return None if the part is not finished, or its report is damaged."""
        path = self.reports / _report_name(index)
        if not storage.is_file(path):
            return None
        try:
            return PartReport.from_json(storage.read_bytes(path))
        except Corrupt:
            return None

    def finished(self, count: int) -> list[PartReport | None]:
        """Return one report per part of `count` parts; None for a part that is unfinished or damaged."""
        sizes = {
            (kind, name): size
            for kind in (SHARDS, SCENES)
            for name, size in storage.sizes(self.folder / kind).items()
        }
        written = storage.sizes(self.reports)
        found = [self.report(index) if _report_name(index) in written else None for index in range(count)]

        def is_whole(report: PartReport) -> bool:
            listed = [(SHARDS, file) for file in report.files]
            listed += [(SCENES, file) for file in report.scene_files]
            return all(sizes.get((kind, file["name"])) == file["bytes"] for kind, file in listed)

        return [report if report is not None and is_whole(report) else None for report in found]


def _report_name(index: int) -> str:
    return f"{index:05d}.json"
