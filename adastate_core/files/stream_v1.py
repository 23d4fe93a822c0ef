"""Named streams of format version 1: each segment is a safetensors file with tensors by digest.

The newest one also holds the header of the whole state. The next commit writes such a stream again,
in the newest version, and removes what it no longer needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..digest import tensor_digest, text_digest
from ..stream.state import StreamState
from .manifest import ManifestV1, SegmentV1
from .schema import Refuse
from .serialization import Info, check_header, parse_header, state_from_header


def read_stream_v1(folder: Path, manifest: ManifestV1, refuse: Refuse) -> StreamState:
    """Build the state of a revision from its segments.

    Raises:
        OSError: If a segment cannot be opened.
        StateFileError: If anything is damaged or of a newer version.
    """
    newest = manifest.segments[-1].file
    found: dict[str, Tensor] = {}
    infos: dict[str, Info] = {}
    try:
        with safe_open(folder / newest, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get("adastate", "")
        if text_digest(text) != manifest.header:
            raise refuse(f"{newest} with another header than was written")
        header = parse_header(text, f"stream {folder.name!r}", refuse)
        wanted = set(header.digests.values())
        for segment in manifest.segments:
            infos.update(_infos(folder, segment, wanted, refuse))
        if wanted - infos.keys():
            raise refuse(f"{len(wanted - infos.keys())} tensors in no segment")
        check_header(header, {name: infos[d] for name, d in header.digests.items()}, refuse)
        for segment in manifest.segments:
            found.update(_tensors(folder, segment, wanted - found.keys(), refuse))
    except (SafetensorError, RuntimeError) as error:  # torch's: too large to map
        raise refuse(f"a segment that cannot be read ({error})") from error
    tensors = {name: found[digest] for name, digest in header.digests.items()}
    return state_from_header(header, tensors, refuse)


def _infos(
    folder: Path, segment: SegmentV1, wanted: set[str], refuse: Refuse
) -> Mapping[str, Info]:
    with safe_open(folder / segment.file, framework="pt", device="cpu") as file:
        if set(file.keys()) != set(segment.digests):
            raise refuse(f"{segment.file} with other tensors than were written")
        slices = {digest: file.get_slice(digest) for digest in wanted.intersection(file.keys())}
        return {d: (x.get_dtype(), tuple(x.get_shape())) for d, x in slices.items()}


def _tensors(
    folder: Path, segment: SegmentV1, wanted: set[str], refuse: Refuse
) -> Mapping[str, Tensor]:
    with safe_open(folder / segment.file, framework="pt", device="cpu") as file:
        # Clones, for the alignment of their memory: see `load_state`.
        tensors = {d: file.get_tensor(d).clone() for d in wanted.intersection(segment.digests)}
    for digest, tensor in tensors.items():
        if tensor_digest(tensor) != digest:
            raise refuse(f"a tensor in {segment.file} that differs from its digest")
    return tensors
