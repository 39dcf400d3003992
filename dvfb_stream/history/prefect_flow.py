"""A Prefect flow that annotates a raw run at its end; deployed by ``docs/prefect/prefect.yaml``."""

from __future__ import annotations

from typing import Any

from dvfb_stream.errors import MissingExtraError
from dvfb_stream.history.single_run import annotate_run

try:
    from prefect import flow, get_run_logger, task
    from prefect.task_runners import ProcessPoolTaskRunner
except ImportError as error:
    raise MissingExtraError(error.name or "prefect", "prefect") from error

_SECONDS_BETWEEN_TRIES = [10.0, 60.0, 300.0, 1800.0]
"""The stop of a run may not be stored yet; a catalog may be started again, or mended in the morning."""


@task(retries=len(_SECONDS_BETWEEN_TRIES), retry_delay_seconds=_SECONDS_BETWEEN_TRIES)
def annotate_stored_run(
    uid: str,
    tiled: str,
    beamline: str,
    model: str = "default",
    again: list[str] | None = None,
) -> dict[str, Any]:
    """Annotate a raw run by `annotate_run`; return its report, JSON-ready."""
    report = annotate_run(uid, tiled=tiled, beamline=beamline, model=model, again=again or ())
    rows = ", ".join(f"{count} {status}" for status, count in sorted(report.rows.items()))
    get_run_logger().info("run %s: %s", uid, rows or "nothing was to be done")
    return report.as_json()


@flow(name="dvfb-end-of-run")
def end_of_run_workflow(
    stop_doc: dict[str, Any],
    tiled: str,
    beamline: str,
    model: str = "default",
) -> dict[str, Any]:
    """Annotate the run that a stop document ends.

    Parameters
    ----------
    stop_doc
        Of the raw run; ``run_start`` of it is enough.
    tiled, beamline, model
        As `annotate_run` takes them; the beamline's file must be there where the flow runs.

    Returns
    -------
    dict
        The report, JSON-ready.
    """
    report: dict[str, Any] = annotate_stored_run(stop_doc["run_start"], tiled, beamline, model)
    return report


_PROCESSES: Any = ProcessPoolTaskRunner()
"""As many as there are cores; an annotator takes one run at a time."""


@flow(name="dvfb-annotate-runs", task_runner=_PROCESSES)
def annotate_runs(
    uids: list[str],
    tiled: str,
    beamline: str,
    model: str = "default",
    again: list[str] | None = None,
) -> list[dict[str, Any]]:
    """Annotate raw runs, each in one of as many processes as there are cores; return their reports.

    ``annotate_runs.with_options(task_runner=...)`` runs them elsewhere, on Dask by prefect-dask for example.
    """
    futures = [annotate_stored_run.submit(uid, tiled, beamline, model, again) for uid in uids]
    return [future.result() for future in futures]
