"""An annotator whose work is done by a process of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from weakref import WeakValueDictionary

from numpy.typing import NDArray

from dvfb_stream import errors
from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.device_failures import Cause, ReportedFailureError
from dvfb_stream.errors import DvfbError
from dvfb_stream.frame_annotator import FrameAnnotator, StageReport
from dvfb_stream.frames import Frame
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.isolation.service_process import ServiceProcess
from dvfb_stream.isolation.shared_batches import BatchWriter, annotation_from_json
from dvfb_stream.metrics import Metrics, Stage

SECONDS_TO_ANSWER = 120.0
"""A batch takes a tenth of a second, and the first of a geometry one more. What takes so long is stuck."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class PreparedThere:
    """A frame that is being prepared in the other process."""

    number: int
    frame: Frame
    """Its pixels lie in the memory that both see, and must not be used again before it is annotated."""
    masks: Sequence[NDArray[Any]]
    """So does its mask."""


class AnnotatorProcess(FrameAnnotator):
    """Annotates in a process of its own, at a lower priority, and starts it again when it ends.

    Made for the process in which a RunEngine runs plans: Python runs one thread at a time there, and an annotator in
    another thread takes a millisecond or two of it for each frame. Whatever happens to the other process (its
    memory is exhausted, its device is lost, a library brings it down) costs rows or time, and not the plan.

    Pixels lie in memory that both processes see; annotations come back as JSON. The process is started, and
    the model loaded, while this is made; how it goes on, see `ServiceProcess`. While it starts again, calls raise
    `Failure.NOT_READY`, for which a `Worker` lets frames wait. Should another model be loaded then, that is refused.

    `annotate` and `annotate_prepared` are for one thread at a time, `prepare` for another meanwhile; `close` may be
    called from any, and makes what is under way raise.

    Parameters
    ----------
    factory
        What makes the annotator there, as ``module:name``: called with `settings`.
    settings
        JSON-ready; `fall_back` sets ``device`` in it.
    memory
        Frames whose pixels lie there are not copied, others are; None: one of its own.
    answer_within
        Seconds after which a process that does not answer is ended.
    metrics
        Restarts are counted in it.

    Raises
    ------
    DvfbError
        What the factory raised there, of the same class: a BundleError when there is no such model.
    ReportedFailureError
        When the process does not start, or the factory raised anything else.
    SettingsError
        When a time is not positive.
    """

    def __init__(
        self,
        factory: str,
        settings: Mapping[str, Any],
        *,
        memory: FrameMemory | None = None,
        answer_within: float = SECONDS_TO_ANSWER,
        metrics: Metrics | None = None,
    ) -> None:
        memory = FrameMemory() if memory is None else memory
        self._report: StageReport | None = None
        self._process = ServiceProcess(
            f"{__package__}.annotator_service:AnnotatorService",
            {"factory": factory, "settings": dict(settings)},
            memory=memory,
            called="the annotator",
            answer_within=answer_within,
            on_restart=self._check_identity,
            metrics=metrics,
        )
        self._batches = BatchWriter(memory)
        try:
            description = self._process.start()
        except BaseException as error:
            self._process.close()
            if isinstance(error, ReportedFailureError):
                raise _as_there(error) from None
            raise
        self._identity = ModelIdentity(**description["identity"])
        self._provenance: dict[str, Any] = description["provenance"]
        self._prepares_ahead: bool = description["prepares_ahead"]
        self._arrays = {name: tuple(shape) for name, shape in description["arrays"].items()}
        self._kept: tuple[str, ...] = ()
        # Guards the next two.
        self._numbering = threading.Lock()
        self._next_number = 0
        self._there: WeakValueDictionary[int, PreparedThere] = WeakValueDictionary()

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] = "default",
        *,
        device: str = "auto",
        memory: FrameMemory | None = None,
        metrics: Metrics | None = None,
    ) -> Self:
        """Return the process that annotates with a bundle; as `dvfb_stream.Annotator.load`, which it calls."""
        return cls(
            "dvfb_stream.annotator:Annotator.load",
            {"model": str(model), "device": device},
            memory=memory,
            metrics=metrics,
        )

    @property
    def identity(self) -> ModelIdentity:
        """Which model annotates."""
        return self._identity

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        return self._process.pid

    def provenance(self) -> dict[str, Any]:
        """Return what the annotator says of itself."""
        return dict(self._provenance)

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays that annotations can carry."""
        return dict(self._arrays)

    def keep_arrays(self, names: Sequence[str]) -> None:
        """From now on have annotations carry these arrays, besides those asked for before."""
        # Said with each batch, so that a process that was started again knows.
        self._kept = tuple(dict.fromkeys([*self._kept, *names]))

    def report_stages(self, report: StageReport | None) -> None:
        """From now on call `report` with the durations of the stages there; None: no more."""
        self._report = report

    @property
    def prepares_ahead(self) -> bool:
        """Whether frames should be prepared before their batch is complete: where the annotator has a GPU."""
        return self._prepares_ahead

    def prepare(self, frame: Frame) -> PreparedThere:
        """Have a frame prepared there, while another batch is annotated; return at once.

        Raises
        ------
        FrameError
            When pixels are no numbers.
        """
        placed = self._batches.placed(frame)
        batch, masks = self._batches.as_json([placed])
        with self._numbering:
            there = self._there[self._next_number] = PreparedThere(self._next_number, placed, masks)
            self._next_number += 1
        self._process.notify({"number": there.number, "batch": batch})
        return there

    def annotate_prepared(self, prepared: Sequence[PreparedThere]) -> list[Annotation]:
        """Return one annotation for each frame that `prepare` has taken, in order; otherwise as `annotate`."""
        return self._annotated([one.frame for one in prepared], [one.number for one in prepared])

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        """Return one annotation per frame, in order.

        Raises
        ------
        FrameError
            When pixels are no numbers.
        ReportedFailureError
            When the annotator raised, or its process ended, did not answer in time, or could not be started again.
        """
        return self._annotated([self._batches.placed(frame) for frame in frames], [])

    def _annotated(self, frames: Sequence[Frame], numbers: Sequence[int]) -> list[Annotation]:
        with self._process.asking() as ask:
            batch, masks = self._batches.as_json(frames)
            asked = {"batch": batch, "numbers": numbers, "oldest": self._oldest(), "arrays": self._kept}
            answer = ask(asked, [*frames, *masks])
        if self._report is not None:
            for stage, seconds in answer["stages"]:
                self._report(Stage(stage), seconds)
        return [
            annotation_from_json(told, model=self._identity, origin=frame.origin)
            for told, frame in zip(answer["annotations"], frames, strict=True)
        ]

    def _oldest(self) -> int:
        """Return the number from which on frames that are prepared there may still be asked for."""
        with self._numbering:
            return min(self._there.keys(), default=self._next_number)

    def fall_back(self) -> str:
        """Annotate on the CPU from now on, in a new process: the lost device goes with the old one."""
        settings = self._process.settings["settings"]
        if settings.get("device") != "cpu":
            self._process.settings["settings"] = {**settings, "device": "cpu"}
            self._prepares_ahead = False
            self._process.end()
        return "cpu"

    def close(self) -> None:
        """End the process. What it is at is given up."""
        self._process.close()

    def _check_identity(self, description: Mapping[str, Any]) -> None:
        identity = ModelIdentity(**description["identity"])
        if identity != self._identity:
            raise ReportedFailureError(
                f"the model was {self._identity} and is {identity} now: close the annotator and make it anew",
                cause=Cause.NOT_STARTED,
            )


def _as_there(error: ReportedFailureError) -> DvfbError:
    """Return the error that the factory raised."""
    kind = getattr(errors, error.error, None)
    # Not those that are made of something other than their message.
    if isinstance(kind, type) and issubclass(kind, DvfbError) and kind.__init__ is DvfbError.__init__:
        return kind(str(error))
    return error
