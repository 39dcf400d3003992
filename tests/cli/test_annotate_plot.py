"""A figure shows the arrays it is given, where they belong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from dvfb_stream.cli.annotate.frame_figure import (
    ACCEPTED_COLOUR,
    DOUBTFUL_COLOUR,
    REFUSED_COLOUR,
    FramePicture,
    draw_frame,
)
from dvfb_stream.cli.plot.azimuth import measure_azimuth
from dvfb_stream.frames import Geometry
from dvfb_stream.labels import ALL_LABELS, LABELS, TITLES
from dvfb_stream.view import FineView, View


@pytest.fixture
def picture() -> FramePicture:
    rng = np.random.default_rng(0)
    mask = np.ones((64, 64), bool)
    mask[30:34] = False
    image = rng.random((64, 64), dtype=np.float32) * 100
    view = View(image, mask, 20.0, 40.0, FineView.of(image, mask))
    return FramePicture(
        title="frame.tif",
        view=view,
        azimuth=measure_azimuth(view, Geometry(shape=(64, 64), center_x=20.0, center_y=40.0)),
        reconstruction=rng.random((32, 32), dtype=np.float32) * 100,
        coefficients=(rng.normal(size=(40, 11)) + 1j * rng.normal(size=(40, 11))).astype(np.complex64),
        orders=range(0, 21, 2),
        scores={label: 0.05 + 0.09 * place for place, label in enumerate(LABELS)},
        thresholds=dict.fromkeys(LABELS, 0.5),
        labels=LABELS[5:],
        remark="fit residual 0.1",
    )


def test_masked_pixels_have_no_value_and_the_centre_is_marked(picture: FramePicture) -> None:
    view, rebuilt = draw_frame(picture).axes[:2]
    shown = view.images[0].get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), ~picture.view.mask)
    for axes in (view, rebuilt):
        (centre,) = axes.lines
        assert (centre.get_xdata()[0], centre.get_ydata()[0]) == (20.0, 40.0)
        # Rows run down, as on the detector.
        assert axes.get_ylim() == (63.5, -0.5)
    assert view.images[0].get_extent() == rebuilt.images[0].get_extent()
    assert view.images[0].get_clim() == rebuilt.images[0].get_clim()


def test_a_centre_off_the_view_is_told_instead(picture: FramePicture) -> None:
    view = draw_frame(replace(picture, view=replace(picture.view, center_x=-300.0))).axes[0]
    assert not view.lines
    assert "off the view, at x = -300, y = 40" in view.get_xlabel()


def test_coefficients_are_on_a_logarithmic_scale_with_orders_across(picture: FramePicture) -> None:
    axes = draw_frame(picture).axes[2]
    shown = np.asarray(axes.images[0].get_array())
    amplitudes = np.abs(picture.coefficients)
    assert shown.shape == (40, 11)
    assert shown.max() == pytest.approx(1)
    # Undoing the logarithm gives the amplitudes back, up to their common scale.
    np.testing.assert_allclose(
        np.expm1(shown * np.log(256)) / 255, amplitudes / amplitudes.max(), rtol=1e-4, atol=1e-6
    )
    assert [text.get_text() for text in axes.get_xticklabels()] == [str(order) for order in range(0, 21, 2)]


def test_bars_are_the_probabilities_and_accepted_ones_stand_out(picture: FramePicture) -> None:
    axes = draw_frame(picture).axes[3]
    bars = axes.patches
    assert [bar.get_width() for bar in bars] == pytest.approx(list(picture.scores.values()))
    stands_out = [bar.get_facecolor() == to_rgba(ACCEPTED_COLOUR) for bar in bars]
    assert stands_out == [label in picture.labels for label in LABELS]


def test_doubtful_labels_have_a_colour_of_their_own_and_a_question_mark(picture: FramePicture) -> None:
    axes = draw_frame(replace(picture, doubtful=LABELS[3:5])).axes[3]
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours == [
        to_rgba(colour)
        for colour, times in ((REFUSED_COLOUR, 3), (DOUBTFUL_COLOUR, 2), (ACCEPTED_COLOUR, 5))
        for _ in range(times)
    ]
    hatched = [bool(bar.get_hatch()) for bar in axes.patches]
    assert hatched == [label in LABELS[3:5] for label in LABELS]
    written = [text.get_text() for text in axes.texts]
    assert [text.endswith("?") for text in written] == [label in LABELS[3:5] for label in LABELS]
    assert "?: doubtful" in axes.get_title()
    assert "doubtful" not in draw_frame(picture).axes[3].get_title()


def test_eighteen_labels_have_eighteen_bars(picture: FramePicture) -> None:
    scores = {label: 0.03 + 0.05 * place for place, label in enumerate(ALL_LABELS)}
    axes = draw_frame(replace(picture, scores=scores, thresholds=dict.fromkeys(ALL_LABELS, 0.5))).axes[3]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(list(scores.values()))
    assert [text.get_text() for text in axes.get_yticklabels()] == list(TITLES.values())
    # The further ones stand apart, under a heading of their own.
    places = [bar.get_y() for bar in axes.patches]
    steps = np.diff(places)
    assert np.argmax(steps) == len(LABELS) - 1
    np.testing.assert_allclose(np.delete(steps, len(LABELS) - 1), 1)
    (heading,) = (text for text in axes.texts if text.get_text() == "further labels")
    assert places[9] + 0.7 < heading.get_position()[1] < places[10]
    assert not any(text.get_text() == "further labels" for text in draw_frame(picture).axes[3].texts)


def test_what_is_measured_along_the_azimuth_is_drawn_and_what_the_row_says_of_it(
    picture: FramePicture,
) -> None:
    polar, contrasts = panels_of_azimuth(draw_frame(picture))
    assert len(polar.images) == 2
    assert contrasts.get_title() == "no order stands out"
    stored = replace(picture, measured_order=4, measured_contrast=0.317)
    assert panels_of_azimuth(draw_frame(stored))[1].get_title() == "measured order 4, contrast 0.32"
    assert polar.get_xlim() == contrasts.get_xlim()


def panels_of_azimuth(figure):
    (polar,) = (axes for axes in figure.axes if axes.get_title() == "view by azimuth and radius")
    (contrasts,) = (axes for axes in figure.axes if axes.get_yscale() == "log")
    return polar, contrasts


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_flat_and_dark_frames_can_be_drawn(picture: FramePicture, value: float, tmp_path) -> None:
    view = replace(picture.view, image=np.full_like(picture.view.image, value))
    flat = replace(
        picture,
        view=view,
        azimuth=measure_azimuth(view, Geometry(shape=(64, 64), center_x=20.0, center_y=40.0)),
        coefficients=np.zeros_like(picture.coefficients),
        title="a $name with_odd {characters}.tif",
    )
    draw_frame(flat).savefig(tmp_path / "flat.png")
