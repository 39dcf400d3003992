"""Views reach the descriptors a few at a time, whatever holds them."""

import numpy as np
import pytest
from numpy.lib.format import open_memmap

from dvfb_stream.errors import FrameError
from dvfb_stream.reproduction.descriptors.batches import FRAMES_PER_BATCH, halved_batches


@pytest.fixture
def views():
    return np.random.default_rng(0).integers(0, 256, (2 * FRAMES_PER_BATCH + 1, 256, 256), dtype=np.uint8)


def block_averages(views, masks):
    blocks = views.reshape(len(views), 128, 2, 128, 2).astype(float)
    known = masks.reshape(len(views), 128, 2, 128, 2)
    counts = known.sum((2, 4))
    return (blocks * known).sum((2, 4)) / np.maximum(counts, 1), counts > 0


def test_every_view_comes_once_and_in_order(views):
    masks = np.random.default_rng(1).random(views.shape) > 0.6
    batches = list(halved_batches(views, masks))
    assert [len(images) for images, _ in batches] == [FRAMES_PER_BATCH, FRAMES_PER_BATCH, 1]
    images, valid = (np.concatenate([np.asarray(batch[part]) for batch in batches]) for part in (0, 1))
    expected, known = block_averages(views, masks)
    np.testing.assert_allclose(images, expected, rtol=1e-5)
    assert (valid == known).all()


def test_without_masks_every_pixel_is_valid(views):
    for _, valid in halved_batches(views, None):
        assert valid.all()


def test_views_mapped_read_only_from_a_file_are_taken_as_they_are(views, tmp_path):
    stored = open_memmap(tmp_path / "views.npy", "w+", np.float16, views.shape)
    stored[:] = views
    stored.flush()
    mapped = np.load(tmp_path / "views.npy", mmap_mode="r")
    for (found, _), (expected, _) in zip(
        halved_batches(mapped, None), halved_batches(views, None), strict=True
    ):
        assert (found == expected).all()


def test_other_shapes_are_refused(views):
    with pytest.raises(FrameError, match=r"\(N, 256, 256\), not \(256, 256\)"):
        next(halved_batches(views[0], None))
    with pytest.raises(FrameError, match="masks must have the shape"):
        next(halved_batches(views, np.ones((256, 256), dtype=bool)))
