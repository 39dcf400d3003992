"""A detector without hardware, for the demo and the profile: an ophyd device like any other."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from dvfb_stream.errors import MissingExtraError, SettingsError
from dvfb_stream.frames import Geometry
from dvfb_stream.profiles.exposures import Exposures

try:
    from ophyd import Component, Device, Kind, Signal
    from ophyd.status import DeviceStatus
except ImportError as error:
    raise MissingExtraError(error.name or "ophyd", "bluesky") from error

UNKNOWN = "unknown"
"""Stands where nobody knows which labels are really visible."""


class _Image(Signal):  # type: ignore[misc]
    """Pixels of the last exposure; described by the detector, so that Tiled stores them in their own type."""

    def describe(self) -> OrderedDict[str, dict[str, Any]]:
        exposures: Exposures = self.parent.exposures
        return OrderedDict(
            {
                self.name: {
                    "source": f"SIM:{self.name}",
                    "dtype": "array",
                    "shape": list(exposures.geometry.shape),
                    "dtype_numpy": exposures.dtype.str,
                }
            }
        )


class SimulatedDetector(Device):  # type: ignore[misc]
    """An area detector whose exposures come from the simulator or from files.

    Each `trigger` takes the next exposure, on a thread of its own as hardware does. An event carries the pixels
    themselves (`<name>_image`) and, separated by commas, the labels that are really visible (`<name>_truth`;
    ``unknown`` for frames from files); the beam centre stands in the configuration.

    Parameters
    ----------
    exposures
        What is exposed first; see `mount`.
    name
        Name of the device; data keys begin with it.
    """

    image = Component(_Image, kind=Kind.normal)
    truth = Component(Signal, value=UNKNOWN, kind=Kind.normal)
    center_x = Component(Signal, value=0.0, kind=Kind.config)
    center_y = Component(Signal, value=0.0, kind=Kind.config)

    def __init__(self, exposures: Exposures, *, name: str, **settings: Any) -> None:
        self.exposures = exposures
        super().__init__("", name=name, **settings)
        self.mount(exposures)

    @property
    def geometry(self) -> Geometry:
        """Geometry of the exposures, to be given for the data key `image.name`."""
        return self.exposures.geometry

    def mount(self, exposures: Exposures) -> None:
        """Expose something else from now on.

        Raises
        ------
        SettingsError
            When its geometry is another one: the detector has not moved, only the sample was changed.
        """
        if exposures.geometry != self.exposures.geometry:
            raise SettingsError(
                "the new exposures have another geometry than the detector; make a detector of its own for them"
            )
        self.exposures = exposures
        self.center_x.put(exposures.geometry.center_x)
        self.center_y.put(exposures.geometry.center_y)

    def trigger(self) -> DeviceStatus:
        """Take the next exposure; the status is done when its pixels can be read."""
        status = DeviceStatus(self)
        threading.Thread(
            target=self._expose, args=(status,), name=f"{self.name}-exposure", daemon=True
        ).start()
        return status

    def _expose(self, status: DeviceStatus) -> None:
        try:
            exposure = self.exposures.expose()
            self.image.put(exposure.pixels)
            self.truth.put(UNKNOWN if exposure.truth is None else ",".join(exposure.truth))
        except Exception as error:  # noqa: BLE001 - the status carries it to the plan, which fails of it
            status.set_exception(error)
        else:
            status.set_finished()
