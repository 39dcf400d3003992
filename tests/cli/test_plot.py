"""``dvfb plot`` draws what it says: the basis on its disk, and the masked estimate of any frame."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from scipy.special import jn_zeros, jv

from dvfb_stream.cli.plot.basis import basis_functions, draw_basis
from dvfb_stream.cli.plot.estimate import Estimator
from dvfb_stream.cli.plot.estimate_figure import Coefficients, draw_estimate
from dvfb_stream.cli.plot.panels import MASK_COLOUR
from dvfb_stream.fbt import FourierBesselSettings
from dvfb_stream.frames import Frame, Geometry

from .conftest import CENTRE, SHAPE, pattern

FEW = ("--n-radial", "6", "--orders", "0,2,4")
"""A small basis: a plan in no time."""


def decoded(path: Path) -> np.ndarray:
    """Rows, columns and RGB of a figure that shows something: many colours, and paper around them."""
    image = imread(path)[..., :3]
    assert image.ndim == 3
    assert min(image.shape[:2]) > 200
    assert image.std() > 0.05
    assert len(np.unique((image * 255).astype(np.uint8).reshape(-1, 3), axis=0)) > 100
    np.testing.assert_array_equal(image[0], 1)
    return image


class TestBasis:
    def test_functions_are_those_of_the_definition(self) -> None:
        """(3)(4) with SciPy's Bessel functions, on a = 1."""
        for row, n in zip(basis_functions([1, 3], [0, 3]), [1, 3], strict=True):
            for function, m in zip(row, [0, 3], strict=True):
                size = len(function.values)
                steps = (2 * np.arange(size) + 1) / size - 1
                x, y = np.meshgrid(steps, steps)
                r, root = np.hypot(x, y), jn_zeros(m, n)[-1]
                expected = jv(m, root * r) / np.sqrt(jv(m + 1, root) ** 2 / 2) / np.sqrt(2 * np.pi)
                expected = expected * np.exp(1j * m * np.arctan2(y, x))
                inside = r < 1
                np.testing.assert_allclose(function.values[inside], expected[inside], atol=1e-7)
                assert np.isnan(function.values[~inside]).all()
                assert function.root == pytest.approx(root)
                assert function.peak == pytest.approx(np.abs(expected[inside]).max(), rel=1e-2)

    def test_each_disk_is_scaled_symmetrically_to_its_own_peak(self) -> None:
        figure = draw_basis(basis_functions([1, 2], [0, 2]))
        shown = [axes.images[0] for axes in figure.axes if axes.images]
        assert len(shown) == 2 * (1 + 2)  # Ψ_n0 is real
        for image in shown:
            assert image.get_clim() == (-1, 1)
            assert np.nanmax(np.abs(image.get_array())) == pytest.approx(1, abs=0.02)

    def test_the_figure_is_white_outside_its_disks(self, dvfb, tmp_path: Path) -> None:
        outcome = dvfb("plot", "basis", "--radial", "1", "--orders", "0", "--output", tmp_path / "one.png")
        assert (outcome.status, outcome.stderr) == (0, "")
        assert outcome.stdout == f"wrote {tmp_path}/one.png: n = 1; m = 0\n"
        image = decoded(tmp_path / "one.png")
        red = (image[..., 0] > 0.3) & (image[..., 1] < 0.2) & (image[..., 2] < 0.3)
        rows, columns = (np.flatnonzero(red[:-80].any(axis)) for axis in (1, 0))  # above the colour bar
        assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=2)
        corner = image[rows[0] - 55, columns[0] - 55]  # of the square around the disk
        np.testing.assert_array_equal(corner, 1)

    def test_json_names_the_figure_and_its_functions(self, dvfb, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        outcome = dvfb("plot", "basis", "--json")
        (said,) = outcome.rows
        assert said["figure"] == "basis.png"
        decoded(tmp_path / "basis.png")
        assert [(f["n"], f["m"]) for f in said["functions"]] == [(n, m) for n in (1, 2, 3) for m in (0, 2, 4)]
        assert said["functions"][0]["root"] == pytest.approx(2.404825557695773)

    @pytest.mark.parametrize(
        ("options", "status", "said"),
        [
            (("--radial", "0,1"), 2, "--radial: 0 is too small; the least is 1"),
            (("--radial", "1,x"), 2, "--radial: '1,x' is not a list of integers"),
            (("--orders", ""), 2, "--orders: '' is not a list of integers"),
            (("--orders", "2,2"), 2, "--orders: 2,2 names a number twice"),
            (("--orders", "-1"), 2, "--orders: -1 is too small"),
            (("--radial", "500"), 1, "keep n + m/2 at 116 or below"),
            (("--radial", ",".join(map(str, range(1, 100)))), 1, "too many for one figure"),
            (("--output", "basis.jpg"), 1, "output basis.jpg must end in .png"),
            (("--output", "no/basis.png"), 1, "output no/basis.png cannot be written"),
        ],
    )
    def test_what_cannot_be_drawn_is_told(self, dvfb, tmp_path, monkeypatch, options, status, said) -> None:
        monkeypatch.chdir(tmp_path)
        outcome = dvfb("plot", "basis", *options)
        assert (outcome.status, outcome.stdout) == (status, "")
        (error,) = outcome.errors
        assert said in error
        assert not list(tmp_path.iterdir())


class TestEstimateFigure:
    def test_panels_show_the_view_its_mask_and_what_is_recovered(self) -> None:
        mask = np.ones(SHAPE, bool)
        mask[:, 30:34] = False
        settings = FourierBesselSettings(n_radial=20, orders=(0, 2), penalty=1e-6)
        estimate = Estimator(settings).estimate(
            Frame(pattern(), Geometry(shape=SHAPE, center_x=40.5, center_y=44, mask=mask))
        )
        figure = draw_estimate(estimate, settings, title="a.tif", coefficients=Coefficients.MAGNITUDE)
        view, kinds, recovered, amplitudes = figure.axes[:4]
        np.testing.assert_array_equal(np.ma.getmaskarray(view.images[0].get_array()), ~estimate.view.mask)
        shown = np.asarray(kinds.images[0].get_array())
        np.testing.assert_array_equal(shown == 2, ~estimate.view.mask)
        np.testing.assert_array_equal(shown == 0, estimate.fitted)
        np.testing.assert_array_equal(recovered.images[0].get_array(), estimate.recovered)
        assert amplitudes.images[0].get_array().shape == (20, 2)
        assert f"fit residual {estimate.residual:.3f}" in figure.get_suptitle()

    def test_a_ring_is_recovered_behind_a_gap(self) -> None:
        """What is there without the gap is the reference."""
        whole, gap = Geometry(shape=SHAPE, center_x=40.5, center_y=44), np.ones(SHAPE, bool)
        gap[:, 26:32] = False
        masked = Geometry(shape=SHAPE, center_x=40.5, center_y=44, mask=gap)
        estimator = Estimator(FourierBesselSettings(penalty=1e-6, orders=(0, 2, 4)))
        pixels = np.where(pattern() < 0, 0, pattern()).astype(np.float32)
        seen, behind = (estimator.estimate(Frame(pixels, geometry)) for geometry in (whole, masked))
        lost = seen.fitted_working & ~behind.fitted_working
        assert lost.sum() > 500
        assert np.corrcoef(seen.recovered[lost], behind.recovered[lost])[0, 1] > 0.95
        assert 0 < behind.residual < 0.2


class TestEstimate:
    def test_a_frame_becomes_a_figure_named_after_it(self, dvfb, files, tmp_path: Path) -> None:
        folder = tmp_path / "new" / "figures"
        outcome = dvfb("plot", "estimate", files["a.tif"], *CENTRE, *FEW, "--output-dir", folder)
        assert (outcome.status, outcome.stderr) == (0, "")
        assert outcome.stdout.startswith(f"wrote {folder}/a-estimate.png: fit residual 0.")
        image = decoded(folder / "a-estimate.png")
        assert image.shape[1] > 2 * image.shape[0]
        blue = np.array([int(MASK_COLOUR[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        assert (
            np.abs(image - blue).max(-1) < 0.01
        ).sum() > 500  # the dead row, and what the frame does not cover

    def test_json_has_the_numbers_and_the_settings(self, dvfb, files, tmp_path: Path) -> None:
        outcome = dvfb(
            "plot", "estimate", files["a.tif"], files["b.cbf"], *CENTRE, *FEW, "--penalty", "1e-5",
            "--coefficients", "parts", "--json", "--output-dir", tmp_path,
        )  # fmt: skip
        assert (outcome.status, outcome.stderr) == (0, "")
        assert [row["file"] for row in outcome.rows] == [str(files["a.tif"]), str(files["b.cbf"])]
        for row, name in zip(outcome.rows, ("a", "b"), strict=True):
            assert row["status"] == "ok"
            assert row["figure"] == str(tmp_path / f"{name}-estimate.png")
            assert 0 < row["fit_residual"] < 1
            assert 0 < row["fitted"] < 1 - row["masked"]
            assert 0 < row["nonzero"] <= row["unknowns"] == 6 * 5
            assert row["gap"] <= 1e-8
            assert (row["center_x"], row["center_y"]) == (40.5, 44)
            assert (row["fbt"]["penalty"], row["fbt"]["orders"]) == (1e-5, [0, 2, 4])
            decoded(Path(row["figure"]))

    def test_a_stack_has_its_first_frames_or_those_chosen(self, dvfb, files, tmp_path: Path) -> None:
        stack = f"{files['stack.h5']}::/data"
        arguments = ("plot", "estimate", stack, *CENTRE, *FEW, "--output-dir", tmp_path)
        first = dvfb(*arguments, "--max-frames", 2)
        assert first.status == 0
        assert (
            first.stderr
            == f"{stack} has 5 frames; the first 2 are drawn (choose by --frame or --max-frames)\n"
        )
        assert sorted(path.name for path in tmp_path.glob("*.png")) == [
            "stack-frame-0-estimate.png",
            "stack-frame-1-estimate.png",
        ]
        chosen = dvfb(*arguments, "--frame", 4, "--frame", 2, "--frame", 4, "--json")
        assert chosen.status == 1
        assert [(row["frame"], row["status"]) for row in chosen.rows] == [(4, "ok"), (2, "failed")]
        (error,) = chosen.errors
        assert "frame 2: no valid pixel is left" in error
        beyond = dvfb(*arguments, "--frame", 5)
        assert (beyond.status, beyond.stdout) == (1, "")
        assert beyond.errors == [
            f"{stack} has no frame 5: it holds 5 frames, the last is 4; choose by --frame"
        ]

    def test_frames_of_one_name_keep_a_figure_each(self, dvfb, files, tmp_path: Path) -> None:
        outcome = dvfb(
            "plot", "estimate", files["a.tif"], files["a.tif"], *CENTRE, *FEW, "--output-dir", tmp_path
        )
        assert outcome.status == 0
        assert {path.name for path in tmp_path.glob("*.png")} == {"a-estimate.png", "a-estimate-2.png"}

    def test_bad_files_cost_a_line_each_and_the_others_are_drawn(self, dvfb, files, tmp_path: Path) -> None:
        given = (files["missing.tif"], files["a.tif"], files["notes.txt"])
        outcome = dvfb("plot", "estimate", *given, *CENTRE, *FEW, "--output-dir", tmp_path)
        assert outcome.status == 1
        assert [path.name for path in tmp_path.glob("*.png")] == ["a-estimate.png"]
        missing, notes = outcome.errors
        assert missing.endswith("missing.tif: no such file")
        assert "notes.txt cannot be read: it is no detector image" in notes

    def test_a_centre_that_no_basis_function_reaches(self, dvfb, files, tmp_path: Path) -> None:
        outcome = dvfb(
            "plot", "estimate", files["a.tif"], "--center-x", "1e5", "--center-y", "0", *FEW,
            "--output-dir", tmp_path,
        )  # fmt: skip
        assert outcome.status == 1
        (error,) = outcome.errors
        assert "the beam centre x=100000, y=0 lies so far" in error
        assert "(in detector pixels)" in error

    def test_what_is_read_is_never_overwritten(self, dvfb, files, tmp_path: Path) -> None:
        folder = tmp_path / "figures"
        folder.mkdir()
        os.link(files["a.tif"], folder / "a-estimate.png")
        before = files["a.tif"].read_bytes()
        outcome = dvfb("plot", "estimate", files["a.tif"], *CENTRE, *FEW, "--output-dir", folder)
        assert outcome.status == 1
        assert "is one of the files to read" in outcome.errors[0]
        assert files["a.tif"].read_bytes() == before

    def test_without_a_file_frames_are_simulated(self, dvfb, tmp_path: Path) -> None:
        arguments = ("plot", "estimate", "--simulate", "--seed", 3, *FEW, "--json")
        (row,) = dvfb(*arguments, "--output-dir", tmp_path / "one").rows
        assert (row["file"], row["frame"]) == ("simulated-seed-3", 0)
        first = decoded(Path(row["figure"]))
        (again,) = dvfb(*arguments, "--output-dir", tmp_path / "two").rows
        np.testing.assert_array_equal(first, decoded(Path(again["figure"])))
        both = dvfb(*arguments, "--frame", 1, "--frame", 2, "--output-dir", tmp_path).rows
        assert [row["frame"] for row in both] == [1, 2]
        assert both[0]["fit_residual"] != both[1]["fit_residual"]

    @pytest.mark.parametrize(
        ("options", "status", "said"),
        [
            ((), 2, "name the files to draw, or give --simulate"),
            (("a.tif", "--center-x", "1"), 2, "--center-y is missing"),
            (("a.tif", *CENTRE, "--seed", "1"), 2, "--seed is of simulated frames"),
            (("a.tif", "--simulate"), 2, "a.tif: --simulate makes frames"),
            (("--simulate", "--center-x", "1"), 2, "--center-x: --simulate makes frames"),
            (("--simulate", "--frame", "-1"), 2, "--frame"),
            (("--simulate", "--orders", "0,two"), 2, "--orders: '0,two' is not a list"),
            (("--simulate", "--coefficients", "phase"), 2, "magnitude or parts, not 'phase'"),
            (("--simulate", "--penalty", "-1"), 1, "penalty must be from 0 to 1e+12, not -1.0"),
            (("--simulate", "--l1-ratio", "2"), 1, "l1_ratio must be between 0 and 1, not 2.0"),
            (("--simulate", "--reading", "mine"), 1, "not 'mine'"),
            (("--simulate", "--n-radial", "1200"), 1, "n_radial = 1200 with 11 orders"),
            (("--simulate", "--output-dir", "/proc/figures"), 1, "output-dir /proc/figures"),
        ],
    )
    def test_what_cannot_work_is_told_in_one_line(
        self, dvfb, tmp_path, monkeypatch, options, status, said
    ) -> None:
        monkeypatch.chdir(tmp_path)
        outcome = dvfb("plot", "estimate", *options)
        assert (outcome.status, outcome.stdout) == (status, "")
        (error,) = outcome.errors
        assert said in error
        assert not list(tmp_path.rglob("*.png"))

    def test_real_frames(self, dvfb, real_frames: Path, tmp_path: Path) -> None:
        manifest = {entry["file"]: entry for entry in json.loads((real_frames / "manifest.json").read_text())}
        file = "autosaxs__AgBh700_96.9_calib.tif"
        outcome = dvfb(
            "plot", "estimate", real_frames / file,
            "--center-x", manifest[file]["beam_center_x"], "--center-y", manifest[file]["beam_center_y"],
            "--mask", real_frames / "autosaxs__mask.txt", "--json", "--output-dir", tmp_path,
        )  # fmt: skip
        (row,) = outcome.rows
        assert row["unknowns"] == 840
        assert row["masked"] > 0.1
        assert row["fit_residual"] < 0.2
        decoded(Path(row["figure"]))


def test_without_matplotlib_the_extra_is_named(dvfb_process, tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')\n")
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    outcome = dvfb_process("plot", "basis", "--output", tmp_path / "basis.png", PYTHONPATH=path)
    assert outcome.status == 1
    assert outcome.errors == [
        "matplotlib is not installed; install it with: pip install 'dvfb-stream[files]'"
    ]


def test_plot_alone_explains_itself(dvfb) -> None:
    outcome = dvfb("plot")
    assert outcome.status == 0
    for command in ("basis", "estimate"):
        assert command in outcome.stdout
