"""msgpack's own decoder, whoever has put another in its place.

Importing `bluesky_kafka` installs one in the `msgpack` module, for the whole process, that unpickles what messages
bring along.
"""

from __future__ import annotations

from dvfb_stream.errors import MissingExtraError

try:
    try:
        from msgpack._cmsgpack import unpackb
    except ImportError:  # a machine without the compiled module
        from msgpack.fallback import unpackb
except ImportError as missing:
    raise MissingExtraError("msgpack", "kafka") from missing

__all__ = ["unpackb"]
