"""How many files, functions and types a frame passes until its row is an event, and how large each room is; JSON.

    python -m benchmarks.house [CHECKOUT] [--ways inline stream kafka annotate] [--names]

Any checkout can be measured, so that a state before and one after are counted by the same program. A way begins when
the document or the message is handed over, and ends when the analysis event reaches the sink. It is that of the
second frame of a run, in all threads of one process: what happens once a run or once a model is not counted.
`annotate` is the whole command for one file, without imports. `kafka` needs the broker of the extra `test`; how often
the daemon polls meanwhile adds some changes of file.

`files` are modules of the project that are entered, `functions` those called (comprehensions belong to the function
around them), `changes` calls from one file that follow a call of another in the same thread, `types` those of which
an instance is made that holds pixels or an annotation, itself or through another.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import subprocess
import sys
import tempfile
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = "dvfb_stream"
BESIDE = ("callbacks", "models", "profiles", "benchmarks/results")
"""Folders of the package that lie beside `dvfb_stream`."""
WAYS = ("inline", "stream", "kafka", "annotate")
LEAST_PIXELS = 4096
"""Elements from which on an array counts as the frame's: a view averaged down still has 128 x 128."""


class Way:
    """Takes note of each function of the project that any thread calls while it is open."""

    def __init__(self) -> None:
        self.is_open = False
        self._calls: dict[int, list[tuple[str, str]]] = defaultdict(list)
        self._carriers: set[type] = set()

    def watch(self) -> None:
        """Begin to look, before the project starts threads."""
        threading.setprofile(self._event)
        sys.setprofile(self._event)

    def found(self) -> dict[str, Any]:
        """Return the counts, and the names of files and types."""
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
        entered = [[module for module, _ in calls] for calls in self._calls.values()]
        files = {module for modules in entered for module in modules}
        return {
            "files": len(files),
            "functions": len({call for calls in self._calls.values() for call in calls}),
            "changes": sum(a != b for modules in entered for a, b in pairwise(modules)),
            "types": len(self._carriers),
            "file_names": sorted(files),
            "type_names": sorted(kind.__qualname__ for kind in self._carriers),
        }

    def _event(self, frame: FrameType, event: str, _: Any) -> None:
        if not self.is_open:
            return
        code = frame.f_code
        if event == "return" and code.co_name in ("__init__", "__new__") and code.co_argcount:
            self._made(frame.f_locals.get(code.co_varnames[0]))
        module = str(frame.f_globals.get("__name__", ""))
        is_function = code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.endswith("comp>")
        if event == "call" and is_function and module.startswith(PACKAGE):
            self._calls[threading.get_ident()].append((module, code.co_qualname))

    def _made(self, instance: Any) -> None:
        kind = type(instance)
        if not kind.__module__.startswith(PACKAGE):
            return
        slots = {name for base in kind.__mro__ for name in getattr(base, "__slots__", ())}
        names = slots | set(getattr(instance, "__dict__", ()))
        if "scores" in names or any(self._carries(getattr(instance, name, None)) for name in names):
            self._carriers.add(kind)

    def _carries(self, value: Any) -> bool:
        if isinstance(value, list | tuple):
            return any(self._carries(item) for item in value)
        size = getattr(value, "size", 0)
        size = value.numel() if callable(size) and hasattr(value, "numel") else size
        return type(value) in self._carriers or (isinstance(size, int) and size >= LEAST_PIXELS)


def live_way(kind: str, folder: Path) -> dict[str, Any]:
    """Follow the second frame of a run from its document to the sink."""
    from benchmarks.live.documents import GEOMETRY, exposures, inline_run, stream_run, written

    frames, way = exposures(2), Way()
    way.watch()
    from dvfb_stream.callbacks import LiveAnnotator

    sink = closes(way, at=3)
    live = LiveAnnotator(
        sinks=[sink],
        detectors={"image": GEOMETRY},
        annotate_in="thread",
        device="cpu",
        batch_size=1,
    )
    run = inline_run(frames, 2) if kind == "inline" else stream_run(written(str(folder), frames), 2)
    for name, doc in [*inline_run(frames, 1), *run]:
        second = is_second(name, doc)
        if second:
            live.wait()
            way.is_open = True
        live(name, doc)
        if second:
            until(lambda: len(sink.events) == 3)
    live.close()
    return way.found()


def closes(way: Way, *, at: int) -> Any:
    """Return a sink that closes the way when it has got so many events."""
    events: list[Any] = []

    def sink(name: str, doc: dict[str, Any]) -> None:
        if name == "event":
            events.append(doc)
            if len(events) == at:
                way.is_open = False

    sink.events = events  # type: ignore[attr-defined]
    return sink


def is_second(name: str, doc: dict[str, Any]) -> bool:
    """Whether a document has the second frame of its run."""
    return doc.get("seq_num") == 2 or (name == "stream_datum" and doc["seq_nums"]["start"] == 2)


def kafka_way(_: Path) -> dict[str, Any]:
    """Follow the second frame of a run from its message to the sink."""
    import msgpack_numpy
    from kafka import KafkaProducer

    from benchmarks.live.documents import GEOMETRY, exposures, inline_run

    way = Way()
    way.watch()
    from benchmarks.beamline.broker import broker_in_memory
    from dvfb_stream.annotator import Annotator
    from dvfb_stream.daemon.settings import DaemonSettings
    from dvfb_stream.kafka.daemon import Daemon

    topic, sink = uuid.uuid4().hex, closes(way, at=2)
    with broker_in_memory() as broker:
        address = broker.address
        settings = DaemonSettings.model_validate(
            {
                "kafka": {"bootstrap_servers": [address], "topics": [topic], "group": "house"},
                "sinks": {"jsonl": "unused"},
            }
        )
        required = {
            name
            for name, parameter in inspect.signature(Daemon).parameters.items()
            if parameter.default is inspect.Parameter.empty
        }
        (sinks,) = required - {"settings", "annotator", "detectors"}  # its name has changed
        daemon = Daemon(
            settings,
            Annotator.load("default", device="cpu"),
            detectors={"image": GEOMETRY},
            **{sinks: lambda: [sink]},
        )
        running = threading.Thread(target=daemon.run)
        producer = KafkaProducer(bootstrap_servers=[address], max_request_size=1 << 26)
        try:
            for name, doc in inline_run(exposures(2), 2):
                if is_second(name, doc):
                    producer.flush()
                    until(lambda: len(sink.events) == 1)
                    way.is_open = True
                producer.send(topic, msgpack_numpy.packb((name, doc)), partition=0).get(timeout=60)
                if name == "start":
                    running.start()  # what has no topic yet cannot be read
                if is_second(name, doc):
                    until(lambda: len(sink.events) == 2)
        finally:
            daemon.stop()
            running.join()
            producer.close()
    return way.found()


def until(condition: Any) -> None:
    """Wait for a condition, a minute at most."""
    pause = threading.Event()
    for _ in range(1200):
        if condition():
            return
        pause.wait(0.05)
    raise TimeoutError(condition)


def annotate_way(folder: Path) -> dict[str, Any]:
    """Follow a frame through the command, from its arguments to its end."""
    import fabio

    from benchmarks.live.documents import GEOMETRY, exposures

    path, way = folder / "frame.tif", Way()
    fabio.tifimage.tifimage(data=exposures(1)[0]).write(str(path))
    way.watch()
    main = importlib.import_module(f"{PACKAGE}.cli").main
    center = ["--center-x", str(GEOMETRY.center_x), "--center-y", str(GEOMETRY.center_y)]
    options = ["--json", "--device", "cpu", "--output", str(folder / "row.json")]
    sys.argv = ["dvfb", "annotate", str(path), *center, *options]
    for counted in (False, True):  # the first imports
        way.is_open = counted
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                raise
    way.is_open = False
    return way.found()


def rooms(links: Path) -> dict[str, Any]:
    """Count lines and files of Python by folder of the package, in which its other folders are linked."""
    lines: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for path in modules(links / PACKAGE):
        room = path.relative_to(links / PACKAGE).parts
        name = room[0] if len(room) > 1 else "its own files"
        lines[name] += len(path.read_text().splitlines())
        files[name] += 1
    names = Counter(p.stem for p in modules(links / PACKAGE) if not p.stem.startswith("__"))
    return {
        "lines": lines.total(),
        "files": files.total(),
        "names_used_twice": sorted(name for name, count in names.items() if count > 1),
        "by_room": {room: {"lines": lines[room], "files": files[room]} for room in sorted(lines)},
    }


def modules(package: Path) -> Iterable[Path]:
    """Yield each module of a package, through links."""
    for folder, _, names in os.walk(package, followlinks=True):
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def lay_out(checkout: Path, folder: Path) -> None:
    """Link the package of a checkout into a folder, whole, whichever way the checkout itself puts it together."""
    package = folder / PACKAGE
    package.mkdir()
    entries = [*(checkout / PACKAGE).iterdir(), *(checkout / name for name in BESIDE)]
    for entry in entries:
        (package / entry.name).unlink(missing_ok=True)
        (package / entry.name).symlink_to(entry.resolve())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS)
    parser.add_argument("--names", action="store_true", help="print the files and types by name, too")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.one:
            follow = {"kafka": kafka_way, "annotate": annotate_way}.get(
                options.one, lambda folder: live_way(options.one, folder)
            )
            print(json.dumps(follow(Path(folder))))
            return
        lay_out(options.checkout.resolve(), Path(folder))
        found: dict[str, Any] = {"rooms": rooms(Path(folder)), "ways": {}}
        for way in options.ways:
            found["ways"][way] = followed(way, Path(folder))
            if not options.names:
                del found["ways"][way]["file_names"], found["ways"][way]["type_names"]
    print(json.dumps(found, indent=2))


def followed(way: str, links: Path) -> dict[str, Any]:
    """Follow a way in a process of its own that imports the package from `links`, and this module from here."""
    # The links come first: here, too, lies a folder of the package's name.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(links), str(ROOT)))}
    command = [sys.executable, "-m", "benchmarks.house", "--one", way]
    done = subprocess.run(command, env=environment, cwd=links, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
