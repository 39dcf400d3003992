"""Runs with files that crash, hang, grow or lead elsewhere: all frames have rows, and the run behind is annotated."""

from __future__ import annotations

import re
import sys
import uuid
from typing import Any

import numpy as np
import poison
import pytest

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks import AnnotationPipeline
from dvfb_stream.callbacks.pipeline import frame_memory
from dvfb_stream.files.references import HandledFrame, Hdf5Frame, ImageFrame
from dvfb_stream.frames import Geometry
from dvfb_stream.isolation.files_process import FilesProcess
from dvfb_stream.isolation.limits import ProcessLimits

PATIENCE = 120.0
DETECTORS = {"image": Geometry(shape=poison.SHAPE, center_x=47.5, center_y=31.5)}
OK = r"^$"


class MeanAnnotator:
    """Its score is the mean pixel."""

    identity = ModelIdentity(name="mean", version="1", sha256="0" * 64)

    def annotate(self, frames):
        return [
            Annotation(
                status="ok",
                model=self.identity,
                origin=frame.origin,
                scores={"rings": float(np.mean(frame.pixels))},
            )
            for frame in frames
        ]


class Rows:
    """A sink that keeps rows by raw run, in the order they came."""

    def __init__(self):
        self.by_run = {}
        self._run_of = {}

    def __call__(self, name, doc):
        if name == "start":
            self._run_of[doc["uid"]] = doc["analysis"]["parent"]
        elif name == "descriptor":
            self._run_of[doc["uid"]] = self._run_of[doc["run_start"]]
        elif name == "event":
            self.by_run.setdefault(self._run_of[doc["descriptor"]], []).append(doc["data"])


def documents_of(uid: str, *resources: tuple[str, str, dict, list[dict]]) -> list[tuple[str, dict[str, Any]]]:
    """Return the documents of a run: of each resource its spec, path, kwargs, and those of its datums."""
    descriptor = str(uuid.uuid4())
    image = {"source": "c", "dtype": "array", "shape": list(poison.SHAPE), "external": "FILESTORE:"}
    documents = [
        ("start", {"uid": uid, "time": 1.0}),
        (
            "descriptor",
            {
                "uid": descriptor,
                "run_start": uid,
                "time": 1.0,
                "name": "primary",
                "data_keys": {"image": image},
            },
        ),
    ]
    number = 0
    for spec, path, kwargs, datums in resources:
        resource = str(uuid.uuid4())
        documents.append(
            ("resource", {"uid": resource, "run_start": uid, "spec": spec, "root": "/", "resource_path": path,
                          "resource_kwargs": kwargs, "path_semantics": "posix"})
        )  # fmt: skip
        for datum in datums:
            number += 1
            datum_id = f"{resource}/{number}"
            documents.append(("datum", {"datum_id": datum_id, "resource": resource, "datum_kwargs": datum}))
            documents.append(
                ("event", {"uid": str(uuid.uuid4()), "descriptor": descriptor, "seq_num": number, "time": 2.0,
                           "data": {"image": datum_id}, "timestamps": {"image": 2.0}, "filled": {"image": False}})
            )  # fmt: skip
    return [*documents, ("stop", {"uid": str(uuid.uuid4()), "run_start": uid, "time": 3.0})]


def resources_of(frames) -> list[tuple[str, str, dict, list[dict]]]:
    """Return resources that say the same as references to frames."""
    found = []
    for frame in frames:
        match frame:
            case Hdf5Frame():
                found.append(
                    ("AD_HDF5", frame.path, {"key": frame.dataset}, [{"point_number": frame.number}])
                )
            case ImageFrame():
                kwargs = {"template": "%s" + frame.path.rpartition("/")[2], "filename": ""}
                found.append(("AD_TIFF", frame.path.rpartition("/")[0], kwargs, [{"point_number": 0}]))
            case HandledFrame():
                found.append((frame.spec, frame.path, {}, [dict(frame.datum)]))
    return found


RUNS = {
    "crash": (poison.crashing_hdf5, "crashing.h5.*SIGSEGV"),
    "hang": (poison.endless_handler, "handled.*did not answer within 3 s"),
    "growth": (poison.growing_handler, "handled.*(more memory than the 300 MB|did not answer)"),
    "bomb in gzip": (poison.gzip_bomb, "bomb.npy.gz.*(more memory than the 300 MB|did not answer)"),
    "bomb in HDF5": (poison.hdf5_bomb, "bomb.h5.*(more memory than the 300 MB|did not answer)"),
    "environment": (
        lambda folder: [ImageFrame("/proc/self/environ", 0, poison.EXPECTED)],
        "/proc/self/environ is not read: it lies in no folder that allowed_roots",
    ),
    "shadow by a link": (
        lambda folder: poison.symbolic_link(folder, "/etc/shadow")[:1],
        "link.h5 is not read: it lies in no folder that allowed_roots",
    ),
    "shadow by a template": (
        lambda folder: poison.handlers_template(folder, "/etc/shadow"),
        "/etc/shadow is not read: it lies in no folder that allowed_roots",
    ),
    "shadow by a virtual dataset": (
        lambda folder: poison.virtual_dataset(folder, "/etc/shadow"),
        "virtual.h5.*lies in no folder that allowed_roots",
    ),
    "a wide template": (
        lambda folder: [poison.handled(str(folder), do="open", template="%0200000000d")],
        "template has a field wider than 4096 characters",
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_the_run_behind_each_culprit_is_annotated_and_each_row_names_it(folder):
    """One pipeline has all of them, one after another, with a good run behind each."""
    memory, rows = frame_memory(1 << 28), Rows()
    files = FilesProcess(
        memory, answer_within=3.0, handlers=poison.HANDLERS, limits=ProcessLimits(memory=300 << 20),
        allowed_roots=[str(folder)],
    )  # fmt: skip
    good = poison.good(folder.parent / "data")
    good_file = folder / "kept.h5"
    (folder / "good.h5").rename(good_file)
    good = [Hdf5Frame(str(good_file), frame.dataset, frame.number, frame.expected) for frame in good]
    order = []
    with AnnotationPipeline(
        MeanAnnotator(), sinks=[rows], detectors=DETECTORS, files=files, memory=memory, patience=PATIENCE
    ) as pipeline:
        for name, (make, _) in RUNS.items():
            frames = make(folder)
            for uid, of_run in ((name, frames), (f"behind {name}", good)):
                for kind, doc in documents_of(uid, *resources_of(of_run)):
                    pipeline(kind, doc)
                order.append((uid, len(of_run)))
            assert pipeline.wait(PATIENCE), name
    for uid, count in order:
        found = rows.by_run.get(uid, [])
        assert [row["frame"] for row in found] == list(range(count)), uid
        for row in found:
            if uid.startswith("behind"):
                assert (row["status"], row["rings"]) == ("ok", row["frame"] + 1), (uid, row["reason"])
            else:
                assert row["status"] == "failed"
                assert re.search(RUNS[uid][1], row["reason"]), (uid, row["reason"])
                assert row["reason"].isprintable()


def test_a_handler_s_frames_are_read_one_by_one(folder):
    """All of a datum at once may be gigabytes."""
    files = FilesProcess(handlers=poison.HANDLERS, limits=ProcessLimits(memory=300 << 20))
    try:
        for position in (0, 499, 7):
            frame = HandledFrame("POISON", f"{folder}/x", {}, {"do": "many"}, position, poison.EXPECTED, 500)
            assert files.read(frame, "run").mean() == position
    finally:
        files.close()
