"""Named streams: a folder that keeps a stream from one prompt to the next.

A commit writes one segment file, with the tensors that no earlier segment holds and the header of
the whole state, and then replaces the manifest, which makes it the newest revision. So it costs
what is new, and whatever happens on the way, the folder is at one revision or the other.

A state remembers the revision it was opened from. If another prompt has committed since, a commit
is refused, because either order of the two would lose one's chunks.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .conditioning import tensor_digest
from .durable import PARTIAL, locked, write_durably
from .errors import StateFileError, StateMismatchError
from .header import header_digests, parse_header, state_from_header, state_to_header, text_digest
from .manifest import (
    Manifest,
    Segment,
    manifest_digest,
    read_manifest,
    revision_of,
    write_manifest,
)
from .origin import StreamOrigin
from .state import StreamState
from .stream_name import check_name, damaged, stream_folder

LOCK = ".lock"


def stream_digest(root: Path, name: str) -> str | None:
    """Return what changes with every commit to a stream, None while there is none.

    Raises:
        AdaStateError: If the name cannot be used.
    """
    return manifest_digest(stream_folder(root, name))


def open_stream(root: Path, name: str, start: StreamState) -> StreamState:
    """Read the newest revision of a stream.

    Args:
        root: The folder of all streams.
        name: Name of the stream.
        start: What to return, with a note of the name, while there is no stream.

    Raises:
        ConfigError: If the name cannot be used.
        StateFileError: If anything in the folder is missing, damaged or of a newer version.
    """
    folder = stream_folder(root, name)
    name = check_name(name)
    while (manifest := read_manifest(folder)) is not None:
        try:
            state = _gathered(folder, manifest)
        except StateFileError:
            # A commit in between may have removed what this revision alone needed.
            if read_manifest(folder) == manifest:
                raise
        else:
            return replace(state, origin=StreamOrigin(name, manifest.stream, manifest.revision))
    return replace(start, origin=StreamOrigin(name))


def commit_stream(root: Path, state: StreamState) -> StreamState:
    """Make a state the newest revision of the stream it was opened from.

    Args:
        root: The folder of all streams.
        state: What came from `open_stream`, with whatever happened to it since.

    Returns:
        The state as the next commit needs it.

    Raises:
        StateMismatchError: If it was not opened from a stream, or another commit came first.
        StateFileError: If the folder is damaged or cannot be written; the stream stays as it was.
    """
    origin = state.origin
    if origin is None:
        raise StateMismatchError(
            "state to commit",
            seen="one that belongs to no named stream",
            expected="one that began in Open Stream",
            remedy="put Open Stream in front",
        )
    folder = stream_folder(root, origin.name)
    _require_newest(origin, read_manifest(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / LOCK):
            manifest = _require_newest(origin, read_manifest(folder))
            made = _write_revision(folder, state, manifest)
            _remove_leftovers(folder, made)
    except (OSError, SafetensorError) as error:
        raise StateFileError(
            f"stream {origin.name!r}",
            seen=str(error),
            expected="a writable folder with free space",
            remedy="free space or make the folder writable, the stream is as it was before",
        ) from error
    return replace(state, origin=StreamOrigin(origin.name, made.stream, made.revision))


def _require_newest(origin: StreamOrigin, manifest: Manifest | None) -> Manifest | None:
    """Refuse to commit unless the stream still is at the revision that was opened."""
    seen = (manifest.stream, manifest.revision) if manifest else ("", 0)
    if seen == (origin.stream, origin.revision):
        return manifest
    now = f"revision {seen[1]}" if seen[0] in ("", origin.stream) else "another stream"
    raise StateMismatchError(
        f"stream {origin.name!r}",
        seen=f"{now if manifest else 'no stream any more'}, since another prompt committed first "
        "or the folder was changed",
        expected=f"revision {origin.revision}, from which this state went on",
        remedy="queue the prompt again to go on from there; the chunks made here are still in the "
        "state, save it with Save State to keep them",
    )


def _write_revision(folder: Path, state: StreamState, before: Manifest | None) -> Manifest:
    """Write the new segment, then the manifest that names it."""
    text, tensors = state_to_header(state)
    what = f"stream {folder.name!r}"
    digests = header_digests(parse_header(text, what), what)
    needed = set(digests.values())
    kept = [s for s in before.segments if needed.intersection(s.digests)] if before else []
    held = {digest for segment in kept for digest in segment.digests}
    new = {
        digest: tensors[name].contiguous().clone()
        for name, digest in digests.items()
        if digest not in held
    }
    revision = before.revision + 1 if before else 1
    path = folder / f"segment.{revision:05d}.{secrets.token_hex(4)}.safetensors"
    metadata = {"adastate": text}
    write_durably(path, lambda partial: save_file(new, partial, metadata=metadata))
    try:
        made = Manifest(
            stream=before.stream if before else secrets.token_hex(16),
            revision=revision,
            header=text_digest(text),
            segments=(*kept, Segment(path.name, path.stat().st_size, tuple(new))),
        )
        write_manifest(folder, made)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return made


def _gathered(folder: Path, manifest: Manifest) -> StreamState:
    """Build the state of a revision from its segments."""
    what = f"stream {folder.name!r}"
    newest = folder / manifest.segments[-1].file
    found: dict[str, Tensor] = {}
    try:
        with safe_open(newest, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get("adastate", "")
        if text_digest(text) != manifest.header:
            raise damaged(folder.name, f"{newest.name} with another header than was written")
        header = parse_header(text, what)
        digests = header_digests(header, what)
        wanted = set(digests.values())
        for segment in manifest.segments:
            missing = (wanted - found.keys()).intersection(segment.digests)
            found.update(_read_tensors(folder / segment.file, missing))
    except (OSError, SafetensorError) as error:
        raise damaged(folder.name, f"a segment that cannot be read ({error})") from error
    if wanted - found.keys():
        raise damaged(folder.name, f"{len(wanted - found.keys())} tensors in no segment")
    return state_from_header(header, {name: found[d] for name, d in digests.items()}, what)


def _read_tensors(path: Path, digests: Collection[str]) -> Mapping[str, Tensor]:
    if not digests:
        return {}
    with safe_open(path, framework="pt", device="cpu") as file:
        # Clones, for the alignment of their memory: see `load_state`.
        tensors = {digest: file.get_tensor(digest).clone() for digest in digests}
    for digest, tensor in tensors.items():
        if tensor_digest(tensor) != digest:
            raise damaged(path.parent.name, f"a tensor in {path.name} that differs from its digest")
    return tensors


def _remove_leftovers(folder: Path, manifest: Manifest) -> None:
    """Remove segments that no revision needs, and what commits cut short have left."""
    used = {segment.file for segment in manifest.segments}
    with suppress(OSError):  # the commit is done; the next one tries again
        for path in folder.iterdir():
            cut_short = path.name.startswith(".") and path.name.endswith(PARTIAL)
            if cut_short or (revision_of(path.name) is not None and path.name not in used):
                path.unlink()
