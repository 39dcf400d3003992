"""How raw runs are annotated, in words that can be said to another process: which model, which detectors."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from dvfb_stream.errors import SettingsError
from dvfb_stream.files import DetectorDescription
from dvfb_stream.files.settings_file import read_geometries
from dvfb_stream.isolation.file_settings import FileSettings
from dvfb_stream.profiles.beamline_description import read_beamline

if TYPE_CHECKING:
    from dvfb_stream.callbacks.descriptor import Detectors
    from dvfb_stream.history.annotating import HistoryAnnotator

DEFAULT_MODEL = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySettings:
    """JSON-ready, and small: what it names is read where the work is done."""

    beamline: str | None = None
    """TOML file that describes detectors, folders mounted elsewhere and the model; None: there is none."""
    detectors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Without a beamline: a `DetectorDescription` by data key, as its ``model_dump(mode="json")`` says it."""
    folder: str = "."
    """From which relative paths in those start."""
    model: str = DEFAULT_MODEL
    """Name or folder of a bundle; ``default``: the beamline's."""
    device: str = "auto"
    thresholds: str = "best_f1"
    batch_size: int = 16
    again: tuple[str, ...] = ()
    """Statuses of rows that may be replaced by better ones; none: rows that are there stay."""
    allowed_roots: tuple[str, ...] = ()
    """Folders below which files may be opened that documents name, besides those of the beamline's ``[files]``."""
    arrays: tuple[str, ...] | None = None
    """What is kept of each frame besides its row; None: what the beamline's file says."""
    annotator: str = "dvfb_stream.annotator:Annotator.load"
    """What makes the annotator, as ``module:name``: called with model, device and thresholds."""

    def history(
        self,
        client: Any,
        *,
        detectors: Detectors | None = None,
        spool: str | Path | Literal[False] | None = None,
        on_row: Callable[[str], None] | None = None,
        on_storing: Callable[[], None] | None = None,
    ) -> HistoryAnnotator:
        """Return what annotates so.

        Parameters
        ----------
        client
            Tiled client of the container of raw runs.
        detectors
            Geometry by data key, in place of what is described here.
        spool, on_row, on_storing
            See `HistoryAnnotator`.

        Raises
        ------
        DvfbError
            When the beamline's file, a detector, the model or the device is refused.
        """
        # Here: whoever only describes the work imports neither Bluesky's documents nor the worker.
        from dvfb_stream.annotations import Status
        from dvfb_stream.history.annotating import HistoryAnnotator
        from dvfb_stream.history.due import Again

        model, root_map, arrays, files = self.model, None, self.arrays, FileSettings()
        if self.beamline is not None:
            beamline = read_beamline(self.beamline)
            root_map = beamline.description.root_map
            files = beamline.description.files
            detectors = beamline.geometries if detectors is None else detectors
            arrays = beamline.description.arrays if arrays is None else arrays
            model = beamline.model if model == DEFAULT_MODEL else model
        elif detectors is None and self.detectors:
            described = {key: DetectorDescription(**said) for key, said in self.detectors.items()}
            detectors = read_geometries(described, Path(self.folder) / "options", what="detector given by")
        return HistoryAnnotator(
            client,
            _loaded(self.annotator, model, self.device, self.thresholds),
            detectors=detectors,
            root_map=root_map,
            files=allowing(files, self.allowed_roots),
            again=Again(frozenset(map(Status, self.again))) if self.again else None,
            on_row=on_row,
            on_storing=on_storing,
            batch_size=self.batch_size,
            spool=spool,
            arrays=arrays or (),
        )


def allowing(files: FileSettings, roots: Sequence[str]) -> FileSettings:
    """Return these settings with further roots.

    Raises
    ------
    SettingsError
        When one of them is none.
    """
    try:
        return FileSettings(**{**files.model_dump(), "allowed_roots": [*files.allowed_roots, *roots]})
    except ValidationError as error:
        raise SettingsError(
            "; ".join(told["msg"].removeprefix("Value error, ") for told in error.errors())
        ) from None


@lru_cache(maxsize=2)
def _loaded(factory: str, model: str, device: str, thresholds: str) -> Any:
    """Return an annotator, which takes seconds to load: a worker of a cluster annotates run after run with it."""
    module, _, name = factory.partition(":")
    return attrgetter(name)(importlib.import_module(module))(model, device=device, thresholds=thresholds)
