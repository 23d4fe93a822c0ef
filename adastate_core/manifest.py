"""The manifest of a named stream: which segment files belong to its newest revision.

It is the one file that a commit replaces. Nothing in it is believed unchecked: a damaged one is
refused, since going on from a wrong one could lose what the folder still holds.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .durable import write_durably
from .header import newer_version, text_digest
from .stream_name import damaged

MANIFEST = "manifest.json"
FORMAT = "adastate.named_stream"
VERSION = 1

_SEGMENT = re.compile(r"segment\.(\d{5,12})\.[0-9a-f]{8}\.safetensors", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Segment:
    """Describe one segment file.

    Args:
        file: Its name, without any folder.
        size: Its bytes.
        digests: Digests of the tensors in it.
    """

    file: str
    size: int
    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Describe one revision.

    Args:
        stream: Random id of the stream, from its first commit on.
        revision: Number of commits.
        header: Digest of the state's header, which is in the newest segment.
        segments: Files that hold its tensors, oldest first.
    """

    stream: str
    revision: int
    header: str
    segments: tuple[Segment, ...]


def revision_of(file: str) -> int | None:
    """Return the revision that a segment file was written for, None for other files."""
    found = _SEGMENT.fullmatch(file)
    return int(found[1]) if found else None


def manifest_digest(folder: Path) -> str | None:
    """Return the sha256 of the manifest file, None while it cannot be read."""
    try:
        return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest.

    Raises:
        OSError: If it cannot be written; the old one stays.
    """
    content = {"format": FORMAT, "version": VERSION, **asdict(manifest)}
    text = json.dumps({**content, "sha256": _own_digest(content)}, indent=1)
    write_durably(folder / MANIFEST, lambda path: _write(path, text))


def read_manifest(folder: Path) -> Manifest | None:
    """Read and check the manifest, and that its segments are there at their full length.

    Returns:
        None if there is no stream yet.

    Raises:
        StateFileError: If anything is damaged, missing or of a newer version.
    """
    path = folder / MANIFEST
    if not path.exists() and not path.is_symlink():
        # A first commit that was cut short leaves a segment of revision 1, and nothing else does.
        orphans = [r for r in map(revision_of, _names(folder)) if r is not None]
        if max(orphans, default=0) > 1:
            raise damaged(folder.name, f"segments without {MANIFEST}")
        return None
    if path.is_symlink():
        raise damaged(folder.name, f"a link in place of {MANIFEST}")
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder.name, f"{MANIFEST} that cannot be read ({error})") from error
    manifest = _checked(folder, values)
    for segment in manifest.segments:
        _check_file(folder, segment)
    return manifest


def _checked(folder: Path, values: object) -> Manifest:
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise damaged(folder.name, f"{MANIFEST} of another format")
    if values.get("version") != VERSION:
        raise newer_version(f"stream {folder.name!r}", values.get("version"), VERSION)
    if values.pop("sha256", None) != _own_digest(values):
        raise damaged(folder.name, f"{MANIFEST} that differs from its digest")
    try:
        segments = tuple(_segment(value) for value in values["segments"])
        fields = [values[name] for name in ("stream", "revision", "header")]
        stream, revision, header = fields
        right = _ID.fullmatch(stream) and _DIGEST.fullmatch(header) and revision >= 1 and segments
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(folder.name, f"{MANIFEST} with a wrong entry ({error})") from error
    if not right or type(revision) is not int:
        raise damaged(folder.name, f"{MANIFEST} with a wrong id, revision or list of segments")
    return Manifest(stream, revision, header, segments)


def _segment(value: dict[str, Any]) -> Segment:
    file, size, digests = value["file"], value["size"], value["digests"]
    if revision_of(file) is None:
        raise ValueError(f"{file!r} is no name of a segment")
    if type(size) is not int or not all(_DIGEST.fullmatch(digest) for digest in digests):
        raise ValueError(f"size or digests of {file}")
    return Segment(file, size, tuple(digests))


def _check_file(folder: Path, segment: Segment) -> None:
    path = folder / segment.file
    if path.is_symlink():
        raise damaged(folder.name, f"a link in place of {segment.file}")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise damaged(folder.name, f"no {segment.file}") from error
    if size != segment.size:
        raise damaged(folder.name, f"{segment.file} with {size} of {segment.size} bytes")


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _own_digest(content: dict[str, Any]) -> str:
    return text_digest(json.dumps(content, sort_keys=True))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="ascii")
