"""Where the broker of the benchmarks keeps topics and offsets, so that they outlive it: as much of S3 as it asks for.

    python -m benchmarks.beamline.object_store PORT

Tansu, the broker from pip, keeps what it has in memory or in S3. This is a process of its own that goes on when the
broker is killed, with objects in memory; a PUT may be conditional on the object that is there, which is what Tansu
counts offsets by. It ends with its standard input.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

HTTP_DATE = "%a, %d %b %Y %H:%M:%S GMT"
ISO_DATE = "%Y-%m-%dT%H:%M:%S.000Z"


@dataclass(frozen=True, slots=True)
class Stored:
    """An object."""

    content: bytes
    etag: str
    time: float

    def listed(self, key: str) -> str:
        """Return its entry in a list."""
        changed = time.strftime(ISO_DATE, time.gmtime(self.time))
        return (
            f"<Contents><Key>{escape(key)}</Key><LastModified>{changed}</LastModified><ETag>{escape(self.etag)}</ETag>"
            f"<Size>{len(self.content)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )


@dataclass(slots=True)
class Objects:
    """Objects by key, and their entries by folder: a broker lists a partition at each read."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stored: dict[str, Stored] = field(default_factory=dict)
    _listed: dict[str, dict[str, str]] = field(default_factory=dict)

    def get(self, key: str) -> Stored | None:
        """Return an object; None: there is none."""
        with self._lock:
            return self._stored.get(key)

    def put(self, key: str, content: bytes, *, only: str | None, anew: bool) -> str | None:
        """Store an object, `only` in the place of that with this tag, or `anew`; None: another is there."""
        stored = Stored(content, f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"', time.time())
        with self._lock:
            there = self._stored.get(key)
            if (anew and there is not None) or (only is not None and (there is None or there.etag != only)):
                return None
            self._stored[key] = stored
            self._listed.setdefault(key.rpartition("/")[0] + "/", {})[key] = stored.listed(key)
        return stored.etag

    def remove(self, key: str) -> None:
        """Remove an object, where there is one."""
        with self._lock:
            self._stored.pop(key, None)
            self._listed.get(key.rpartition("/")[0] + "/", {}).pop(key, None)

    def entries(self, prefix: str, after: str, delimiter: str) -> list[str]:
        """Return what begins with a prefix: objects, and, where there is a delimiter, folders in place of theirs."""
        with self._lock:
            folders = {name: dict(of) for name, of in self._listed.items() if name.startswith(prefix)}
        within = prefix if prefix.endswith("/") or not prefix else prefix.rpartition("/")[0] + "/"
        below = {
            name: name[len(prefix) :].partition(delimiter)[0]
            for name in folders
            if delimiter and name != within
        }
        keys = {key: entry for name, of in folders.items() if name not in below for key, entry in of.items()}
        found = [entry for key, entry in sorted(keys.items()) if key.startswith(prefix) and key > after]
        names = sorted({f"{prefix}{name}{delimiter}" for name in below.values()})
        return [
            *found,
            *(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in names),
        ]


class Answers(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    objects: Objects

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""

    def do_GET(self) -> None:
        """Return an object, or a list of them."""
        asked = {name: value[0] for name, value in parse_qs(urlsplit(self.path).query).items()}
        if "list-type" in asked:
            entries = self.objects.entries(
                asked.get("prefix", ""), asked.get("start-after", ""), asked.get("delimiter", "")
            )
            body = (
                '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<KeyCount>{len(entries)}</KeyCount><IsTruncated>false</IsTruncated>{''.join(entries)}"
                "</ListBucketResult>"
            )
            self._answer(200, body.encode(), {"Content-Type": "application/xml"})
        elif (stored := self.objects.get(self._key)) is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif self.headers.get("If-None-Match") == stored.etag:
            self._answer(304)
        else:
            changed = time.strftime(HTTP_DATE, time.gmtime(stored.time))
            self._answer(200, stored.content, {"ETag": stored.etag, "Last-Modified": changed})

    do_HEAD = do_GET  # noqa: N815

    def do_PUT(self) -> None:
        """Store an object."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        only, anew = self.headers.get("If-Match"), self.headers.get("If-None-Match") == "*"
        etag = self.objects.put(self._key, content, only=only, anew=anew)
        self._answer(412) if etag is None else self._answer(200, headers={"ETag": etag})

    def do_DELETE(self) -> None:
        """Remove an object."""
        self.objects.remove(self._key)
        self._answer(204)

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)


def main() -> None:
    """Serve until the standard input ends."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Say nothing: brokers are killed."""

    handler = type("Handler", (Answers,), {"objects": Objects()})
    server = Server(("127.0.0.1", int(sys.argv[1])), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
