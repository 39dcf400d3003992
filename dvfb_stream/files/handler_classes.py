"""Handlers by name: classes that packages register, and those of a beamline, which another process imports."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from dvfb_stream.errors import FrameError, SettingsError

HANDLER_GROUPS = ("databroker.handlers",)
"""Entry points by which packages register handlers."""

Handler = Callable[..., Any]


class HandlerClasses:
    """Finds the class that reads resources of a spec.

    Parameters
    ----------
    given
        By spec, before those that packages register: a class, or where it is, ``package.module:Class``.
    """

    def __init__(self, given: Mapping[str, Handler | str]) -> None:
        self._given = dict(given)
        self._registered: dict[str, Any] | None = None

    def of(self, spec: str) -> Handler:
        """Return the class for a spec; FrameError where there is none, or it cannot be imported."""
        found = self._given.get(spec)
        if found is None:
            found = self._of_packages(spec)
        elif isinstance(found, str):
            try:
                found = handler_at(found)
            except SettingsError as error:
                raise FrameError(f"the handler of {spec!r} cannot be loaded: {error}") from error
        self._given[spec] = found
        return found

    def _of_packages(self, spec: str) -> Handler:
        if self._registered is None:
            self._registered = {e.name: e for group in HANDLER_GROUPS for e in entry_points(group=group)}
        if spec not in self._registered:
            raise FrameError(
                f"no handler reads resources of the spec {spec!r}; install the package that has it "
                f"(area-detector-handlers has many), or give handlers={{{spec!r}: 'package.module:Class'}}"
            )
        try:
            found: Handler = self._registered[spec].load()
        except ImportError as error:
            raise FrameError(f"the handler of {spec!r} cannot be loaded: {error}") from error
        return found


def handler_at(place: str) -> Handler:
    """Return what ``package.module:Class`` names.

    Raises
    ------
    SettingsError
        When it is no such name, cannot be imported, or cannot be called.
    """
    module, _, name = place.partition(":")
    if not module or not name:
        raise SettingsError(f"a handler is named as package.module:Class, not {place!r}")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module that is imported may raise anything
        raise SettingsError(
            f"the handler {place} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise SettingsError(f"the handler {place} is no class, but {type(found).__name__}")
    handler: Handler = found
    return handler


def importable(handlers: Mapping[str, Handler | str]) -> dict[str, str]:
    """Return where another process finds each handler, as ``package.module:Class``.

    Raises
    ------
    SettingsError
        When one cannot be imported from there: it is defined in a script, in a session of IPython, or in a function.
    """
    places = {}
    for spec, handler in handlers.items():
        place = handler
        if not isinstance(place, str):
            module, name = getattr(handler, "__module__", None), getattr(handler, "__qualname__", None)
            place = f"{module}:{name}"
            if module in (None, "__main__") or name is None or "<locals>" in name:
                raise SettingsError(
                    f"handlers[{spec!r}] is {place}, which the process that reads files cannot import: put it into a "
                    "module that can be imported, or read files in this process, with annotate_in='thread'"
                )
        handler_at(place)
        places[spec] = place
    return places
