"""Plans that act on what the frames show."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import numpy as np
from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from bluesky.utils import Msg

from dvfb_stream.callbacks.latest_annotations import LatestAnnotations
from dvfb_stream.errors import SettingsError
from dvfb_stream.labels import ALL_LABELS

Plan = Generator[Msg, Any, Any]


class AnnotationSource(Protocol):
    """A callback that annotates; `LiveAnnotator` is one."""

    @property
    def annotations(self) -> LatestAnnotations:
        """What was annotated last."""
        ...


def newest_annotation(
    live: AnnotationSource, data_key: str, *, after: int | None = None, timeout: float = 30.0
) -> Plan:
    """Wait, as a plan does, for the annotation of the frame that was taken last.

    Use it as ``annotation = yield from newest_annotation(live, "saxs_image")``, after the frame was read. The
    RunEngine can be paused and aborted meanwhile.

    Parameters
    ----------
    live
        The subscribed callback.
    data_key
        Of the detector's image.
    after
        What ``live.annotations.mark()`` returned before the frame was read: no earlier frame is taken for it.
    timeout
        Seconds after which it is given up.

    Returns
    -------
    Annotation or None
        None where it did not come in time. Its `ok` is False where the frame could not be annotated.

    Raises
    ------
    LookupError
        When no frame of the data key was seen, or none after the mark.
    """
    return (yield from _result_of(live.annotations.of_newest(data_key, after=after), timeout))


def _result_of(future: Future[Any], timeout: float) -> Plan:
    """Wait as a plan does, and return what came; None where it did not in time."""

    async def come() -> None:
        await asyncio.wait([asyncio.wrap_future(future)], timeout=timeout)

    yield from bps.wait_for([come])
    return future.result() if future.done() else None


def scan_until(
    detectors: Sequence[Any],
    motor: Any,
    start: float,
    stop: float,
    num: int,
    *,
    live: AnnotationSource,
    data_key: str,
    label: str = "four_fold",
    timeout: float = 30.0,
    md: Mapping[str, Any] | None = None,
) -> Plan:
    """Scan a motor until a frame is accepted to have a label; leave the motor there.

    A point is judged by all frames that it took: the label of one of them ends the scan, a doubtful one does not. A
    paused scan goes on at the point where it was.

    Parameters
    ----------
    detectors
        Read at every point; one of them takes the images.
    motor
        Moved in `num` even steps from `start` to `stop`.
    live
        The callback that is subscribed to the RunEngine.
    data_key
        Of the image that is judged.
    label
        One of `dvfb_stream.labels.ALL_LABELS`, and one that the model knows.
    timeout
        Seconds to wait for an annotation; a point without one does not end the scan.
    md
        Metadata of the run.

    Returns
    -------
    float or None
        Where the label appeared; None: nowhere.

    Raises
    ------
    SettingsError
        When there is no such label, or the model gives no probability of it: nothing would ever end the scan.
    LookupError
        When a point took no frame that the callback knows of: nothing would ever end the scan.
    """
    if label not in ALL_LABELS:
        raise SettingsError(f"there is no label {label!r}; there are {', '.join(ALL_LABELS)}")

    found: list[float] = []

    def points() -> Plan:
        for position in np.linspace(start, stop, num):
            yield from bps.checkpoint()
            mark = live.annotations.mark()
            yield from bps.mv(motor, float(position))
            yield from bps.trigger_and_read([*detectors, motor])
            labels = yield from _result_of(live.annotations.labels_of_newest(data_key, after=mark), timeout)
            if labels is not None and label in labels:
                found.append(float(position))
                return
            latest = live.annotations.latest(data_key)
            if latest is not None and latest.scores and label not in latest.scores:
                raise SettingsError(
                    f"the model {latest.model} does not know {label!r}; it knows {', '.join(latest.scores)}"
                )

    # Bluesky does not type its wrappers. The one around a run returns the run's uid.
    in_a_run: Callable[..., Plan] = bpp.run_wrapper
    staged: Callable[..., Plan] = bpp.stage_wrapper
    run = in_a_run(points(), md={"plan_name": "scan_until", "until": label, **(md or {})})
    yield from staged(run, [*detectors, motor])
    return found[0] if found else None
