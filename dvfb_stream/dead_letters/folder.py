"""Dead letters in a folder of this machine: one file a letter, bounded in bytes, whole or not there at all."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from platformdirs import user_state_path

from dvfb_stream.atomic_output import replaced
from dvfb_stream.dead_letters.letter import LONGEST_FACTS, DeadLetter, Kind, LetterError, letter_of
from dvfb_stream.errors import DvfbError

SUFFIX = ".letter"
SPOOLS_VARIABLE = "DVFB_SPOOL"
"""Environment variable with the folder below which spools lie; dead letters lie there, too, where it is set."""

_FOR_MESSAGES = 0.75
"""Share of the folder that messages may fill. A topic with something else in it floods it, and there must be room
left for what ended the process, or was refused by a store: that comes once, and says more."""
_BLOCK_BYTES = 4096
"""That a file takes on the disk at least."""
_PUTS_BETWEEN_LOOKS = 100
"""A look at each file of a full folder takes a tenth of a second: too long for each letter of a flood."""
_MESSAGES = frozenset({Kind.UNDECODABLE, Kind.UNTAKEN})


class NoRoomError(DvfbError):
    """The folder is full, or its disk is."""


def letters_folder() -> Path:
    """Return the folder below which each consumer group has one for its dead letters."""
    named = os.environ.get(SPOOLS_VARIABLE)
    return Path(named or user_state_path("dvfb_stream")) / "dead-letters"


def folder_of_group(group: str, servers: Sequence[str]) -> Path:
    """Return the folder of a consumer group on the cluster of these servers, in whatever order they are named."""
    digest = hashlib.sha256("\n".join(sorted(servers)).encode()).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", group).strip("-.")
    return letters_folder() / f"{readable[:60]}-{digest}"


class LetterFolder:
    """Dead letters, each in a file of its name: its facts as one line of JSON, then its bytes as they are.

    Several processes may write to one folder: a letter has the same name whoever writes it, and the same bytes.

    Parameters
    ----------
    path
        Made, for this user alone, when the first letter comes.
    max_bytes
        Of all letters together. A letter that does not fit is refused: those that are there were promised to be.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._filled = self._puts = 0

    def put(self, letter: DeadLetter) -> None:
        """Keep a letter; on the disk's plates when this returns. One that is there stays as it is.

        Raises
        ------
        NoRoomError
            When there is no room for it, or it cannot be written.
        """
        path = self._file(letter.id)
        try:
            if path.exists():
                return
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            facts = letter.facts().encode()
            room = round(self._max_bytes * (_FOR_MESSAGES if letter.kind in _MESSAGES else 1.0))
            filled, size = self._filled_now(), max(len(facts) + 1 + len(letter.value), _BLOCK_BYTES)
            if filled + size > room:
                raise NoRoomError(
                    f"{self.path} has {filled} bytes of dead letters, and {size} more are beyond the {room} allowed;"
                    " see what they are (dvfb daemon dead-letters list), remove them or raise dead_letters.max_bytes"
                )
            with replaced(path) as beside:
                beside.write_bytes(facts + b"\n" + letter.value)
            self._filled += size
        except OSError as error:
            raise NoRoomError(f"{self.path} takes no dead letter: {error.strerror or error}") from error

    def get(self, letter_id: str) -> DeadLetter:
        """Return the letter of an id; nothing in it is decoded.

        Raises
        ------
        LetterError
            When it is not there, or its file is damaged.
        """
        return _read(self._file(letter_id))

    def letters(self) -> Iterator[DeadLetter]:
        """Yield the letters, without their bytes, the oldest first; a damaged file is passed over."""
        found = []
        for path in self._files():
            try:
                found.append(_read(path, facts_alone=True))
            except LetterError:
                continue
        yield from sorted(found, key=lambda letter: letter.time)

    def remove(self, letter_id: str) -> None:
        """Forget a letter, if it is there."""
        self._file(letter_id).unlink(missing_ok=True)

    def n_bytes(self) -> int:
        """Return how many bytes the letters take on the disk."""
        total = 0
        for path in self._files():
            try:
                total += max(path.stat().st_size, _BLOCK_BYTES)
            except OSError:
                continue  # removed meanwhile
        return total

    def _filled_now(self) -> int:
        """Return how full it is, as of the last look: other processes may write here, and people remove letters."""
        if self._puts % _PUTS_BETWEEN_LOOKS == 0:
            self._filled = self.n_bytes()
        self._puts += 1
        return self._filled

    def _files(self) -> list[Path]:
        return sorted(self.path.glob(f"*{SUFFIX}"))

    def _file(self, letter_id: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{12}", letter_id):
            raise LetterError(
                f"{letter_id!r} is not the id of a dead letter: those have 12 hexadecimal digits"
            )
        return self.path / f"{letter_id}{SUFFIX}"


def _read(path: Path, *, facts_alone: bool = False) -> DeadLetter:
    try:
        with path.open("rb") as file:
            facts = file.readline(LONGEST_FACTS + 1)
            return letter_of(facts, b"" if facts_alone else file.read())
    except OSError as error:
        raise LetterError(f"there is no dead letter {path}: {error.strerror or error}") from error
