"""Parallel writing of the parts of an ingest through Ray Data, if that saves more time than Ray's start."""

import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from datasets_io import ray_internals
from datasets_io.errors import UserError
from datasets_io.ingestion.part_job import PartJob
from datasets_io.ingestion.part_report import PartReport
from datasets_io.local_ray import start_ray, stop_ray

# Ray and its first worker start in 5-10 s; one process writes about a million rows in that time. So this
# process writes parts as long as the remaining ones, at the measured speed, take less time than that.
# $RAY_ADDRESS names a running cluster, which is used immediately.
PATIENCE_S = 10.0


def run_parts(
    job: PartJob, parts: list[Any], progress: Callable[[int, int, int], None] | None
) -> list[PartReport]:
    """Write all parts that are not finished.

    Args:
        job: Writer of one part.
        parts: The parts that `Source.parts` returned.
        progress: Callback with the arguments (rows, parts finished, number of parts).

    Returns:
        The reports, in the order of `parts`.

    Raises:
        UserError: The error of a part, raised in this process or in a worker.
    """
    reports = job.finished(len(parts))
    todo = [index for index, report in enumerate(reports) if report is None]
    start_time, done = time.monotonic(), 0
    patience = 0.0 if os.environ.get("RAY_ADDRESS") else PATIENCE_S

    def report_progress(more: int = 0) -> None:
        if progress is not None:
            finished_rows = [report.rows for report in reports if report is not None]
            progress(sum(finished_rows) + more, len(finished_rows), len(parts))

    while todo:
        left = len(todo) * (time.monotonic() - start_time) / done if done else 0.0
        if len(todo) > 1 and left >= patience:
            _through_ray(job, parts, todo, reports, report_progress)
            break
        index = todo.pop(0)
        reports[index] = job.write(index, parts[index], report_progress)
        done += 1
    report_progress()
    return [report for report in reports if report is not None]


def _through_ray(
    job: PartJob,
    parts: list[Any],
    todo: list[int],
    reports: list[PartReport | None],
    report_progress: Callable[[], None],
) -> None:
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    import ray
    import ray.data
    from ray import cloudpickle

    started_here = not ray.is_initialized()
    if started_here and os.environ.get("RAY_ADDRESS"):
        ray.init(
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            job_config=ray_internals.job_config(),
        )
    elif started_here:
        start_ray()
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)  # it logs each step of its plan
        # Bytes, not objects: a worker must extend sys.path before it can import a user's source.
        payload = ray.put((os.getcwd(), sys.path, cloudpickle.dumps((job, parts))))

        def task(row: dict[str, Any]) -> dict[str, Any]:
            folder, path, pickled = ray.get(payload)
            with suppress(OSError):  # without this folder, the source works or raises its own error
                os.chdir(folder)
            sys.path.extend(entry for entry in path if entry not in sys.path)
            its_job, its_parts = cloudpickle.loads(pickled)
            index = int(row["index"])
            try:
                if its_job.report(index) is None:  # a retried task may find its part finished
                    its_job.write(index, its_parts[index])
            except UserError as error:  # returned as data: Ray would wrap a raised error in a traceback
                return {"index": index, "error": cloudpickle.dumps(error)}
            return {"index": index, "error": b""}

        rows = [{"index": index} for index in todo]
        finished = ray.data.from_items(rows, override_num_blocks=len(rows)).map(task)
        for row in finished.iter_rows():
            if row["error"]:
                raise cloudpickle.loads(row["error"])
            report = job.report(row["index"])
            if report is None:
                raise UserError(
                    f"a part was written on another machine, but is missing in {job.folder} here.",
                    "On a cluster the folder of data sets must be shared by all machines.",
                    "OFF2ON_DATA=/shared/folder off2on data add …",
                )
            reports[row["index"]] = report
            report_progress()
    finally:
        if started_here:
            stop_ray()
