"""Tells apart what Tiled answers: not now, or never."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import httpx

from dvfb_stream.catalog.store_errors import StoreFaultError, StoreRefusedError, StoreUnavailableError
from dvfb_stream.errors import DvfbError

_LATER = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
        # A run that somebody deletes while it is written: the next call makes it anew.
        HTTPStatus.NOT_FOUND,
        HTTPStatus.GONE,
    }
)
"""Client errors after which the same call may succeed."""

_KEY_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})

_CLIENT = frozenset({"tiled", "bluesky_tiled_plugins", "httpx", "json", "msgpack"})
"""Packages that read answers."""

_LONGEST_REASON = 500
"""Characters of what a server says that go into a message: a proxy may answer with a whole page."""


@contextmanager
def told_apart(action: str) -> Iterator[None]:
    """Turn what Tiled's client raises inside into the two errors of a store.

    Parameters
    ----------
    action
        What was tried, as the error is to name it: "writing rows of run ...".

    Raises
    ------
    StoreUnavailableError
        When the same call may succeed later.
    StoreRefusedError
        When it will not.
    """
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise _of_status(action, error.response) from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise StoreRefusedError(f"{action} failed: {_said(error)}", everything=True) from error
    except (httpx.HTTPError, httpx.StreamError, OSError) as error:
        raise StoreUnavailableError(f"{action} failed: Tiled does not answer ({_said(error)})") from error
    except DvfbError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if not _is_of_the_answer(error):
            raise
        raise StoreFaultError(
            f"{action} failed: what answered is not Tiled's answer ({error!r})"[:_LONGEST_REASON]
        ) from error


def _is_of_the_answer(error: Exception) -> bool:
    """Return whether Tiled's client stumbled over an answer: a proxy's page with status 200, or half of one.

    It does not check what it is given. Documents were checked before, so that the fault is not theirs.
    """
    if isinstance(error, KeyError | json.JSONDecodeError):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] in _CLIENT


def _of_status(action: str, response: httpx.Response) -> StoreUnavailableError | StoreRefusedError:
    status = response.status_code
    said = f"{action} failed: Tiled answered {status} ({_detail(response)})"
    if status in _KEY_REFUSED:
        cure = "give TILED_API_KEY a key that may read, create, write and delete where the annotations are"
        return StoreRefusedError(said, everything=True, cure=cure)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return StoreFaultError(said)
    if status in _LATER or status < HTTPStatus.BAD_REQUEST:
        return StoreUnavailableError(said)
    return StoreRefusedError(said, everything=False)


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json().get("detail")
    except Exception:  # noqa: BLE001 whatever a proxy sends in place of JSON, or a body that was not read
        detail = None
    return str(detail or response.reason_phrase)[:_LONGEST_REASON]


def _said(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:_LONGEST_REASON]
