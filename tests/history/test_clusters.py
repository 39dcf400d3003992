"""One call annotates one run, wherever it is made and however often: plainly, by Dask and by Prefect."""

from __future__ import annotations

import pickle
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from event_model import compose_run

from dvfb_stream.catalog import read_annotations
from dvfb_stream.errors import DvfbError, NotThereYetError, SettingsError
from dvfb_stream.history import annotate_run

from .conftest import DETECTORS, Recorded


@pytest.fixture
def annotate(raw: Any, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TILED_API_KEY", raw.context.api_key)
    return partial(annotate_run, tiled=raw.uri, detectors=DETECTORS, model=str(tiny_bundle), device="cpu")


def frames(raw: Any, uid: str) -> Counter[tuple[str, int]]:
    return Counter((row["data_key"], row["frame"]) for row in read_annotations(raw, uid))


def test_a_run_is_annotated_by_the_first_call_and_passed_over_by_the_next(
    annotate: Any, raw: Any, recorded: Recorded
):
    call = pickle.loads(pickle.dumps(annotate))
    report = pickle.loads(pickle.dumps(call(recorded.other)))
    assert (report.annotated, report.rows.total()) == (1, 2)
    assert call(recorded.other).skipped == 1
    assert frames(raw, recorded.other) == Counter({("cam_image", 0): 1, ("cam_image", 1): 1})


def test_what_cannot_be_annotated_is_raised(annotate: Any, raw: Any, recorded: Recorded):
    from bluesky_tiled_plugins import TiledWriter

    run = compose_run()
    TiledWriter(raw)("start", run.start_doc)
    try:
        with pytest.raises(NotThereYetError, match="has no stop yet"):
            annotate(run.start_doc["uid"])
    finally:
        raw.delete_contents([run.start_doc["uid"]], recursive=True)
    with pytest.raises(DvfbError, match="no-such-run"):
        annotate("no-such-run")
    with pytest.raises(SettingsError, match="which data keys are detectors"):
        annotate_run(recorded.other, tiled=raw.uri)


@pytest.mark.filterwarnings("default")
def test_dask_workers_annotate_and_may_be_given_the_same_run_twice(
    annotate: Any, raw: Any, recorded: Recorded
):
    distributed = pytest.importorskip("distributed", reason="no Dask: pip install '.[dask]'")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        given = [recorded.uid, recorded.other, recorded.uid]
        reports = client.gather(client.map(annotate, given, pure=False, retries=2))
    assert len(reports) == 3
    assert all(report.annotated + report.skipped == 1 for report in reports)
    for uid, count in ((recorded.uid, 9), (recorded.other, 2)):
        stored = frames(raw, uid)
        assert len(stored) == count
        assert set(stored.values()) == {1}


@pytest.fixture
def beamline(raw: Any, tmp_path: Path, tiny_bundle: Path) -> Path:
    path = tmp_path / "beamline.toml"
    path.write_text(
        f'name = "test"\nmodel = "{tiny_bundle}"\ndevice = "cpu"\n[catalog]\nuri = "{raw.uri}"\n'
        + "".join(
            f"[detectors.{key}]\ncenter_x = 2.5\ncenter_y = 1.5\nshape = {list(geometry.shape)}\n"
            for key, geometry in DETECTORS.items()
        )
    )
    return path


@pytest.mark.filterwarnings("default")
def test_a_prefect_flow_annotates_the_run_of_a_stop_document(
    annotate: Any, raw: Any, recorded: Recorded, beamline: Path
):
    pytest.importorskip("prefect", reason="no Prefect: pip install '.[prefect]'")
    from prefect.testing.utilities import prefect_test_harness

    from dvfb_stream.history.prefect_flow import end_of_run_workflow

    stop = raw[recorded.other].metadata["stop"]
    with prefect_test_harness(server_startup_timeout=240):
        said = [end_of_run_workflow(stop, tiled=raw.uri, beamline=str(beamline)) for _ in range(2)]
    assert [(one["annotated"], one["skipped"]) for one in said] == [(1, 0), (0, 1)]
    assert frames(raw, recorded.other) == Counter({("cam_image", 0): 1, ("cam_image", 1): 1})


def test_the_deployments_name_flows_and_parameters_that_exist():
    pytest.importorskip("prefect", reason="no Prefect: pip install '.[prefect]'")
    import inspect

    import yaml
    from prefect.flows import load_flow_from_entrypoint

    folder = Path(__file__).parents[2] / "docs" / "prefect"
    deployments = yaml.safe_load((folder / "prefect.yaml").read_text())["deployments"]
    assert len(deployments) == 2
    for deployment in deployments:
        flow = load_flow_from_entrypoint(deployment["entrypoint"])
        assert deployment["parameters"].keys() <= inspect.signature(flow.fn).parameters.keys()
