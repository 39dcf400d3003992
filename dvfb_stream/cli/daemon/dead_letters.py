"""``dvfb daemon dead-letters``: what daemons could not process, shown and put back; nothing is ever unpickled."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dvfb_stream.cli.options import Json, flag, option
from dvfb_stream.cli.terminal import print_table, quiet_libraries, report_error, report_note, say
from dvfb_stream.errors import DvfbError, SettingsError

if TYPE_CHECKING:
    from dvfb_stream.daemon.settings import DaemonSettings
    from dvfb_stream.dead_letters.folder import LetterFolder
    from dvfb_stream.dead_letters.letter import DeadLetter

_LONGEST_SHOWN = 4_000
"""Characters of a document that are printed; ``--out`` writes all of its bytes."""
_BYTES_SHOWN = 256
"""Of what is no document."""

Config = Annotated[
    Path | None, option("FILE.toml", "The daemon's configuration: its topic and folder of dead letters.")
]
Folder = Annotated[
    Path | None,
    option("FOLDER", "A folder of dead letters.  [default: all of this user's, without --config]"),
]
Ids = Annotated[
    list[str], typer.Argument(metavar="ID...", help="As `dvfb daemon dead-letters list` shows them.")
]


def list_letters(*, config: Config = None, folder: Folder = None, json: Json = False) -> None:
    """List what daemons could not process: where it came from, when, and why.

    In the topic and the folder that a configuration names, in one folder, or in all of this user's.
    """
    found: dict[str, DeadLetter] = {}
    with quiet_libraries():
        for letter, _ in _letters(config, folder):
            found.setdefault(letter.id, letter)
    letters = sorted(found.values(), key=lambda letter: letter.time)
    if json:
        for letter in letters:
            say(json_format.dumps({"id": letter.id, **json_format.loads(letter.facts())}))
        return
    if not letters:
        say("there are no dead letters")
        return
    rows = [
        (letter.id, letter.kind, _moment(letter.time), letter.origin, letter.reason) for letter in letters
    ]
    print_table(
        ("id", "kind", "since", "origin", "reason"),
        rows,
        styles=["red" if letter.kind in ("killer", "refused") else "" for letter in letters],
        breakable=("origin", "reason"),
    )


def show(
    letter_id: Annotated[
        str, typer.Argument(metavar="ID", help="As `dvfb daemon dead-letters list` shows it.")
    ],
    *,
    config: Config = None,
    folder: Folder = None,
    out: Annotated[Path | None, option("FILE", "Write the bytes, as they were, to FILE.")] = None,
    json: Json = False,
) -> None:
    """Show a dead letter: its origin, the reason, and the document, as far as it can be decoded."""
    letter, _ = _one(letter_id, config, folder)
    if out is not None:
        try:
            out.write_bytes(letter.value)
        except OSError as error:
            raise SettingsError(f"cannot write {out}: {error.strerror or error}") from error
        report_note(f"{len(letter.value)} bytes written to {out}")
    document = _shown(letter)
    if json:
        facts = json_format.loads(letter.facts())
        say(json_format.dumps({"id": letter.id, **facts, "bytes": len(letter.value), "shown": document}))
        return
    for name, value in (
        ("id", letter.id),
        ("kind", letter.kind),
        ("since", _moment(letter.time)),
        ("origin", letter.origin),
        ("reason", letter.reason),
        ("bytes", f"{len(letter.value):,} ({letter.content})"),
    ):
        say(f"{name:<7} {value}")
    say("")
    say(document)


def retry(
    ids: Ids,
    *,
    config: Annotated[
        Path, option("FILE.toml", "The daemon's configuration: its cluster, topics and store.")
    ],
    folder: Folder = None,
) -> None:
    """Put dead letters back: messages to the topic they came from, refused runs to their store.

    A message is published again at the end of its partition, with its key, unless the configuration does not name its
    topic. A refused run is let go in the spool, from which it is delivered. What was put back leaves the folder; in a
    topic of dead letters it stays until Kafka forgets it. Exit status 1 where something could not be put back.
    """
    from dvfb_stream.daemon.settings import read_settings
    from dvfb_stream.dead_letters.letter import Content

    settings, failed = read_settings(config), False
    for letter_id in ids:
        try:
            letter, kept = _one(letter_id, config, folder)
            match letter.content:
                case Content.MESSAGE:
                    done = _publish(settings, letter)
                case Content.DOCUMENTS:
                    done = _release(settings, letter)
                case _:
                    raise SettingsError(
                        f"{letter.origin} is no message: annotate its run again, dvfb annotate --tiled CATALOG "
                        "--again --only failed"
                    )
        except DvfbError as error:
            report_error(f"{letter_id}: {error}")
            failed = True
            continue
        if kept is not None:
            kept.remove(letter.id)
        say(f"{letter_id}: {done}")
    if failed:
        raise typer.Exit(1)


def remove(
    ids: Ids,
    *,
    config: Config = None,
    folder: Folder = None,
    yes: Annotated[bool, flag("Do not ask.", "--yes")] = False,
) -> None:
    """Remove dead letters from their folder, for good; those in a topic stay until Kafka forgets them."""
    found = [_one(letter_id, config, folder) for letter_id in ids]
    if not yes:
        typer.confirm(f"remove {len(found)} dead letters for good?", abort=True)
    for letter, kept in found:
        if kept is not None:
            kept.remove(letter.id)
        say(f"{letter.id}: {'removed' if kept is not None else 'is in a topic, and stays there'}")


COMMANDS: Mapping[str, Callable[..., None]] = {
    "list": list_letters,
    "show": show,
    "retry": retry,
    "remove": remove,
}


def _letters(config: Path | None, folder: Path | None) -> Iterator[tuple[DeadLetter, LetterFolder | None]]:
    """Yield letters, each with the folder that it is in; None: it is in a topic."""
    from dvfb_stream.dead_letters.folder import LetterFolder, folder_of_group, letters_folder

    folders = [folder] if folder is not None else []
    if config is not None:
        from dvfb_stream.daemon.settings import read_settings

        settings = read_settings(config)
        kafka, letters = settings.kafka, settings.dead_letters
        if folder is None and letters.folder is not None:
            folders = [letters.folder]
        elif folder is None and kafka is not None:
            folders = [folder_of_group(kafka.group, kafka.bootstrap_servers)]
        if kafka is not None and letters.topic is not None:
            from dvfb_stream.kafka.dead_letter_topic import letters_in_topic

            yield from ((letter, None) for letter in letters_in_topic(kafka, letters.topic))
    if folder is not None and not folder.is_dir():
        raise SettingsError(f"there is no folder {folder}")
    if not folders:
        folders = [path for path in sorted(letters_folder().glob("*")) if path.is_dir()]
    for path in folders:
        kept = LetterFolder(path, max_bytes=0)
        yield from ((letter, kept) for letter in kept.letters())


def _one(letter_id: str, config: Path | None, folder: Path | None) -> tuple[DeadLetter, LetterFolder | None]:
    with quiet_libraries():
        for letter, kept in _letters(config, folder):
            if letter.id == letter_id:
                return (letter if kept is None else kept.get(letter_id)), kept
    raise SettingsError(
        f"no dead letter has the id {letter_id!r}; `dvfb daemon dead-letters list` shows them"
    )


def _publish(settings: DaemonSettings, letter: DeadLetter) -> str:
    from dvfb_stream.kafka.dead_letter_topic import publish_again

    kafka = settings.kafka
    if kafka is None or letter.topic not in kafka.topics:
        # A letter in a topic is anybody's, and says itself where it came from.
        raise SettingsError(f"it came from the topic {letter.topic!r}, which kafka.topics does not name")
    with quiet_libraries():
        offset = publish_again(kafka, letter)
    return f"published again to {letter.topic}[{letter.partition}], offset {offset}"


def _release(settings: DaemonSettings, letter: DeadLetter) -> str:
    from dvfb_stream.catalog.spool.folder import folder_for
    from dvfb_stream.catalog.spool.inspection import release

    tiled = settings.sinks.tiled
    if tiled is None:
        raise SettingsError(
            "the configuration has no sinks.tiled, whose spool would have the rows of the run"
        )
    spool = tiled.spool or folder_for(tiled.uri)
    uid = letter.about.rpartition(" ")[2]
    if not (spool.is_dir() and release(spool, {uid})):
        raise SettingsError(f"the analysis run {uid} is not quarantined in {spool}; see dvfb spool list")
    return f"analysis run {uid} is delivered again, by the daemon that has it or by dvfb spool retry {uid}"


def _shown(letter: DeadLetter) -> str:
    """Return what is in a letter, for people; whatever it is, it is not executed."""
    from dvfb_stream.dead_letters.letter import Content

    match letter.content:
        case Content.DOCUMENTS:
            text = letter.value.decode(errors="replace")
        case Content.PIXELS:
            text = "a frame, as a file of NumPy; --out FILE.npy writes it"
        case Content.MESSAGE:
            from dvfb_stream.kafka.wire_format import MessageError, decode

            try:
                text = json_format.dumps(_plain(decode(letter.value)), indent=1)
            except MessageError as error:
                beginning = letter.value[:_BYTES_SHOWN]
                text = f"it cannot be decoded: {error}\nits first {len(beginning)} bytes: {beginning!r}"
        case _:
            text = "it had no bytes"
    if len(text) > _LONGEST_SHOWN:
        text = f"{text[:_LONGEST_SHOWN]}\n... (cut; --out FILE writes all of its bytes)"
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def _plain(value: Any) -> Any:
    """Return a document for JSON, with a word for each array."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return f"array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value[:100]] + (
            [f"... {len(value)} in all"] if len(value) > 100 else []
        )
    if isinstance(value, str) or value is None or isinstance(value, bool | int | float):
        return value
    return repr(value)


def _moment(time: float) -> str:
    try:
        return datetime.fromtimestamp(time).astimezone().isoformat(" ", "seconds")
    except (OverflowError, ValueError, OSError):
        return repr(time)
