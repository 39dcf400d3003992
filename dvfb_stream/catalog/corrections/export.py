"""Gives what people said of frames to those who adapt and measure models: a folder of pixels and labels."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.connection import check_container
from dvfb_stream.catalog.corrections.correction import Correction, by_frame, stated_labels
from dvfb_stream.catalog.corrections.finding import Progress
from dvfb_stream.catalog.corrections.model_rows import Analysis, analyses_of, centres_of_frames
from dvfb_stream.catalog.corrections.reading import corrections_of
from dvfb_stream.catalog.raw_images import image_node, read_image
from dvfb_stream.catalog.raw_runs import raw_container
from dvfb_stream.errors import DvfbError, FrameError, MissingExtraError, SettingsError
from dvfb_stream.frames import Origin
from dvfb_stream.labels import LABELS

TABLE, LIST = "labels.csv", "labels.json"
_MASK = "mask"
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


class Others(StrEnum):
    """What is said of labels that nobody spoke of."""

    UNKNOWN = "unknown"
    """Nothing: they are not known."""
    MODEL = "model"
    """What the model said that was corrected: accepted ones are there, rejected ones not, doubtful ones not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What came of an export."""

    folder: Path
    frames: int
    """That are in the folder."""
    table_frames: int
    """Of them: with a label that `dvfb adapt` knows, in ``labels.csv``."""
    left_out: tuple[tuple[Origin, str], ...]
    """Frames that people spoke of and that are not, with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labelled:
    origin: Origin
    analysis: Analysis
    center: tuple[float, float]
    labels: Mapping[str, bool]
    said: Sequence[Correction]


def export_labels(
    client: Any,
    folder: Path,
    *,
    raw_uids: Iterable[str] | None = None,
    others: Others = Others.UNKNOWN,
    masks: Sequence[NDArray[np.bool_]] = (),
    on_progress: Progress | None = None,
) -> Exported:
    """Write the frames that people spoke of, with their labels, into a folder.

    ``labels.csv`` is the table that `dvfb adapt` takes, ``labels.json`` the list of a folder of real frames that
    `dvfb evaluate --real` takes; both name frames in HDF5 files beside them, one for each data key of a raw run,
    with the pixels as the detector counted them. What is undone does not count.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs.
    folder
        Not there yet, or empty; it appears when all is written.
    raw_uids
        Whole uids of raw runs; None: all.
    others
        What is said of labels that nobody spoke of.
    masks
        (H, W) each, True = valid; a frame gets the one of its shape. Catalogs do not keep them.
    on_progress
        Told how far it is.

    Raises
    ------
    SettingsError
        When nobody spoke of any frame, or the folder cannot be written.
    StoreUnavailableError, StoreRefusedError
        When Tiled does not answer.
    """
    check_container(client)
    tell = on_progress or (lambda *_: None)
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("h5py", "files") from error
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder} exists already; give another folder, or delete it")
    spoken_of = by_frame(one for one in corrections_of(client, raw_uids) if not one.undone_by)
    if not spoken_of:
        raise SettingsError(
            "nobody has corrected anything there that is not undone; see dvfb corrections list"
        )
    left_out: list[tuple[Origin, str]] = []
    labelled = list(_labelled(client, spoken_of, others, left_out))
    with told_apart("reading frames"):
        raw = raw_container(client)
    beside = _beside(folder)
    try:
        entries, done, names = list[dict[str, Any]](), 0, set[str]()
        for (run_uid, stream, data_key), frames in _by_data_key(labelled).items():
            name = _name_of_file(f"{run_uid}-{stream}-{data_key}", names)
            with h5py.File(beside / name, "a") as file:
                for frame in frames:
                    tell("writing frames", done, len(labelled))
                    done += 1
                    try:
                        entries.append({"file": name} | _written(file, raw, frame, masks))
                    except DvfbError as error:
                        left_out.append((frame.origin, str(error)))
        if not entries:
            raise SettingsError(f"none of {len(spoken_of)} frames can be exported: {left_out[0][1]}")
        in_table = _write_table(beside / TABLE, entries)
        (beside / LIST).write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
        beside.chmod(0o777 & ~_umask())
        os.replace(beside, folder)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Exported(folder=folder, frames=len(entries), table_frames=in_table, left_out=tuple(left_out))


def _labelled(
    client: Any,
    spoken_of: Mapping[Origin, Sequence[Correction]],
    others: Others,
    left_out: list[tuple[Origin, str]],
) -> Iterator[_Labelled]:
    with told_apart("looking for annotations"):
        of_runs = analyses_of(client, dict.fromkeys(origin.run_uid for origin in spoken_of))
    analyses = {one.uid: one for found in of_runs.values() for one in found}
    centres: dict[str, dict[int, tuple[float, float]]] = {}
    for origin, said in spoken_of.items():
        row = said[-1].row
        analysis = analyses.get(row.analysis_uid)
        if analysis is None:
            left_out.append(
                (origin, f"the analysis {row.analysis_uid} that was corrected is not there any more")
            )
            continue
        if analysis.uid not in centres:
            with told_apart(f"reading the rows of {analysis}"):
                centres[analysis.uid] = centres_of_frames(client.context, analysis)
        center = centres[analysis.uid].get(origin.index)
        if center is None:
            left_out.append((origin, "its beam centre is not known: it was annotated without geometry"))
            continue
        labels = stated_labels(said)
        if others is Others.MODEL:
            rest = {label: label in row.labels for label in row.scores if label not in row.doubtful}
            labels = rest | labels
        yield _Labelled(origin=origin, analysis=analysis, center=center, labels=labels, said=said)


def _name_of_file(what: str, taken: set[str]) -> str:
    """Return the name of a file for something, and take it; streams ``a/b`` and ``a-b`` get one each."""
    plain = _ODD.sub("-", what[:200])
    name = next(one for number in count() if (one := f"{plain}.{number}" if number else plain) not in taken)
    taken.add(name)
    return f"{name}.h5"


def _by_data_key(labelled: Iterable[_Labelled]) -> dict[tuple[str, str, str], list[_Labelled]]:
    found: dict[tuple[str, str, str], list[_Labelled]] = {}
    for one in labelled:
        found.setdefault((one.origin.run_uid, one.origin.stream, one.origin.data_key), []).append(one)
    return {key: sorted(frames, key=lambda one: one.origin.index) for key, frames in found.items()}


def _written(file: Any, raw: Any, frame: _Labelled, masks: Sequence[NDArray[np.bool_]]) -> dict[str, Any]:
    """Write a frame and return what the list says of it."""
    origin = frame.origin
    with told_apart(f"reading frame {origin.index} of run {origin.run_uid}"):
        pixels = read_image(image_node(raw, origin), origin.index)
    dataset = f"frames/{origin.index}"
    mask = _mask_of(pixels, masks)
    file.create_dataset(dataset, data=pixels, compression="gzip", shuffle=True)
    if mask is not None and _MASK not in file:
        file.create_dataset(_MASK, data=(~mask).astype(np.uint8), compression="gzip")
    raw_start = frame.analysis.raw
    setup = (
        raw_start.get("beamline_id"),
        origin.data_key,
        raw_start.get("sample_name") or origin.run_uid[:8],
    )
    return {
        "id": f"{origin.run_uid}/{origin.stream}/{origin.data_key}/{origin.index}",
        "dataset": dataset,
        **({} if mask is None else {"mask": _MASK}),
        "setup": " ".join(str(part) for part in setup if part)[:400],
        "beam_center_x": frame.center[0],
        "beam_center_y": frame.center[1],
        "labels": dict(frame.labels),
        "said": [
            {
                "uid": one.uid,
                "time": one.time,
                "by": one.by,
                "add": list(one.add),
                "remove": list(one.remove),
                "note": one.note,
                "model": f"{one.row.model}@{one.row.model_version}",
                "model_sha256": one.row.model_sha256,
            }
            for one in frame.said
        ],
    }


def _mask_of(pixels: NDArray[Any], masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_] | None:
    fitting = [mask for mask in masks if mask.shape == pixels.shape]
    if masks and not fitting:
        shapes = ", ".join(str(mask.shape) for mask in masks)
        raise FrameError(f"its shape is {pixels.shape}, and no mask has that: {shapes}")
    return np.logical_and.reduce(fitting) if fitting else None


def _write_table(path: Path, entries: Sequence[Mapping[str, Any]]) -> int:
    """Write the table of frames with a label of the ten; return how many there are. Without any there is no table."""
    frames = [entry for entry in entries if any(label in entry["labels"] for label in LABELS)]
    if not frames:
        return 0
    known = [label for label in LABELS if any(label in entry["labels"] for entry in frames)]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "center_x", "center_y", *known])
        for entry in frames:
            values = (entry["labels"].get(label) for label in known)
            place = f"{entry['file']}::/{entry['dataset']}"
            cells = ("" if value is None else int(value) for value in values)
            writer.writerow([place, entry["beam_center_x"], entry["beam_center_y"], *cells])
    return len(frames)


def _beside(folder: Path) -> Path:
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=folder.absolute().parent, prefix=f".{folder.name[:40]}."))
    except OSError as error:
        raise SettingsError(f"{folder} cannot be made: {error.strerror or error}") from error


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
