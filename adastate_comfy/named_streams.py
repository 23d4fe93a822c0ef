"""Named streams, in ComfyUI's output folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.latent_formats
import folder_paths

from ..adastate_core.errors import AdaStateError, StateMismatchError
from ..adastate_core.files.named_stream import commit_or_keep, open_stream, stream_digest
from ..adastate_core.stream.pace import count_of, video_frames
from ..adastate_core.stream.state import StreamState
from .page_metadata import page_metadata
from .panel.panels import PANELS
from .sockets.latents import image_size
from .thumbnails import keep_thumbnail

FOLDER_SHOWN = "adastate/streams"
"""The folder of all streams, seen from ComfyUI's output folder."""

_chunks_seen: dict[Path, int] = {}
"""How many chunks each stream had when this server saw its folder last."""


def streams_folder() -> Path:
    """Return the folder that holds a folder for every named stream."""
    return Path(folder_paths.get_output_directory()) / FOLDER_SHOWN


def recorded_frames(latent_frames: int | None, form: str) -> int | None:
    """Count the video frames of latent frames, None if they or their format are not known.

    Args:
        latent_frames: Latent frames from the video's first on.
        form: Name of the latent format.
    """
    found = getattr(comfy.latent_formats, form, None) if form else None
    stride = getattr(found, "temporal_downscale_ratio", 0)
    if latent_frames is None or not stride:
        return 0 if latent_frames == 0 else None
    return video_frames(latent_frames, int(stride))


def revision_of(state: StreamState) -> int:
    """Return how often the stream was committed; 0 if it is not a named one."""
    return state.origin.revision if state.origin is not None else 0


def stream_version(name: str | None) -> str | float:
    """Return what changes with every commit of a named stream."""
    digest = stream_digest(streams_folder(), name) if name is not None else None
    # A new NaN each time: one object would equal itself in the keys of ComfyUI's cache.
    return digest or float("nan")


def check_name(name: str | None) -> bool | str:
    """Say whether a stream may have this name, or why not; None is what a link gives."""
    if name is None:
        return "The name of a stream cannot come from another node. Type it on Open Stream."
    try:
        stream_digest(streams_folder(), name)
    except AdaStateError as error:
        return str(error)
    return True


def open_one(name: str, start: StreamState) -> tuple[StreamState, str]:
    """Open a named stream, and tell what an artist may not expect of it.

    Args:
        name: Its name.
        start: What it begins with while there is none.

    Returns:
        The stream, and what to write under the node before anything is made: whether it goes on,
        whether its folder has gone since, and whether `start` is of another size.

    Raises:
        AdaStateError: As `open_stream`.
    """
    state = open_stream(streams_folder(), name, start)
    folder = _folder_of(state)
    if not revision_of(state):
        gone = _chunks_seen.get(folder, 0)
        lost = f": the one of {count_of(gone, 'chunk')} that was here has gone" if gone else ""
        return state, f"new stream{lost}"
    _chunks_seen[folder] = state.chunk_index
    text = f"continuing: {count_of(state.chunk_index, 'chunk')}"
    ours, others = (image_size(of.latent_shape, state.latent_format) for of in (state, start))
    if ours != others:
        text += f" of {ours[0]} x {ours[1]}; start is {others[0]} x {others[1]}, and not used"
    return state, text


def commit_one(
    states: list[StreamState], prompt: Mapping[str, Any] | None, extra: Mapping[str, Any] | None
) -> tuple[StreamState, str]:
    """Commit the one state of a list; one that cannot be committed is saved beside the stream.

    Args:
        states: What came in by the socket.
        prompt: The hidden input of that name.
        extra: The hidden input `extra_pnginfo`.

    Returns:
        The stream as committed, and what to write under the node.

    Raises:
        StateMismatchError: If there are several, or another run has committed since.
    """
    if len(states) != 1:
        raise StateMismatchError(
            "state to commit",
            problem=f"Commit Stream was given {len(states)} streams; it keeps one",
            seen=f"a list of {len(states)}",
            expected="one state",
            remedy="wire one stream into Commit Stream",
        )
    output = Path(folder_paths.get_output_directory())
    page = page_metadata(prompt, extra)
    committed = commit_or_keep(streams_folder(), states[0], output, page)
    assert committed.origin is not None
    name, revision = committed.origin.name, committed.origin.revision
    folder = _folder_of(committed)
    keep_thumbnail(folder, committed)
    _chunks_seen[folder] = committed.chunk_index
    length = [count_of(committed.chunk_index, "chunk")]
    last = committed.last_chunk
    # A stream has no frame rate; the node that made its newest chunk had one.
    seconds = PANELS.seconds_until(last.latents) if last is not None else None
    if seconds is not None:
        length.append(f"{seconds:.1f} s")
    return committed, f"{name}: revision {revision}, {', '.join(length)}"


def _folder_of(state: StreamState) -> Path:
    assert state.origin is not None
    return streams_folder() / state.origin.name
