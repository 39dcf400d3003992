"""The description of a beamline: a TOML file that says which data keys are detectors and where results go."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from dvfb_stream.files import DetectorDescription
from dvfb_stream.files.run_detector import RunDetector
from dvfb_stream.files.settings_file import (
    ArrayNames,
    ServerAddress,
    Settings,
    Text,
    read_geometries,
    read_settings_file,
)
from dvfb_stream.frames import Geometry
from dvfb_stream.isolation.file_settings import FileSettings

BEAMLINE_VARIABLE = "DVFB_BEAMLINE"
"""Environment variable that names the TOML file of the beamline."""
CATALOG_VARIABLE = "TILED_URI"
"""Environment variable with the address of a Tiled container; it wins over what the description says."""

SIMULATED = Path(__file__).resolve().parent / "beamlines" / "simulated.toml"
"""The beamline of those who have none."""


class CatalogDescription(Settings):
    """Where analysis runs are stored: on a Tiled server, or in a folder that this process serves itself."""

    uri: ServerAddress | None = None
    """Address of a Tiled server or of a container on it, without the API key: that is in ``TILED_API_KEY``."""
    folder: Path | None = None
    """Folder of an embedded Tiled server, for trying things out; one process at a time."""
    batch_size: PositiveInt = 64
    """Most rows written at a time. None waits for others for more than half a second."""
    spool: Path | None = None
    """Folder on a local disk where rows are until the catalog has them. None: one for the address, below that of this
    user's spools; of a folder that is served, ``spool`` in it."""
    max_spool_bytes: Annotated[int, Field(ge=1 << 16)] = 1 << 30
    """Size of that folder; rows that do not fit are lost, and counted."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.uri is None) == (self.folder is None):
            raise ValueError("give one of uri and folder")
        return self


class SimulationDescription(Settings):
    """A simulated detector in place of real ones."""

    detector: Text = "det"
    """Name of the device; its data key is ``<detector>_image``, and its geometry need not be given."""
    seed: NonNegativeInt = 0
    """Seed of the frames and of the geometry."""


class BeamlineDescription(Settings):
    """The whole file."""

    name: Text
    """Of the beamline; run start documents carry it as `beamline_id`."""
    model: Text = "default"
    """Name or folder of the model bundle."""
    device: Text = "auto"
    """Where the model runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``."""
    annotate_in: Literal["process", "thread"] = "process"
    """Read and annotate in processes of their own, beside the RunEngine's, or in threads of it."""
    policy: Literal["drop-newest", "sample", "block"] = "drop-newest"
    """When the queue is full: give the frame a row that says so, let in fewer before it is full, or let the plan
    wait."""
    max_frames: PositiveInt = 256
    """Frames that may wait to be annotated."""
    max_bytes: PositiveInt = 1 << 30
    """Bytes of the frames that may wait to be annotated."""
    patience: NonNegativeFloat = 30.0
    """Seconds that the file of a frame may be late before the frame gets a row that says so."""
    root_map: dict[str, str] = Field(default_factory=dict)
    """Other places for the folders that documents name: ``"/ioc/data" = "/mnt/data"``."""
    files: FileSettings = FileSettings()
    """Which files ``dvfb annotate --tiled`` opens that stored runs name. Live, files are those of this session's own
    detectors, and all are opened."""
    handlers: dict[str, str] = Field(default_factory=dict)
    """Classes that read old-style resources, by spec: ``MY_SPEC = "package.module:Class"``."""
    arrays: ArrayNames = ()
    """What is kept of each frame besides its row: ``coefficients``, ``features``."""
    metrics_port: PositiveInt | None = Field(default=None, le=65535)
    """Port on which Prometheus finds what is counted and timed; None: none."""
    catalog: CatalogDescription
    """Where analysis runs are stored."""
    detectors: dict[str, DetectorDescription] = Field(default_factory=dict)
    """Geometry by data key."""
    simulation: SimulationDescription | None = None
    """Present: the profile makes a simulated detector and a motor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beamline:
    """A beamline's description, read and checked."""

    path: Path
    """The file."""
    description: BeamlineDescription
    geometries: dict[str, Geometry | RunDetector]
    """Geometry by data key, of the described detectors; or what finds it in the documents of each run."""

    @property
    def model(self) -> str:
        """Name or folder of the model bundle; a folder beside the file is found from anywhere."""
        beside = self.path.parent / self.description.model
        return str(beside) if (beside / "model.json").is_file() else self.description.model


def read_beamline(path: str | Path | None = None) -> Beamline:
    """Return the beamline that a TOML file describes; relative paths in it start from its folder.

    Parameters
    ----------
    path
        None: the file that the environment variable DVFB_BEAMLINE names, or else the simulated beamline.

    Raises
    ------
    SettingsError
        When the file cannot be read, is not TOML, says something unknown, or a detector's geometry cannot be had.
    """
    path = Path(path or os.environ.get(BEAMLINE_VARIABLE) or SIMULATED).expanduser().resolve()
    description = read_settings_file(path, BeamlineDescription, what="beamline")
    geometries = read_geometries(description.detectors, path, what="beamline")
    return Beamline(path=path, description=description, geometries=geometries)
