"""Named streams: a folder that keeps a stream from one prompt to the next.

A commit writes what is new after what is there (`commit`), and then replaces the manifest, which
makes it the newest revision. So whatever happens on the way, the folder is at one revision or the
other, and the ten thousandth commit costs as much as the first. An open reads what came after a
revision that this process still knows, and everything after a restart (`revision`).

A state has the revision it was opened from. If another prompt has committed since, a commit is
refused, because either order of the two would lose one's chunks. `commit_or_keep` saves a state
that could not be committed in a file next to the folder.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..errors import StateFileError, StateMismatchError
from ..stream.origin import StreamOrigin
from ..stream.state import StreamState
from .atomic import PARTIAL, claim_numbered, locked
from .commit import write_revision
from .manifest import AnyManifest, Manifest, manifest_digest, read_manifest, revision_of
from .names import check_name, damaged, stream_folder
from .revision import Revision, read_revision
from .state_file import SUFFIX, save_claimed
from .stream_v1 import read_stream_v1

LOCK = ".lock"
_TRIES = 8
"""How often a stream is read without its lock, which not every reader may be able to take."""

_LONGEST = 180
"""Bytes of a name with which a file next to the folder begins; systems allow 255 in all."""


_UNSAVED = "; the chunks made here are still in the state, save it with Save State to keep them"


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
    for _ in range(_TRIES):
        before = manifest_digest(folder)
        try:
            return _opened(folder, name, start)
        except StateFileError:
            # A commit in between may have moved anything: what was read has to be of one revision.
            if manifest_digest(folder) == before:
                raise
    # Where commits come faster than a read can finish, it takes the lock.
    with _without_commits(folder):
        return _opened(folder, name, start)


@contextmanager
def _without_commits(folder: Path) -> Iterator[None]:
    """Keep others from committing while a stream is read.

    Raises:
        StateFileError: If its lock cannot be had.
    """
    try:
        with locked(folder / LOCK):
            yield
    except OSError as error:
        raise StateFileError(
            f"stream {folder.name!r}",
            problem=f'the stream "{folder.name}" is being written by another prompt ({error})',
            seen=f"one commit after another, and no lock ({error})",
            expected="a moment without a commit",
            remedy="wait for it, or try again",
        ) from error


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
            problem="this stream has no name",
            seen="one that belongs to no named stream",
            expected="one that began in Open Stream",
            remedy="begin it with Open Stream",
        )
    folder = stream_folder(root, origin.name)
    try:
        _require_newest(origin, read_manifest(folder))  # before a folder is made
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / LOCK):
            manifest = _require_newest(origin, read_manifest(folder))
            stream = manifest.stream if manifest else secrets.token_hex(16)
            revision = manifest.revision + 1 if manifest else 1
            made = write_revision(folder, stream, revision, state, _base(origin, manifest))
            _remove_leftovers(folder, made.manifest)
    except OSError as error:
        raise StateFileError(
            f"stream {origin.name!r}",
            problem=f'the stream "{origin.name}" cannot be written ({error})',
            seen=str(error),
            expected="a writable folder with free space",
            remedy="free some space or make its folder writable; the stream is as it was before",
        ) from error
    return replace(state, origin=StreamOrigin(origin.name, stream, revision, made))


def commit_or_keep(
    root: Path, state: StreamState, elsewhere: Path, page: Mapping[str, str] | None = None
) -> StreamState:
    """Commit a state; if that fails, save it in a file of its own and raise the failure.

    Args:
        root: The folder of all streams, which is where such a file goes.
        state: What came from `open_stream`, with whatever happened to it since.
        elsewhere: Where it goes if that folder cannot be written.
        page: What such a file says to ComfyUI's page, as in `save_state`.

    Returns:
        The state as the next commit needs it.

    Raises:
        StateMismatchError: As `commit_stream`; the message says which file has the chunks.
        StateFileError: In the same way, for every other reason.
    """
    try:
        return commit_stream(root, state)
    except (StateMismatchError, StateFileError) as error:
        if state.origin is None:
            raise
        remedy = f"{error.remedy.partition(_UNSAVED)[0]}; {_keep(state, page, root, elsewhere)}"
        raise type(error)(
            error.what,
            problem=error.problem,
            seen=error.seen,
            expected=error.expected,
            remedy=remedy,
        ) from error


def keep_refused(folder: Path, state: StreamState, page: Mapping[str, str] | None = None) -> Path:
    """Save a state that could not be committed in a file of its own.

    Args:
        folder: Where to put it.
        state: The state, opened from a stream.
        page: What the file says to ComfyUI's page, as in `save_state`.

    Returns:
        The file, for `load_state`.

    Raises:
        OSError: If no file can be made there.
        StateFileError: If it cannot be written.
    """
    name = check_name(state.origin.name) if state.origin else "stream"
    stem = name.encode()[:_LONGEST].decode(errors="ignore").rstrip(" .")
    folder.mkdir(parents=True, exist_ok=True)
    path = claim_numbered(folder, lambda number: f"{stem}.refused_{number:05d}{SUFFIX}")
    save_claimed(state, path, page)
    return path


def _keep(state: StreamState, page: Mapping[str, str] | None, *folders: Path) -> str:
    """Save a state in the first folder that takes it, and say where the chunks are."""
    reasons = []
    for folder in folders:
        try:
            path = keep_refused(folder, state, page)
        except (OSError, StateFileError) as error:
            reasons.append(str(error.seen if isinstance(error, StateFileError) else error))
        else:
            return f"the chunks made here are in {path}, as Save State writes it, for Load State"
    return (
        "the chunks made here are in the state alone, save it with Save State to keep them, since "
        f"no file could be written for them ({', '.join(dict.fromkeys(reasons))})"
    )


def _opened(folder: Path, name: str, start: StreamState) -> StreamState:
    """Read the folder once."""
    refuse = partial(damaged, folder.name)
    try:
        manifest = read_manifest(folder)
        if manifest is None:
            return replace(start, origin=StreamOrigin(name))
        if isinstance(manifest, Manifest):
            revision = read_revision(folder, manifest, refuse)
            state, held = revision.state, revision
        else:
            state, held = read_stream_v1(folder, manifest, refuse), None
    except OSError as error:
        raise refuse(f"a file that cannot be read ({error})") from error
    return replace(state, origin=StreamOrigin(name, manifest.stream, manifest.revision, held))


def _require_newest(origin: StreamOrigin, manifest: AnyManifest | None) -> AnyManifest | None:
    """Refuse to commit unless the stream still is at the revision that was opened."""
    seen = (manifest.stream, manifest.revision) if manifest else ("", 0)
    same = seen == (origin.stream, origin.revision)
    if same and isinstance(origin.held, Revision) and isinstance(manifest, Manifest):
        same = origin.held.manifest.chain == manifest.chain
    if same:
        return manifest
    now = f"revision {seen[1]}" if seen[0] in ("", origin.stream) else "another stream"
    raise StateMismatchError(
        f"stream {origin.name!r}",
        problem=_moved_on(origin, manifest, now),
        seen=f"{now if manifest else 'no stream any more'}, since another prompt committed first "
        "or the folder was changed",
        expected=f"revision {origin.revision}, from which this state continued",
        remedy=f"queue the prompt again to continue from there{_UNSAVED}",
    )


def _moved_on(origin: StreamOrigin, manifest: AnyManifest | None, now: str) -> str:
    if manifest is None:
        return f'the folder of the stream "{origin.name}" has gone since it was opened'
    if not origin.revision:
        return f'another run has begun the stream "{origin.name}" first'
    if manifest.stream != origin.stream:
        return f'the stream "{origin.name}" is another one than when it was opened'
    return (
        f'another run has committed to the stream "{origin.name}" first: it is at {now}, and this '
        f"continued from revision {origin.revision}"
    )


def _base(origin: StreamOrigin, manifest: AnyManifest | None) -> Revision | None:
    """Return what is known of the revision that the folder is at."""
    held = origin.held
    return held if isinstance(held, Revision) and held.manifest == manifest else None


def _remove_leftovers(folder: Path, manifest: Manifest) -> None:
    """Remove files that the revision does not need, and what comes after the bytes that count."""
    used = manifest.files
    with suppress(OSError):  # the commit is done; the next one tries again
        for path in folder.iterdir():
            cut_short = path.name.startswith(".") and path.name.endswith(PARTIAL)
            if cut_short or (revision_of(path.name) is not None and path.name not in used):
                path.unlink()
        for file, size in used.items():
            if (folder / file).stat().st_size > size:
                os.truncate(folder / file, size)
