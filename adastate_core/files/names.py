"""Names of streams: what may become the name of a folder on any system."""

from __future__ import annotations

import stat
import unicodedata
from pathlib import Path

from ..errors import ConfigError, StateFileError

MAX_LENGTH = 100
_MAX_BYTES = 240  # of what file systems allow, 255
_DEVICES = {"CON", "PRN", "AUX", "NUL"} | {f"{d}{n}" for d in ("COM", "LPT") for n in range(10)}


def check_name(name: object) -> str:
    """Return the name in the one spelling that is used for folders.

    Raises:
        ConfigError: If it cannot be the name of a stream.
    """
    if not isinstance(name, str):
        raise _refused(
            "the name of a stream is not text", type(name).__name__, "text typed into the widget"
        )
    name = unicodedata.normalize("NFC", name)
    if not name:
        raise _refused("the stream has no name", "nothing", "a name")
    if len(name) > MAX_LENGTH or len(name.encode("utf-8", "replace")) > _MAX_BYTES:
        raise _refused(
            f"the name of the stream is too long: {len(name)} characters",
            f"{len(name)} characters",
            f"{MAX_LENGTH} at most, fewer of long scripts",
        )
    if "/" in name or "\\" in name:
        raise _refused(
            "the name of a stream has no / or \\",
            repr(name),
            "a name without separators, since a stream is one folder",
        )
    if not all(_allowed(character) for character in name):
        raise _refused(
            "the name of a stream has letters, digits, spaces, dots, - and _ only",
            ascii(name),
            "letters, digits, spaces, dots, - and _",
        )
    if name[0] in ". " or name[-1] in ". ":
        raise _refused(
            "the name of a stream neither begins nor ends with a dot or a space",
            repr(name),
            "no dot or space at either end",
        )
    if ".." in name:
        raise _refused(
            "the name of a stream has no two dots in a row", repr(name), "no two dots in a row"
        )
    # Windows takes these with any ending, and superscript digits for digits.
    stem = unicodedata.normalize("NFKC", name).split(".")[0].rstrip(" ").upper()
    if stem in _DEVICES:
        raise _refused(
            f"Windows keeps the name {name} for itself",
            repr(name),
            "no name of a Windows device, with or without an ending",
        )
    return name


def stream_folder(root: Path, name: str) -> Path:
    """Return the folder of a stream, which need not exist.

    Args:
        root: The folder of all streams.
        name: Name of the stream.

    Raises:
        ConfigError: If it cannot be the name of a stream.
        StateFileError: If the folder is a link that leads elsewhere.
    """
    folder = root / check_name(name)
    try:
        inside = folder.resolve().parent == root.resolve()
        taken = _is_taken(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise damaged(name, str(error)) from error
    if not inside:
        raise damaged(name, "a link that leads out of the streams folder")
    if taken:
        raise damaged(name, "a file or a broken link in place of its folder")
    return folder


def damaged(name: str, seen: str) -> StateFileError:
    """Make the error of a stream whose folder is not as it was written."""
    return StateFileError(
        f"stream {name!r}",
        problem=f'the stream "{name}" is damaged: {seen}',
        seen=seen,
        expected="a complete stream folder",
        remedy="restore its folder from a copy, move it away to begin again, or use another name",
    )


def _is_taken(folder: Path) -> bool:
    """Say whether something that is no folder has its place.

    One look decides: between two of them a stream may have been renamed.
    """
    try:
        mode = folder.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not (folder.is_dir() if stat.S_ISLNK(mode) else stat.S_ISDIR(mode))


def _allowed(character: str) -> bool:
    return character in " -_." or unicodedata.category(character)[0] in "LMN"


def _refused(problem: str, seen: str, expected: str) -> ConfigError:
    return ConfigError(
        "name of the stream",
        problem=problem,
        seen=seen,
        expected=expected,
        remedy="change name on Open Stream",
    )
