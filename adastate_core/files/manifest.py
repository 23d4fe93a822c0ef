"""The manifest of a named stream: what of its files belongs to its newest revision.

It is the one file that a commit replaces, and it stays small: it names the log, which says what
happened, and the few segments that hold the tensors, each with the bytes that count. Nothing in it
is trusted unchecked: a damaged one is refused, since continuing from a wrong one could lose what
the folder still holds.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from ..digest import text_digest
from .atomic import patiently, write_durably
from .names import damaged
from .schema import Checked, Count, Digest, Refuse, validated
from .serialization import newer_version

MANIFEST = "manifest.json"
FORMAT = "adastate.named_stream"
VERSION = 2

_FILE = re.compile(
    r"segment\.(\d{5,12})\.[0-9a-f]{8}\.(?:bin|safetensors)|log\.(\d{5,12})\.[0-9a-f]{8}\.jsonl",
    re.ASCII,
)
_Revision = Annotated[int, Field(ge=1, le=10**12)]
_Id = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class Segment(Checked):
    """A file of tensors.

    Args:
        file: Its name, without any folder.
        size: Its bytes that count.
        held: How many events and conditionings in it are still needed.
    """

    file: Annotated[str, Field(pattern=r"^segment\.[0-9]{5,12}\.[0-9a-f]{8}\.bin$")]
    size: Count
    held: Count


class LogFile(Checked):
    """The file that says what happened.

    Args:
        file: Its name, without any folder.
        size: Its bytes that count.
        written: Lines and events in them, of which the newest revision may need fewer.
    """

    file: Annotated[str, Field(pattern=r"^log\.[0-9]{5,12}\.[0-9a-f]{8}\.jsonl$")]
    size: Count
    written: Count


class Manifest(Checked):
    """One revision.

    Args:
        stream: Random id of the stream, from its first commit on.
        revision: Number of commits.
        chain: Digest of all lines of the log, one over the other.
        log: The log.
        segments: Files that hold its tensors, oldest first.
    """

    stream: _Id
    revision: _Revision
    chain: Digest
    log: LogFile
    segments: tuple[Segment, ...]

    @property
    def files(self) -> dict[str, int]:
        """Return the bytes that count by the name of the file."""
        return {self.log.file: self.log.size, **{s.file: s.size for s in self.segments}}


class SegmentV1(Checked):
    """A segment of format version 1: a safetensors file.

    Args:
        file: Its name, without any folder.
        size: Its bytes.
        digests: Digests of the tensors in it.
    """

    file: Annotated[str, Field(pattern=r"^segment\.[0-9]{5,12}\.[0-9a-f]{8}\.safetensors$")]
    size: Count
    digests: tuple[Digest, ...]


class ManifestV1(Checked):
    """One revision of format version 1, whose newest segment holds the header of the state.

    Args:
        stream: Random id of the stream.
        revision: Number of commits.
        header: Digest of the header.
        segments: Files that hold its tensors, oldest first.
    """

    stream: _Id
    revision: _Revision
    header: Digest
    segments: Annotated[tuple[SegmentV1, ...], Field(min_length=1)]

    @property
    def files(self) -> dict[str, int]:
        """Return the bytes by the name of the file."""
        return {s.file: s.size for s in self.segments}


AnyManifest = Manifest | ManifestV1


class _Kind(BaseModel):
    """What says whether the rest can be read."""

    format: Any = None
    version: Any = None
    sha256: Any = None


class _Whole(Manifest):
    format: Literal["adastate.named_stream"]
    version: Literal[2]
    sha256: Digest


class _WholeV1(ManifestV1):
    format: Literal["adastate.named_stream"]
    version: Literal[1]
    sha256: Digest


def revision_of(file: str) -> int | None:
    """Return the revision that a file of a stream was begun for, None for other files."""
    found = _FILE.fullmatch(file)
    return int(found[1] or found[2]) if found else None


def manifest_digest(folder: Path) -> str | None:
    """Return the sha256 of the manifest file, None while it cannot be read."""
    try:
        return hashlib.sha256(patiently((folder / MANIFEST).read_bytes)).hexdigest()
    except OSError:
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest.

    Raises:
        OSError: If it cannot be written; the old one stays.
    """
    content = {"format": FORMAT, "version": VERSION, **manifest.model_dump(mode="json")}
    text = json.dumps({**content, "sha256": _own_digest(content)}, indent=1)
    write_durably(folder / MANIFEST, lambda path: _write(path, text))


def read_manifest(folder: Path) -> AnyManifest | None:
    """Read and check the manifest, and that its files are there at their full length.

    Returns:
        None if there is no stream yet.

    Raises:
        StateFileError: If anything is damaged, missing or of a newer version.
    """
    path = folder / MANIFEST
    refuse = partial(damaged, folder.name)
    if not path.exists() and not path.is_symlink():
        if _committed(folder, refuse):
            raise refuse(f"segments without {MANIFEST}")
        return None
    if path.is_symlink():
        raise refuse(f"a link in place of {MANIFEST}")
    try:
        text = patiently(path.read_bytes)
    except OSError as error:
        raise refuse(f"{MANIFEST} that cannot be read ({error})") from error
    manifest = _checked(folder.name, text, lambda seen: refuse(f"{MANIFEST} with {seen}"))
    for file, size in manifest.files.items():
        _check_file(folder / file, size, refuse, whole=isinstance(manifest, ManifestV1))
    return manifest


def _checked(name: str, text: bytes, refuse: Refuse) -> AnyManifest:
    kind = validated(_Kind, text, refuse)
    if kind.format != FORMAT:
        raise refuse("another format")
    if type(kind.version) is not int or not 1 <= kind.version <= VERSION:
        raise newer_version(f"stream {name!r}", kind.version, VERSION)
    content = json.loads(text)
    content.pop("sha256", None)
    if kind.sha256 != _own_digest(content):
        raise refuse("another digest than its own")
    if kind.version == 1:
        first = dict(validated(_WholeV1, text, refuse))
        return ManifestV1(**{name: first[name] for name in ManifestV1.model_fields})
    whole = dict(validated(_Whole, text, refuse))
    return Manifest(**{name: whole[name] for name in Manifest.model_fields})


def _check_file(path: Path, size: int, refuse: Refuse, *, whole: bool) -> None:
    if path.is_symlink():
        raise refuse(f"a link in place of {path.name}")
    try:
        seen = path.stat().st_size
    except OSError as error:
        raise refuse(f"no {path.name}") from error
    # A commit that was cut short may have left more than counts.
    if seen < size or (whole and seen != size):
        raise refuse(f"{path.name} with {seen} of {size} bytes")


def _committed(folder: Path, refuse: Refuse) -> bool:
    """Say whether a folder without manifest had one.

    A first commit that was cut short leaves files of revision 1, and one line in its log at most.
    """
    try:
        paths = list(folder.iterdir()) if folder.is_dir() else []
        revisions = {path: revision_of(path.name) for path in paths}
        if max((r for r in revisions.values() if r is not None), default=0) > 1:
            return True
        logs = [path for path, r in revisions.items() if r and path.name.startswith("log.")]
        return any(path.read_bytes().count(b"\n") > 1 for path in logs)
    except OSError as error:
        raise refuse(f"files that cannot be read ({error})") from error


def _own_digest(content: dict[str, Any]) -> str:
    return text_digest(json.dumps(content, sort_keys=True))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="ascii")
