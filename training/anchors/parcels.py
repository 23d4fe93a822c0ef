"""Cuts checkpoints into files small enough for a narrow way back, and puts them together again.

A parcel is named after its file: ``runs--base--average.safetensors.0123456789ab.1-of-2``, where the
digits are the beginning of the SHA-256 of the whole file.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

LARGEST = 15 * 2**20
# Files and bytes of one delivery.
MOST_FILES, MOST_BYTES = 8, 60 * 2**20
PARCEL = re.compile(r"(?P<name>.+)\.(?P<sha>[0-9a-f]{12})\.(?P<part>\d+)-of-(?P<parts>\d+)")


def pack(folder: Path, file: Path, target: Path, largest: int = LARGEST) -> list[Path]:
    """Write a safetensors file as parcels, in half precision, with its header.

    Args:
        folder: The folder that names are relative to.
        file: A file in it.
        target: Where the parcels go; those of an older version of the file are replaced.
        largest: Most bytes of a parcel.
    """
    with safe_open(file, "pt") as opened:
        header = opened.metadata()
    halves = {
        name: value.half() if value.dtype == torch.float32 else value
        for name, value in load_file(file).items()
    }
    data = save(halves, header)
    name = "--".join(file.relative_to(folder).parts)
    digest = hashlib.sha256(data).hexdigest()[:12]
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob(f"{name}.*"):
        old.unlink()
    parts = -(-len(data) // largest)
    paths = []
    for part in range(parts):
        path = target / f"{name}.{digest}.{part + 1}-of-{parts}"
        path.write_bytes(data[part * largest : (part + 1) * largest])
        paths.append(path)
    return paths


def deliver(source: Path, target: Path, skip: int = 0) -> tuple[int, int]:
    """Copy parcels, oldest first, as many as one delivery takes.

    Args:
        source: Where the parcels are.
        target: Where they go.
        skip: Parcels that went before.

    Returns:
        How many went now, and how many are left.
    """
    target.mkdir(parents=True, exist_ok=True)
    paths = sorted(source.iterdir(), key=lambda path: (path.stat().st_mtime_ns, path.name))[skip:]
    sent, size = 0, 0
    for path in paths[:MOST_FILES]:
        size += path.stat().st_size
        if size > MOST_BYTES:
            break
        shutil.copyfile(path, target / path.name)
        sent += 1
    return sent, len(paths) - sent


def unpack(source: Path, folder: Path) -> tuple[list[Path], list[str]]:
    """Put files together from parcels.

    Args:
        source: Where the parcels are.
        folder: Where the files go; what is there is replaced.

    Returns:
        The files that are whole, and what is missing of the others.

    Raises:
        ValueError: A file is not what was packed.
    """
    found: dict[tuple[str, str, int], dict[int, Path]] = {}
    for path in sorted(source.iterdir()):
        if match := PARCEL.fullmatch(path.name):
            key = match["name"], match["sha"], int(match["parts"])
            found.setdefault(key, {})[int(match["part"])] = path
    files, missing = [], []
    for (name, digest, parts), paths in found.items():
        if lost := sorted(set(range(1, parts + 1)) - set(paths)):
            missing.append(f"{name}: parcel {', '.join(map(str, lost))} of {parts}")
            continue
        data = b"".join(paths[part].read_bytes() for part in range(1, parts + 1))
        if hashlib.sha256(data).hexdigest()[:12] != digest:
            raise ValueError(f"{name} is damaged, expected a file with SHA-256 {digest}...")
        path = folder.joinpath(*name.split("--"))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_bytes(data)
        partial.rename(path)
        files.append(path)
    return files, missing
