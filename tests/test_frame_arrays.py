"""Arrays of frames have names that people write, and one form in documents."""

from __future__ import annotations

import numpy as np
import pytest

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.errors import SettingsError
from dvfb_stream.frame_arrays import documented, named_arrays, shapes_of

MODEL = ModelIdentity(name="m", version="1", sha256="0" * 64)


def test_names_are_checked_and_what_is_wrong_is_named_with_what_there_is():
    assert named_arrays(["features", "coefficients", "features"]) == ("features", "coefficients")
    assert named_arrays(()) == ()
    with pytest.raises(SettingsError, match="unknown array 'feature'; there are coefficients, features"):
        named_arrays(["coefficients", "feature"])
    with pytest.raises(SettingsError, match="not the text 'features'"):
        named_arrays("features")
    with pytest.raises(SettingsError, match="unknown array 3"):
        named_arrays([3])


def test_an_annotator_that_has_none_is_named():
    assert shapes_of("the model m", {"features": (64,), "coefficients": (40, 11, 2)}, ["features"]) == {
        "features": (64,)
    }
    with pytest.raises(SettingsError, match="the model m hands out no features; it has no arrays"):
        shapes_of("the model m", {}, ["features"])


def test_coefficients_lie_in_documents_as_real_and_imaginary_parts():
    coefficients = np.arange(6).reshape(2, 3) * (1 + 2j)
    annotation = Annotation(status="ok", model=MODEL, coefficients=coefficients.astype(np.complex64))
    found = documented(annotation, "coefficients", (2, 3, 2))
    assert found.dtype == np.dtype("<f4")
    np.testing.assert_array_equal(found[..., 0], coefficients.real)
    np.testing.assert_array_equal(found[..., 1], coefficients.imag)
    with pytest.raises(ValueError, match=r"\(2, 3, 2\), not \(40, 11, 2\)"):
        documented(annotation, "coefficients", (40, 11, 2))


def test_what_an_annotation_does_not_carry_is_nan():
    found = documented(Annotation.failed("dark", model=MODEL), "features", (64,))
    assert found.shape == (64,)
    assert np.isnan(found).all()
