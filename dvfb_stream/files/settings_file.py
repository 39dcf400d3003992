"""Settings files that people write: TOML, checked by a pydantic model, refused in one line that names the file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from dvfb_stream.errors import DvfbError, GeometryError, SettingsError
from dvfb_stream.files.detector_description import DetectorDescription
from dvfb_stream.files.run_detector import RunDetector
from dvfb_stream.frame_arrays import FrameArray, named_arrays
from dvfb_stream.frames import Geometry


class Settings(BaseModel):
    """A table of a settings file: no key unknown, nothing changed after reading, no value shown in errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


SettingsT = TypeVar("SettingsT", bound=Settings)


def _without_key(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("must begin with http:// or https://")
    if "api_key" in parse_qs(parts.query) or parts.password:
        raise ValueError("must not contain a key; put it into the environment variable TILED_API_KEY")
    return uri


Text = Annotated[str, Field(min_length=1)]
ServerAddress = Annotated[Text, AfterValidator(_without_key)]
"""Address of a Tiled server or of a container on it; keys stay in the environment."""


def _named(names: tuple[str, ...]) -> tuple[FrameArray, ...]:
    try:
        return named_arrays(names)
    except SettingsError as error:
        raise ValueError(str(error)) from None


ArrayNames = Annotated[tuple[str, ...], AfterValidator(_named)]
"""What is kept of each frame besides its row: ``coefficients``, ``features``."""


def read_settings_file(path: Path, model: type[SettingsT], *, what: str) -> SettingsT:
    """Return the settings in a TOML file.

    Parameters
    ----------
    path
        The file. Validators of `model` find its folder in their context, as ``folder``.
    model
        What the file may say.
    what
        What messages call the file: ``configuration``, ``beamline``.

    Raises
    ------
    SettingsError
        When the file cannot be read, is not TOML, or says something that `model` does not know.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the {what} {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the {what} {path} is not TOML: {error}") from error
    try:
        return model.model_validate(content, context={"folder": path.parent})
    except ValidationError as error:
        # from None: the message says it all, and IPython would print pydantic's traceback before it.
        raise SettingsError(f"the {what} {path} is refused: {faults_in(error)}") from None


def read_geometries(
    detectors: Mapping[str, DetectorDescription], path: Path, *, what: str
) -> dict[str, Geometry | RunDetector]:
    """Return the geometry of each data key, or what finds centre or shape in the documents of a run.

    Relative paths in the descriptions start from the folder of `path`.

    Raises
    ------
    SettingsError
        When a file is missing or wrong.
    """
    geometries: dict[str, Geometry | RunDetector] = {}
    for key, description in detectors.items():
        try:
            if description.from_file:
                raise GeometryError(
                    "from_file is for files; of a run, from_run says where its documents have the centre"
                )
            detector = description.load(path.parent)
            if description.from_run is None and detector.usual_shape is not None:
                geometries[key] = detector.geometry()
            else:
                geometries[key] = RunDetector(description.from_run, detector)
        except DvfbError as error:
            raise SettingsError(f"the {what} {path} is refused: detectors.{key}: {error}") from error
    return geometries


def faults_in(error: ValidationError) -> str:
    """Return, in one line, where a file that people wrote is wrong and why: ``detectors.saxs: ...; model: ...``."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'file'}: "
        + {"extra_forbidden": "there is no such key"}.get(
            fault["type"], fault["msg"].removeprefix("Value error, ")
        )
        for fault in error.errors(include_url=False)
    )
