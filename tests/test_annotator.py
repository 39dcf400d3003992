"""The annotator: one annotation per frame, and one bad frame costs one row."""

import json
import math
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.special import expit

from dvfb_stream import Annotator, Frame, Geometry, Origin
from dvfb_stream.annotator import INFERENCE_FRAMES
from dvfb_stream.errors import BundleError, FrameError, SettingsError
from dvfb_stream.examination import examine, features_of
from dvfb_stream.fbt import FourierBessel, FourierBesselSettings
from dvfb_stream.labels import LABELS
from dvfb_stream.metrics import Metrics, Stage
from dvfb_stream.view import make_view
from dvfb_stream.worker import Worker

GEOMETRY = Geometry(shape=(300, 260), center_x=120.0, center_y=140.5)


@pytest.fixture(scope="module")
def annotator(tiny_bundle):
    return Annotator.load(tiny_bundle, device="cpu")


def frame(seed, geometry=GEOMETRY, **changes):
    pixels = np.random.default_rng(seed).poisson(30, geometry.shape).astype(np.int32)
    return Frame(changes.get("pixels", pixels), geometry, changes.get("origin"))


def test_annotations_come_in_order_with_origin_and_model(annotator):
    frames = [
        frame(i, origin=Origin(run_uid="r", stream="primary", data_key="img", index=i)) for i in range(5)
    ]
    annotations = annotator.annotate(frames)
    assert [a.origin.index for a in annotations] == list(range(5))
    for a in annotations:
        assert a.ok
        assert list(a.scores) == list(LABELS)
        assert all(0 <= score <= 1 for score in a.scores.values())
        assert 0 <= a.fit_residual < 1
        assert a.model == annotator.identity


@pytest.fixture
def torch_threads():
    """How many threads torch has is set back after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_dividing_a_batch_among_cores_changes_nothing(annotator, torch_threads):
    frames = [*map(frame, range(9)), "no frame", frame(9)]
    torch_threads(1)
    expected = annotator.annotate(frames)
    torch_threads(2)
    for found, known in zip(annotator.annotate(frames), expected, strict=True):
        assert (found.status, found.reason, found.labels) == (known.status, known.reason, known.labels)
        assert found.scores == pytest.approx(known.scores, abs=1e-5)


def test_batching_changes_nothing(annotator):
    other = Geometry(shape=(256, 256), center_x=10.0, center_y=20.0)
    frames = [frame(0), frame(1, other), frame(2), frame(3, other)]
    together = annotator.annotate(frames)
    for one, alone in zip(together, (annotator.annotate([f])[0] for f in frames), strict=True):
        assert one.scores == pytest.approx(alone.scores, abs=1e-5)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Frame(np.zeros(GEOMETRY.shape), None), "geometry must be a Geometry"),
        (frame(1, pixels=torch.zeros(GEOMETRY.shape, dtype=torch.bfloat16)), r"detach\(\)\.float\(\)"),
        (frame(1, pixels=torch.zeros(GEOMETRY.shape, requires_grad=True)), "requires grad"),
        (frame(1, pixels="a.tif"), "geometry says"),
        ("a.tif", "must be a Frame"),
        (np.zeros(GEOMETRY.shape), r"must be a Frame\(pixels, geometry\), not ndarray"),
        (None, "must be a Frame"),
    ],
)
def test_one_object_that_is_no_frame_costs_one_row(annotator, bad, reason):
    good, failed, after = annotator.annotate([frame(0), bad, frame(2)])
    assert good.ok
    assert after.ok
    assert failed.status == "failed"
    assert re.search(reason, failed.reason)


@pytest.mark.parametrize("frames", [frame(0), np.zeros(GEOMETRY.shape), "a.tif", None])
def test_what_is_no_list_of_frames_is_refused_with_the_cure(annotator, frames):
    with pytest.raises(FrameError, match=r"give a list of frames, as in annotate\(\[Frame"):
        annotator.annotate(frames)


def test_an_annotator_and_an_estimator_are_short_to_read(annotator):
    assert repr(annotator) == f"<Annotator {annotator.identity} on cpu>"
    estimator = FourierBessel((64, 48), 20.5, 30, 64.0, n_radial=8, orders=(0, 2))
    assert (
        repr(estimator) == "<FourierBessel of 64 x 48 pixels, centre (20.5, 30), 8 x 2 coefficients, on cpu>"
    )


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full(GEOMETRY.shape, np.nan), "no valid pixel is left"),
        (np.zeros((3, 3)), r"geometry says"),
        (np.full(GEOMETRY.shape, -1), "no valid pixel"),
        (np.full(GEOMETRY.shape, 65535, dtype=np.uint16), "no valid pixel"),
        (np.full(GEOMETRY.shape, 1e39), "too large for counts"),
        ([[1], [1, 2]], "an array of"),
    ],
)
def test_one_bad_frame_costs_one_row(annotator, pixels, reason):
    good, bad, after = annotator.annotate([frame(0), frame(1, pixels=pixels), frame(2)])
    assert good.ok
    assert after.ok
    assert bad.status == "failed"
    assert reason in bad.reason
    assert bad.scores == {}
    assert math.isnan(bad.novelty)


def test_a_centre_far_outside_is_a_row_with_the_reason(annotator):
    (annotation,) = annotator.annotate([frame(0, Geometry(shape=(64, 64), center_x=1e5, center_y=0))])
    assert "beam centre x=100000, y=0 lies so far from the valid pixels of this 64 x 64" in annotation.reason


def test_more_frames_than_go_through_the_network_at_once(annotator):
    few = [frame(i) for i in range(3)]
    many = annotator.annotate(few * ((INFERENCE_FRAMES + 5) // 3 + 1))
    for start in range(0, len(many), 3):
        for one, alone in zip(many[start : start + 3], many[:3], strict=True):
            assert one.scores == pytest.approx(alone.scores, abs=1e-5)


def test_a_bundle_trained_on_other_views_is_refused(tiny_bundle, tmp_path):
    """Size and intensity scale belong to the model as its weights do."""
    for number, view in enumerate(({"size": 128}, {"size": 256, "full_scale": 3.0}, {"colour": "red"})):
        folder = shutil.copytree(tiny_bundle, tmp_path / str(number))
        description = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps({**description, "view": view}))
        with pytest.raises(BundleError, match="trained on views with"):
            Annotator.load(folder)


def test_no_frames_no_annotations(annotator):
    assert annotator.annotate([]) == []


def test_accepted_labels_follow_thresholds_and_implications(annotator):
    for annotation in annotator.annotate([frame(i) for i in range(8)]):
        reached = {
            label for label, score in annotation.scores.items() if score >= annotator.thresholds[label]
        }
        assert reached <= set(annotation.labels)
        if "symmetry_halo" in annotation.labels:
            assert "halo" in annotation.labels
        if "symmetry_rings" in annotation.labels:
            assert "rings" in annotation.labels


def test_examination_shows_what_annotation_used(annotator):
    one = frame(4)
    examination = examine(annotator, one)
    np.testing.assert_array_equal(examination.view.image, make_view(one).image)
    assert examination.coefficients.shape == (40, 11)
    assert examination.reconstruction.shape == (128, 128)
    assert examination.annotation.scores == pytest.approx(annotator.annotate([one])[0].scores, abs=1e-5)
    with_coefficients = annotator.annotate([one], keep_coefficients=True)[0].coefficients
    np.testing.assert_allclose(with_coefficients, examination.coefficients, rtol=1e-4, atol=1e-2)


def test_annotations_carry_arrays_once_they_are_asked_for(tiny_bundle):
    annotator = Annotator.load(tiny_bundle, device="cpu")
    one = frame(4)
    (before,) = annotator.annotate([one])
    assert before.coefficients is before.features is None
    assert annotator.arrays == {"coefficients": (40, 11, 2), "features": (annotator.hidden,)}
    annotator.keep_arrays(["features"])
    (some,) = annotator.annotate([one])
    assert some.coefficients is None
    annotator.keep_arrays(["coefficients"])
    (both,) = annotator.annotate_prepared([annotator.prepare(one)])
    np.testing.assert_array_equal(both.features, some.features)
    np.testing.assert_array_equal(both.features, annotator.infer([annotator.prepare(one)])[0].activations)
    np.testing.assert_allclose(both.coefficients, examine(annotator, one).coefficients, rtol=1e-4, atol=1e-2)


def test_fit_residual_is_what_the_reconstruction_leaves_unexplained(annotator):
    """Independently: block averages of the view against the reconstruction on the disk (8)."""
    one = Frame(
        frame(5, Geometry(shape=(256, 256), center_x=127.5, center_y=127.5)).pixels,
        Geometry(shape=(256, 256), center_x=127.5, center_y=127.5),
    )
    examination = examine(annotator, one)
    averages = examination.view.image.reshape(128, 2, 128, 2).mean((1, 3))
    y, x = np.mgrid[:128, :128]
    disk = np.hypot(x - 63.5, y - 63.5) < 64.5
    misfit = ((averages - examination.reconstruction)[disk] ** 2).sum() / (averages[disk] ** 2).sum()
    assert examination.annotation.fit_residual == pytest.approx(misfit, rel=1e-3)


def test_probabilities_are_platt_scaled_logits(annotator):
    """With slope 1 and intercept 0 the probability is the logistic function of the network's output."""
    from dvfb_stream.fbt import FourierBessel

    one = Frame(
        frame(6, Geometry(shape=(256, 256), center_x=100.0, center_y=90.0)).pixels,
        Geometry(shape=(256, 256), center_x=100.0, center_y=90.0),
    )
    view = make_view(one)
    coefficients = FourierBessel(center_x=100.0, center_y=90.0).estimate(view.image[None])
    seen = torch.from_numpy(view.image[None]), torch.from_numpy(view.mask[None]), coefficients
    with torch.inference_mode():
        logits, _ = annotator._network(annotator._network.prepare(*seen))
    expected = dict(zip(LABELS, expit(logits[0].double().numpy()), strict=True))
    assert annotator.annotate([one])[0].scores == pytest.approx(expected, abs=1e-5)


def test_the_operating_point_is_chosen_by_name(tiny_bundle):
    strict = Annotator.load(tiny_bundle, device="cpu", thresholds="high_precision")
    # The small model has never been calibrated: nothing is accepted, whatever the probability.
    (annotation,) = strict.annotate([frame(1, Geometry(shape=(64, 64), center_x=30, center_y=30))])
    assert annotation.ok
    assert annotation.labels == ()
    assert json.loads(json.dumps(strict.provenance()))["operating_point"] == "high_precision"
    default = Annotator.load("default", device="cpu")
    precise = Annotator.load("default", device="cpu", thresholds="high_precision")
    assert all(precise.thresholds[label] >= default.thresholds[label] for label in LABELS)
    with pytest.raises(SettingsError, match="best_f1, high_precision, not 'strict'"):
        Annotator.load(tiny_bundle, thresholds="strict")


def test_provenance_is_json_ready_and_complete(annotator):
    provenance = json.loads(json.dumps(annotator.provenance()))
    assert provenance["model"]["sha256"] == annotator.identity.sha256
    assert provenance["labels"] == list(LABELS)
    assert provenance["fbt"]["penalty"] == 1e-4
    assert provenance["fbt"]["sha256"] == FourierBesselSettings.from_dict(provenance["fbt"]).digest
    assert set(provenance["thresholds"]) == set(LABELS)


def test_unknown_models_and_devices_are_refused(tiny_bundle):
    with pytest.raises(BundleError, match="no model 'nonesuch'"):
        Annotator.load("nonesuch")
    with pytest.raises(SettingsError, match="not available"):
        Annotator.load(tiny_bundle, device="cuda:77")
    with pytest.raises(SettingsError, match="toaster"):
        Annotator.load(tiny_bundle, device="toaster")


def test_frames_that_lose_pixels_of_their_own_share_the_geometrys_plan(tiny_bundle):
    """A saturated beam that flickers must not cost a plan a frame; the result is that of a plan of its own."""
    geometry = Geometry(shape=(256, 256), center_x=120.0, center_y=110.0)
    frames = []
    for i in range(6):
        pixels = np.random.default_rng(i).poisson(30, geometry.shape).astype(np.uint16)
        pixels[100 + i : 108 + i, 117:125] = 65535
        frames.append(Frame(pixels, geometry))
    annotator = Annotator.load(tiny_bundle, device="cpu")
    together = annotator.annotate(frames)
    held = {id(each._basis._projections) for each in annotator._estimators._kept.values()}
    assert len(held) == 1
    for frame, found in zip(frames, together, strict=True):
        lost = frame.pixels == 65535
        own = Geometry(shape=(256, 256), center_x=120.0, center_y=110.0, mask=~lost)
        (expected,) = Annotator.load(tiny_bundle, device="cpu").annotate([Frame(frame.pixels, own)])
        assert found.scores == pytest.approx(expected.scores, abs=1e-4)
        assert found.fit_residual == pytest.approx(expected.fit_residual, rel=1e-3)


def test_features_are_what_the_last_layers_make_scores_of(tiny_bundle):
    annotator = Annotator.load(tiny_bundle, device="cpu")
    frames = [frame(0), frame(1, pixels=np.full(GEOMETRY.shape, np.nan)), frame(2)]
    found = features_of(annotator, frames)
    assert found.activations.shape == (3, 32)
    assert np.isnan(found.activations[1]).all()
    assert np.isnan(found.scores[1]).all()
    assert "no valid pixel is left" in found.reasons[1]
    assert found.reasons[0] == found.reasons[2] == ""

    with torch.inference_mode():
        logits = annotator._network.later(torch.from_numpy(found.activations[[0, 2]]))
    np.testing.assert_allclose(found.scores[[0, 2]], expit(logits.double().numpy()), atol=1e-5)
    for row, annotation in zip(found.scores[[0, 2]], annotator.annotate([frames[0], frames[2]]), strict=True):
        assert list(annotation.scores.values()) == pytest.approx(row, abs=1e-6)


def test_frames_prepared_beforehand_by_another_thread_give_the_same(annotator):
    frames = [frame(0), frame(1, pixels=np.full(GEOMETRY.shape, np.nan)), frame(2)]
    with ThreadPoolExecutor(2) as threads:
        prepared = list(threads.map(annotator.prepare, frames))
    for found, expected in zip(
        annotator.annotate_prepared(prepared), annotator.annotate(frames), strict=True
    ):
        assert found.reason == expected.reason
        assert found.scores == pytest.approx(expected.scores, abs=1e-6)


def test_stages_are_reported_for_views_and_batches(tiny_bundle):
    annotator, told = Annotator.load(tiny_bundle, device="cpu"), []
    annotator.report_stages(lambda stage, seconds: told.append((stage, seconds)))
    annotator.annotate([frame(i) for i in range(3)])
    assert [stage for stage, _ in told] == [Stage.VIEW] * 3 + [Stage.COEFFICIENTS, Stage.NETWORK]
    assert all(seconds > 0 for _, seconds in told)
    annotator.report_stages(None)
    annotator.annotate([frame(0)])
    assert len(told) == 5


def test_after_falling_back_results_are_those_of_the_cpu(tiny_bundle):
    """torch's device ``meta`` keeps shapes and no numbers: nothing can be fetched from it, as from a lost GPU."""
    annotator = Annotator.load(tiny_bundle, device="meta")
    provenance = annotator.provenance()
    frames = [frame(i) for i in range(3)]
    with pytest.raises(NotImplementedError):
        annotator.annotate(frames)
    assert annotator.fall_back() == "cpu"
    assert annotator.fall_back() == "cpu"
    assert annotator.device.type == "cpu"
    expected = Annotator.load(tiny_bundle, device="cpu").annotate(frames)
    for found, known in zip(annotator.annotate(frames), expected, strict=True):
        assert found.scores == pytest.approx(known.scores, abs=1e-6)
        assert found.novelty == pytest.approx(known.novelty, abs=1e-6)
        assert found.model == known.model
    assert annotator.provenance() == provenance


def test_where_there_is_nothing_to_fall_back_from_estimators_are_kept(annotator):
    annotator.annotate([frame(0)])
    kept = annotator._estimators
    assert annotator.fall_back() == "cpu"
    assert annotator._estimators is kept


def test_a_worker_makes_use_of_all_that_an_annotator_offers(tiny_bundle):
    """Prepares ahead, is told of the stages, and goes on where the device was lost."""
    metrics, rows = Metrics(), []
    annotator = Annotator.load(tiny_bundle, device="meta")
    work = annotator.annotate_prepared

    def lost(prepared):
        if annotator.device.type == "meta":
            raise RuntimeError("CUDA error: unspecified launch failure")
        return work(prepared)

    annotator.annotate_prepared = lost
    frames = [
        frame(i, origin=Origin(run_uid="r", stream="primary", data_key="img", index=i)) for i in range(6)
    ]
    with Worker(annotator, batch_size=4, metrics=metrics) as worker:
        for one in frames:
            worker.submit(one, rows.append)
    assert [row.origin.index for row in rows] == list(range(6))
    for found, expected in zip(rows, Annotator.load(tiny_bundle, device="cpu").annotate(frames), strict=True):
        assert found.scores == pytest.approx(expected.scores, abs=1e-5)
    assert (worker.stats().fallbacks, worker.stats().device) == (1, "cpu")
    stages = {
        value["labels"]["stage"]: value["count"]
        for value in metrics.snapshot()["dvfb_stage_seconds"]["values"]
    }
    assert 6 <= stages["view"] <= 12  # what was prepared for the lost device is prepared again
    assert stages["coefficients"] == stages["network"] == stages["annotate"]


@pytest.mark.gpu
def test_a_gpu_is_left_for_the_cpu_and_the_results_stay(tiny_bundle):
    annotator = Annotator.load(tiny_bundle, device="cuda")
    frames = [frame(i) for i in range(3)]
    there = annotator.annotate_prepared([annotator.prepare(one) for one in frames])
    assert annotator.fall_back() == "cpu"
    for found, expected in zip(annotator.annotate(frames), there, strict=True):
        assert found.scores == pytest.approx(expected.scores, abs=1e-3)


@pytest.mark.gpu
def test_exhausted_memory_of_a_gpu_makes_batches_smaller(tiny_bundle):
    """Bounded to what lies between the needs of four frames and of sixty-four."""
    annotator = Annotator.load(tiny_bundle, device="cuda")
    frames = [frame(i) for i in range(64)]
    annotator.annotate(frames[:4])  # the estimator is built, which takes more than either
    needs = []
    for count in (4, 64):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        annotator.annotate(frames[:count])
        needs.append(torch.cuda.max_memory_reserved())
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(sum(needs) / 2 / total)
    try:
        rows = []
        with Worker(annotator, batch_size=64, max_wait=10.0) as worker:
            for one in frames:
                worker.submit(one, rows.append)
        assert all(row.ok for row in rows)
        assert worker.stats().halvings > 0
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
