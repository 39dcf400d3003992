"""The annotator: frames in, annotations out; view, coefficients, network and calibration in one place."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from dvfb_stream import __version__
from dvfb_stream.annotations import Annotation, ModelIdentity, Status
from dvfb_stream.azimuthal.orders import FEWEST_RINGS, AzimuthalOrders, MeasuredOrders
from dvfb_stream.azimuthal.ring_statistics import VERSION as RINGS_VERSION
from dvfb_stream.azimuthal_cache import AzimuthalCache
from dvfb_stream.errors import BundleError, FrameError, GeometryError, SettingsError
from dvfb_stream.fbt import FourierBessel, complex_from_real, find_device
from dvfb_stream.fourier_bessel_cache import FourierBesselCache
from dvfb_stream.frame_annotator import FrameAnnotator, StageReport
from dvfb_stream.frame_arrays import FrameArray
from dvfb_stream.frames import Frame, Geometry, listed, pixels_of
from dvfb_stream.gpu_transfer import GpuTransfer, Transfer
from dvfb_stream.labels import settled
from dvfb_stream.metrics import Stage
from dvfb_stream.models import Bundle, find_bundle, load_bundle
from dvfb_stream.models.calibration import OPERATING_POINTS, probabilities
from dvfb_stream.models.decision import (
    MEASURED_LABELS,
    NOT_GATED,
    Decided,
    Decision,
    accepted_from,
    decide,
)
from dvfb_stream.models.folded import folded
from dvfb_stream.models.novelty import novelty_inputs
from dvfb_stream.processor_lanes import ProcessorLanes
from dvfb_stream.remarks import mostly_masked, too_even, too_little
from dvfb_stream.view import FULL_SCALE, MAXIMUM, VIEW_SIZE, View, ViewResamplers

ESTIMATOR_CACHE_BYTES = 1 << 30
"""Some fifty geometries; a beamline has one or two at a time."""

INFERENCE_FRAMES = 64
"""Frames that go through estimate and network together, however many share a geometry: each takes 1.5 MB on the
way, and larger batches are no faster on a processor."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

NEVER = 2.0
"""Threshold of a label that is never accepted: no probability is as large, and documents hold only finite numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A frame with all that can be done of it alone, before its batch."""

    frame: Frame
    view: View | FrameError | GeometryError
    """Or the reason why it has none."""
    transfer: Transfer | None = None
    """The view on the device, where it is copied ahead."""


@dataclass(frozen=True, slots=True, eq=False)
class Inferred:
    """All that the model says about one frame."""

    scores: NDArray[np.float64]
    """(L,) probabilities."""
    accepted: NDArray[np.bool_]
    """(L,)."""
    doubtful: NDArray[np.bool_]
    """(L,): neither accepted nor rejected."""
    stated: NDArray[np.float64]
    """(L,) probabilities that the network alone states."""
    measured: MeasuredOrders
    residual: float
    novelty: float
    coefficients: NDArray[np.complex64]
    """(n_radial, n_orders)."""
    activations: NDArray[np.float32]
    """(hidden,) of the first fully connected layer."""
    view: View


class Annotator(FrameAnnotator):
    """Annotates frames with one model on one device.

    For one thread at a time, with one exception: `prepare` may be called by others meanwhile.

    Parameters
    ----------
    bundle
        The model.
    device
        ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``, ...
    thresholds
        Operating point of the accepted labels: ``best_f1``, or ``high_precision``, at which 95 % of the accepted
        simulated frames of the calibration have the label; a label that never reaches that is never accepted. Of
        real frames fewer have it: the bundle's card says how many.
    estimator_cache_bytes
        Bound on the Fourier-Bessel estimators kept for geometries seen before.

    Attributes
    ----------
    device
        Where it computes.
    operating_point
        Name of the thresholds.
    thresholds
        Probability per label from which on it is accepted; above 1 for a label that never is.

    Raises
    ------
    BundleError
        When the bundle was trained on other views than this version makes.
    SettingsError
        When the device does not exist here.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "auto",
        thresholds: str = "best_f1",
        estimator_cache_bytes: int = ESTIMATOR_CACHE_BYTES,
    ) -> None:
        _check_view(bundle)
        if thresholds not in OPERATING_POINTS:
            raise SettingsError(
                f"thresholds must be one of {', '.join(OPERATING_POINTS)}, not {thresholds!r}"
            )
        self.operating_point = thresholds
        self._bundle = bundle
        self._identity = bundle.identity
        self.device = find_device(device)
        # The bundle's own stays on the CPU: from a lost device nothing can be fetched.
        self._network = folded(bundle.network).to(self.device)
        self._calibrations = bundle.calibrations
        heads = () if bundle.heads is None else bundle.heads.labels
        self.thresholds = {
            label: min(accepted_from(c, thresholds, None if label in heads else bundle.decision), NEVER)
            for label, c in zip(self.labels, bundle.calibrations, strict=True)
        }
        self._adapted = np.array([label in heads for label in self.labels])
        self._fbt = bundle.fbt_settings
        self._views = ViewResamplers()
        self._estimators = FourierBesselCache(
            self._fbt, self._views, device=self.device, max_bytes=estimator_cache_bytes
        )
        self._azimuthal = AzimuthalCache(self._views)
        self._lanes = ProcessorLanes()
        self._report: StageReport | None = None
        self._kept: frozenset[str] = frozenset()
        self._transfer: GpuTransfer | None = None

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] = "default",
        *,
        device: str = "auto",
        thresholds: str = "best_f1",
    ) -> Annotator:
        """Return the annotator of a bundle, given by name or by folder; the rest is as in the class itself.

        Raises
        ------
        BundleError
            When there is no such bundle, or it is incomplete, altered, or of another version.
        SettingsError
            When the device or the operating point does not exist.
        """
        return cls(load_bundle(find_bundle(model)), device=device, thresholds=thresholds)

    def __repr__(self) -> str:
        return f"<Annotator {self.identity} on {self.device}>"

    @property
    def identity(self) -> ModelIdentity:
        """Which model this is."""
        return self._identity

    @property
    def labels(self) -> tuple[str, ...]:
        """What the model knows, in the order of `dvfb_stream.labels.ALL_LABELS`."""
        return self._bundle.description.labels

    @property
    def decision(self) -> Decision | None:
        """How network and measurement decide together; None: the network alone does."""
        return self._bundle.decision

    @property
    def hidden(self) -> int:
        """Width of the network's first fully connected layer."""
        return self._network.hidden

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays that annotations can carry: coefficients and features."""
        return {
            FrameArray.COEFFICIENTS: (self._fbt.n_radial, len(self._fbt.orders), 2),
            FrameArray.FEATURES: (self.hidden,),
        }

    def keep_arrays(self, names: Sequence[str]) -> None:
        """From now on have annotations carry these arrays, besides those asked for before."""
        self._kept |= frozenset(names)

    def provenance(self) -> dict[str, Any]:
        """Return what a result needs beside it to be traced and repeated; JSON-ready.

        The device is not part of it: results do not depend on it, and it may change while results are written.
        """
        identity = self.identity
        return {
            "model": {"name": identity.name, "version": identity.version, "sha256": identity.sha256},
            "labels": list(self.labels),
            "operating_point": self.operating_point,
            "thresholds": self.thresholds,
            **({} if self.decision is None else {"decision": self.decision.as_dict()}),
            "fbt": self._fbt.as_dict(),
            "software": {
                "python": platform.python_version(),
                "dvfb-stream": __version__,
                "numpy": np.__version__,
                "torch": str(torch.__version__),
            },
        }

    def annotate(self, frames: Sequence[Frame], *, keep_coefficients: bool = False) -> list[Annotation]:
        """Return one annotation per frame, in order.

        Frames of equal geometry share a batch. A frame that cannot be annotated gets its reason; the others
        are not touched by it.

        Parameters
        ----------
        frames
            Any number, of any geometries.
        keep_coefficients
            Whether annotations carry the Fourier-Bessel coefficients, whatever `keep_arrays` was told.

        Raises
        ------
        FrameError
            When `frames` is no list of frames: what is no frame in a list gets a reason like any other.
        """
        return self.annotate_prepared(self.prepare_all(listed(frames)), keep_coefficients=keep_coefficients)

    def prepare_all(self, frames: Sequence[Frame]) -> list[Prepared]:
        """Return what `prepare` returns for each frame, in their order.

        One after another: two threads of Python's are hardly quicker at it, and take two thirds more of the
        processor's time.
        """
        return [self.prepare(frame) for frame in frames]

    def prepare(self, frame: Frame) -> Prepared:
        """Return a frame with its view, for `annotate_prepared`; any thread, at any time.

        A worker calls it for the next frames while a batch is computed on a GPU.
        """
        started = time.perf_counter()
        try:
            pixels = pixels_of(frame)
            view = self._views.get(frame.geometry).view(pixels)
        except (FrameError, GeometryError) as error:
            return Prepared(frame, error)
        self._took(Stage.VIEW, time.perf_counter() - started)
        gpu = self._transfer
        return Prepared(frame, view, None if gpu is None else gpu.copy(view))

    def copy_ahead(self) -> None:
        """From now on `prepare` copies views to the GPU as well, while it computes, if there is one.

        `GpuTransfer` says what that costs.
        """
        if self.device.type == "cuda":
            self._transfer = GpuTransfer(self.device)

    @property
    def prepares_ahead(self) -> bool:
        """Whether a worker should call `prepare` on a second thread: where the network runs on another device."""
        return self.device.type != "cpu"

    def annotate_prepared(
        self, prepared: Sequence[Prepared], *, keep_coefficients: bool = False
    ) -> list[Annotation]:
        """Return what `annotate` returns, of frames that `prepare` has prepared."""
        return [
            self._failed(one.frame, result)
            if isinstance(result, Exception)
            else self.annotation(one.frame, result, keep_coefficients=keep_coefficients)
            for one, result in zip(prepared, self.infer(prepared), strict=True)
        ]

    def fall_back(self) -> str:
        """Compute on the CPU from now on, and return its name: for when the device is lost.

        The device is not touched: weights are those of the bundle, estimators are built anew, and what lay on the
        device is let go. Annotations are the same but for rounding. Where it computes on the CPU already, nothing
        changes.
        """
        if self.device.type != "cpu":
            self.device = torch.device("cpu")
            self._network = folded(self._bundle.network)
            self._estimators = self._estimators.on(self.device)
            self._transfer = None
        return str(self.device)

    def report_stages(self, report: StageReport | None) -> None:
        """Report each view, and estimate and network of each batch, from the thread that did the work.

        Of a batch that is divided among the processor's cores each part is reported.
        """
        self._report = report

    def infer(self, prepared: Sequence[Prepared]) -> list[Inferred | FrameError | GeometryError]:
        """Return what the model says about each frame, or why it cannot; frames of equal geometry share batches."""
        results: dict[int, Inferred | FrameError | GeometryError] = {}
        groups: dict[Any, tuple[View, list[int]]] = {}
        for index, one in enumerate(prepared):
            if isinstance(one.view, Exception):
                results[index] = one.view
                continue
            # A frame that alone has lost pixels (overflow, negative) has an estimator, hence a batch, of its own.
            masks = (np.packbits(mask).tobytes() for mask in (one.view.mask, one.view.fine.mask))
            key = (one.frame.geometry.digest, *masks)
            groups.setdefault(key, (one.view, []))[1].append(index)
        for view, indices in groups.values():
            try:
                estimator = self.estimator_of(view, prepared[indices[0]].frame.geometry)
            except GeometryError as error:
                results.update(dict.fromkeys(indices, error))
                continue
            for start in range(0, len(indices), INFERENCE_FRAMES):
                some = indices[start : start + INFERENCE_FRAMES]
                found = self._divided(partial(self._infer, estimator), [prepared[i] for i in some])
                results.update(zip(some, found, strict=True))
        return [results[index] for index in range(len(prepared))]

    def estimator_of(self, view: View, geometry: Geometry) -> FourierBessel:
        """Return the estimator of a view; GeometryError where no basis function reaches its valid pixels."""
        return self._estimators.get(view, geometry)

    def _divided(
        self, work: Callable[[Sequence[_Item]], Sequence[_Result]], items: Sequence[_Item]
    ) -> list[_Result]:
        """Return what `work` makes of frames, divided among the processor's cores where that is what computes."""
        return self._lanes.map(work, items) if self.device.type == "cpu" else list(work(items))

    @torch.inference_mode()
    def _infer(self, estimator: FourierBessel, prepared: Sequence[Prepared]) -> list[Inferred | FrameError]:
        """Return what the model says about frames with views that share an estimator."""
        began = time.perf_counter()
        views = [one.view for one in prepared if isinstance(one.view, View)]
        orders, counts = self._azimuthal.get(views, prepared[0].frame.geometry)
        measured, rings = self._measure(orders, counts)
        images, masks = self._on_device(prepared)
        solution = estimator.solve(images)
        coefficients = complex_from_real(
            solution.coefficients, n_radial=self._fbt.n_radial, orders=self._fbt.orders
        )
        # Waits for the device, so that what follows is timed alone.
        residuals = solution.unexplained.cpu().numpy()
        estimated = time.perf_counter()
        logits, hidden = self._network(self._network.prepare(images, masks, coefficients, rings))
        features = hidden.cpu().numpy()
        novelties = self._bundle.novelty.novelty(
            novelty_inputs(hidden, images, masks[:1], invariant=self._network.invariant)
        )
        stated = probabilities(self._judged(logits.cpu().numpy(), features), self._calibrations)
        decided = self._decided(stated, measured, novelties)
        amplitudes = coefficients.cpu().numpy()
        self._took(Stage.COEFFICIENTS, estimated - began)
        self._took(Stage.NETWORK, time.perf_counter() - estimated)
        return [
            FrameError(
                "what is measured of the frame is not finite; look for values that no detector counts, and declare "
                "them invalid (`--dummy`, `InvalidValues`)"
            )
            if not np.isfinite(decided.scores[i]).all()
            else Inferred(
                decided.scores[i],
                decided.accepted[i],
                decided.doubtful[i],
                stated[i],
                measured[i],
                float(residuals[i]),
                float(novelties[i]),
                amplitudes[i],
                features[i],
                view,
            )
            for i, view in enumerate(views)
        ]

    def _measure(
        self, orders: AzimuthalOrders, counts: Sequence[NDArray[np.float32]]
    ) -> tuple[list[MeasuredOrders], torch.Tensor | None]:
        """Return what is measured of views, and their ring statistics for a network that takes them."""
        if not self._network.takes_rings:
            return orders.measure(counts), None
        measured, rings = orders.examine(counts)
        # Rounded as they are kept for training.
        return measured, torch.from_numpy(rings.astype(np.float16)).to(self.device).float()

    def _decided(
        self,
        stated: NDArray[np.float64],
        measured: Sequence[MeasuredOrders],
        novelties: NDArray[np.float64],
    ) -> Decided:
        thresholds = np.array(list(self.thresholds.values()))
        decision = self._bundle.decision
        if decision is None:
            accepted = stated >= thresholds
            return Decided(stated, accepted, np.zeros_like(accepted))
        evidence = np.array([[one.verified.labels[label] for label in MEASURED_LABELS] for one in measured])
        known = np.array([one.verified.rings_known >= FEWEST_RINGS for one in measured])
        return decide(stated, evidence, known, novelties, thresholds, decision, adapted=self._adapted)

    def _judged(self, logits: NDArray[np.float32], features: NDArray[np.float32]) -> ArrayLike:
        """Return what calibration turns into probabilities, (B, L): logits, or the decisions of kernel heads."""
        heads = self._bundle.heads
        return logits if heads is None else heads.in_place_of(logits, features)

    def _on_device(self, prepared: Sequence[Prepared]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images and masks of views, (B, rows, columns) each."""
        transfers = [one.transfer for one in prepared if one.transfer is not None]
        if self._transfer is not None and len(transfers) == len(prepared):
            return self._transfer.batch(transfers)
        views = [one.view for one in prepared if isinstance(one.view, View)]
        images = torch.from_numpy(np.stack([view.image for view in views])).to(self.device)
        return images, torch.from_numpy(np.stack([view.mask for view in views])).to(self.device)

    def _took(self, stage: Stage, seconds: float) -> None:
        if self._report is not None:
            self._report(stage, seconds)

    def annotation(self, frame: Frame, result: Inferred, *, keep_coefficients: bool = False) -> Annotation:
        """Return the annotation of a frame from what the model says about it."""
        masked, geometry = result.view.masked_pixels, frame.geometry
        nothing, even = too_little(result.view, geometry), too_even(result.measured.variation)
        permitted = () if nothing else NOT_GATED if even else self.labels
        labels, doubtful = settled(
            *(
                [each for each in self._named(which) if each in permitted]
                for which in (result.accepted, result.doubtful)
            )
        )
        best = result.measured.verified
        known = best.rings_known >= FEWEST_RINGS
        return Annotation(
            status=Status.OK,
            model=self._identity,
            origin=frame.origin,
            masked_pixels=masked,
            remark=" ".join(
                filter(
                    None,
                    (
                        nothing or even,
                        mostly_masked(masked, math.prod(geometry.shape)),
                        result.view.scale.remark,
                    ),
                )
            ),
            scores={label: float(score) for label, score in zip(self.labels, result.scores, strict=True)},
            labels=labels,
            doubtful=doubtful,
            measured_order=best.order if known else 0,
            measured_contrast=best.contrast if known else math.nan,
            fit_residual=result.residual,
            novelty=result.novelty,
            coefficients=result.coefficients
            if keep_coefficients or FrameArray.COEFFICIENTS in self._kept
            else None,
            features=result.activations if FrameArray.FEATURES in self._kept else None,
        )

    def _named(self, which: NDArray[np.bool_]) -> list[str]:
        return [label for label, given in zip(self.labels, which, strict=True) if given]

    def _failed(self, frame: Frame, error: Exception) -> Annotation:
        return Annotation.failed(str(error), model=self._identity, origin=getattr(frame, "origin", None))


def _check_view(bundle: Bundle) -> None:
    """Refuse a bundle trained on views of another size or scale: it would judge what it has never seen."""
    made = {"size": VIEW_SIZE, "maximum": MAXIMUM, "full_scale": FULL_SCALE, "rings": RINGS_VERSION}
    for name, stated in bundle.description.view.items():
        if name not in made or stated != made[name]:
            raise BundleError(
                f"the model {bundle.identity} was trained on views with {name} {stated!r}, but this version of "
                f"dvfb_stream makes them with {made.get(name, f'no {name}')}; retrain it or install the version "
                "that trained it"
            )
