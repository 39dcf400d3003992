"""PCANet against scikit-learn's principal components and a literal reading of the publication."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from dvfb_stream.errors import FrameError, SettingsError
from dvfb_stream.reproduction.descriptors import PcaNet

SIDE = 64


def smooth_views(count, seed=0):
    """Views that are waves on 64 x 64 pixels: components of their patches differ clearly in variance."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    views = np.zeros((count, SIDE, SIDE))
    for view in views:
        for _ in range(6):
            kx, ky, phase = rng.normal(0, 0.5), rng.normal(0, 0.5), rng.uniform(0, 6)
            view += rng.uniform(5, 20) * np.cos(kx * x + ky * y + phase)
        view += 120 + rng.normal(0, 2, view.shape)
    return views.clip(0, 255)


def enlarged(fields):
    return np.kron(fields, np.ones((1, 4, 4), dtype=fields.dtype))


def literal_patches(image, known, patch):
    """Yield row, column and mean-removed patch of every valid pixel, one by one."""
    margin = patch // 2
    image, known = np.pad(np.where(known, image, 0), margin), np.pad(known, margin)
    for row in range(SIDE):
        for column in range(SIDE):
            if known[row + margin, column + margin]:
                region = slice(row, row + patch), slice(column, column + patch)
                inside = known[region]
                yield row, column, np.where(inside, image[region] - image[region][inside].mean(), 0)


def literal_responses(image, known, filters):
    responses = np.zeros((len(filters), SIDE, SIDE))
    for row, column, deviations in literal_patches(image, known, filters.shape[-1]):
        responses[:, row, column] = (filters * deviations).sum((1, 2))
    return responses


def literal_descriptor(image, known, first, second, block):
    """One frame's descriptor, as equations 3 to 10 of the publication say it."""
    histograms = []
    for each_map in literal_responses(image, known, first):
        bits = literal_responses(each_map, known, second) > 1e-3
        numbers = sum(2**place * bit for place, bit in enumerate(bits.astype(int)))
        for row in range(0, SIDE, block):
            for column in range(0, SIDE, block):
                region = slice(row, row + block), slice(column, column + block)
                counts = np.zeros(2 ** len(second))
                for number in numbers[region][known[region]]:
                    counts[number] += 1
                histograms.append(counts / max(known[region].sum(), 1))
    return np.concatenate(histograms)


def components(patches, count):
    """Principal components without centring across patches: those of the patches and their negatives."""
    flat = np.reshape(patches, (len(patches), -1))
    return PCA(count, svd_solver="full").fit(np.concatenate([flat, -flat])).components_


def assert_same_up_to_sign(filters, expected):
    overlaps = filters.reshape(len(filters), -1) @ expected.T
    np.testing.assert_allclose(np.abs(overlaps), np.eye(len(filters)), atol=2e-3)


@pytest.fixture(scope="module")
def masked():
    """Views with a gap, a beamstop and a valid edge, and their masks, 256 x 256; a block is lost altogether."""
    masks = np.ones((3, SIDE, SIDE), dtype=bool)
    masks[:, 20:23] = False
    masks[1, 30:38, 25:33] = False
    masks[2, 48:, 48:] = False
    views = smooth_views(3, seed=1) * masks
    return enlarged(views), enlarged(masks)


@pytest.fixture(scope="module")
def learned(masked):
    views, masks = masked
    return PcaNet(filters=(4, 3)).fit(views, masks=masks)


def test_first_filters_are_the_principal_components_of_patches(masked, learned):
    views, masks = masked
    patches = [
        deviations
        for view, mask in zip(views[:, ::4, ::4], masks[:, ::4, ::4], strict=True)
        for _, _, deviations in literal_patches(view, mask, 7)
    ]
    assert_same_up_to_sign(learned.first_filters_, components(patches, 4))


def test_inner_patches_alone_have_nearly_the_same_leading_component():
    views = smooth_views(6, seed=2)
    patches = np.concatenate([extract_patches_2d(view, (7, 7)) for view in views])
    expected = components(patches - patches.mean((1, 2), keepdims=True), 2)
    found = PcaNet(filters=(2, 2)).fit(enlarged(views)).first_filters_.reshape(2, -1)
    assert np.linalg.norm(found @ expected.T) > 0.95 * np.sqrt(2)


def test_second_filters_are_the_principal_components_of_the_first_ones_responses(masked, learned):
    views, masks = masked
    patches = [
        deviations
        for view, mask in zip(views[:, ::4, ::4], masks[:, ::4, ::4], strict=True)
        for each_map in literal_responses(view, mask, learned.first_filters_)
        for _, _, deviations in literal_patches(each_map, mask, 7)
    ]
    assert_same_up_to_sign(learned.second_filters_, components(patches, 3))


def test_descriptors_are_those_of_the_publication(masked, learned):
    views, masks = masked
    found = learned.transform(views, masks=masks)
    assert found.shape == (3, learned.features)
    assert learned.features == 4 * 16 * 2**3
    for descriptor, view, mask in zip(found, views[:, ::4, ::4], masks[:, ::4, ::4], strict=True):
        expected = literal_descriptor(view, mask, learned.first_filters_, learned.second_filters_, 16)
        # A sign within rounding of its border may fall on the other side: one pixel of 256, in one map.
        differences = np.abs(descriptor - expected)
        assert np.count_nonzero(differences > 1e-6) <= 4
        assert differences.max() < 0.01


def test_filters_are_orthonormal_and_blind_to_brightness(learned):
    for filters in (learned.first_filters_, learned.second_filters_):
        flat = filters.reshape(len(filters), -1)
        np.testing.assert_allclose(flat @ flat.T, np.eye(len(flat)), atol=1e-5)
        assert (flat[np.arange(len(flat)), np.abs(flat).argmax(1)] > 0).all()


def test_what_lies_under_the_mask_changes_nothing(masked, learned):
    views, masks = masked
    scribbled = np.where(masks, views, 200.0)
    assert (learned.transform(scribbled, masks=masks) == learned.transform(views, masks=masks)).all()


def test_a_lost_block_is_zero_and_the_others_are_shares(masked, learned):
    views, masks = masked
    blocks = learned.transform(views, masks=masks).reshape(3, 4, 16, 8)
    expected = np.ones((3, 4, 16))
    expected[2, :, 15] = 0
    np.testing.assert_allclose(blocks.sum(-1), expected, atol=1e-6)


def test_a_brighter_view_and_an_even_one_have_signs_alike(learned):
    views = enlarged(smooth_views(1) / 2)
    np.testing.assert_allclose(learned.transform(views * 2), learned.transform(views), atol=0.02)
    even = learned.transform(np.full((1, 256, 256), 77.7)).reshape(4, 16, 8)
    assert (even[:, :, 0] == 1).all()


def test_default_length_and_that_of_overlapping_blocks():
    assert PcaNet().features == 32_768
    assert PcaNet(overlap=0.5).features == 8 * 7**2 * 256
    views = enlarged(smooth_views(2))
    overlapping = PcaNet(filters=(2, 2), overlap=0.5)
    descriptors = overlapping.fit_transform(views)
    assert descriptors.shape == (2, overlapping.features)
    plain = PcaNet(filters=(2, 2)).fit(views).transform(views)
    every_second = descriptors.reshape(2, 2, 7, 7, 4)[:, :, ::2, ::2]
    np.testing.assert_allclose(every_second.reshape(2, -1), plain, atol=1e-6)


def test_frames_are_described_alike_whatever_is_beside_them(learned):
    views = enlarged(smooth_views(9, seed=3))
    together = learned.transform(views)
    alone = np.concatenate([learned.transform(view[None]) for view in views])
    np.testing.assert_allclose(together, alone, atol=0.005)
    assert learned.transform(views[:0]).shape == (0, learned.features)


def test_it_is_a_step_of_a_pipeline():
    rng = np.random.default_rng(4)
    waves = 120 + 80 * np.cos(np.arange(SIDE) / 2 + rng.uniform(0, 6, (16, 1)))
    truth = np.arange(16) // 2 % 2
    lying = np.where(truth[:, None, None], waves[:, :, None], waves[:, None, :])
    views = enlarged(lying + rng.normal(0, 10, lying.shape))
    pipeline = make_pipeline(PcaNet(filters=(4, 4)), LogisticRegression())
    assert pipeline.fit(views[::2], truth[::2]).score(views[1::2], truth[1::2]) == 1
    assert clone(PcaNet(block=8)).get_params() == PcaNet(block=8).get_params()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": 4}, "patch must be an odd number"),
        ({"patch": 1}, "patch must be an odd number"),
        ({"filters": (49, 8)}, r"not \(49, 8\)"),
        ({"filters": (8, 13)}, "1 to 12"),
        ({"filters": (8,)}, "filters must be"),
        ({"patch": 3, "filters": (8, 9)}, "1 to 8 and 1 to 8"),
        ({"block": 65}, "block must be 1 to 64"),
        ({"overlap": 1.0}, "below 1, not 1.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        PcaNet(**settings).fit(np.zeros((1, 256, 256)))


def test_views_of_another_shape_are_refused():
    with pytest.raises(FrameError, match=r"not \(2, 64, 64\)"):
        PcaNet().fit(np.zeros((2, 64, 64)))
    with pytest.raises(FrameError, match="masks must have the shape"):
        PcaNet().fit(np.zeros((2, 256, 256)), masks=np.ones((256, 256), dtype=bool))
    with pytest.raises(FrameError, match="there are none"):
        PcaNet().fit(np.zeros((0, 256, 256)))
