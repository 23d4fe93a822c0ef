"""States as values: files, commits to a named stream, replay, and steps chained by hand."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tools.bench.models import wan
from tools.bench.resident import mebibytes
from tools.bench.streams import Stream
from tools.bench.subject import Subject
from tools.bench.table import Row
from tools.bench.timing import in_turns, median, overhead, seconds
from tools.inprocess import Pack

SIGMAS = (1.0, 0.7, 0.0)
LATENT = (16, 60, 104)
"""Wan 2.1 at 480 x 832."""
CHAIN = 5
TARGETS = {
    "save_seconds": 1.0, "load_seconds": 1.0, "chain_over_loop": 1.02, "forwards_per_replay": 1.0,
}  # fmt: skip
NAMES = {
    "save_seconds": "a long stream, saved",
    "load_seconds": "a long stream, loaded",
    "chain_over_loop": f"{CHAIN} steps chained over one step of {CHAIN} chunks",
    "forwards_per_replay": "forwards to replay a chunk",
}


@dataclass(frozen=True)
class Setting:
    """Chunks of the long stream and of the replay; pairs of a chain and a loop; the model."""

    chunks: int = 100
    replayed: int = 12
    pairs: int = 5
    dim: int = 512
    layers: int = 2
    size: tuple[int, int] = (28, 28)


FULL = Setting()
SMALL = Setting(chunks=3, replayed=3, pairs=1, dim=128, layers=1, size=(8, 8))


def measure(pack: Pack, setting: Setting) -> dict[str, Any]:
    """Return seconds and bytes of files, and what replay and chains cost."""
    print(f"states: {setting.chunks} chunks in files", flush=True)
    result = _files(pack, setting.chunks)
    print("states: chains and replay", flush=True)
    build = partial(wan, dim=setting.dim, layers=setting.layers)
    subject = Subject(build, 4096, size=setting.size)
    stream = Stream(pack, subject, subject.build(), torch.tensor(SIGMAS), history_chunks=0)
    stream.advance(2)
    pairs = in_turns(partial(_chain, stream), partial(_loop, stream), setting.pairs)
    result["chain_over_loop"] = overhead(pairs)
    result["forwards_per_replay"] = _replay(stream, setting.replayed) / setting.replayed
    result["setting"] = {**vars(setting), "latent": LATENT, "sigmas": SIGMAS}
    return result


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the measures beside their targets."""
    units = {name: "s" for name in NAMES if name.endswith("seconds")}
    return [
        Row(text, result[name], TARGETS[name], units.get(name, "")) for name, text in NAMES.items()
    ]


def notes(result: dict[str, Any]) -> list[str]:
    """Return the size of the files."""
    total, new = (mebibytes(result[f"{name}_bytes"]) for name in ("file", "commit"))
    return [
        f"a state of {result['setting']['chunks']} chunks is {total:.0f} MiB; committing one more "
        f"to a named stream wrote {new:.2f} MiB in {result['commit_seconds']:.2f} s"
    ]


def _files(pack: Pack, chunks: int) -> dict[str, Any]:
    """Save, load and commit a stream of random latents."""
    storage, named = (
        pack.part("adastate_core.files.state_file"),
        pack.part("adastate_core.files.named_stream"),
    )
    with tempfile.TemporaryDirectory(prefix="adastate-bench-") as folder:
        path, root = Path(folder) / "long.adastate.safetensors", Path(folder) / "streams"
        state = _long_stream(pack, chunks)
        saves = [seconds(partial(storage.save_state, state, path)) for _ in range(3)]
        loads = [seconds(partial(storage.load_state, path)) for _ in range(3)]
        opened = named.open_stream(root, "bench", state)
        kept = named.commit_stream(root, opened)
        before = _size(root)
        longer = _with_chunk(pack, kept, chunks)
        commit = seconds(partial(named.commit_stream, root, longer))
        return {
            "save_seconds": median(saves), "load_seconds": median(loads),
            "file_bytes": path.stat().st_size, "commit_seconds": commit,
            "commit_bytes": _size(root) - before,
        }  # fmt: skip


def _long_stream(pack: Pack, chunks: int) -> Any:
    model = pack.part("adastate_core.stream.events").ModelFingerprint("bench", LATENT[0], "0")
    state = pack.part("adastate_core.stream.state").StreamState((1, *LATENT), model)
    for index in range(chunks):
        state = _with_chunk(pack, state, index)
    return state


def _with_chunk(pack: Pack, state: Any, index: int) -> Any:
    record = pack.part("adastate_core.stream.events")
    config = pack.part("adastate_core.config").StreamConfig()
    prompt = pack.part("adastate_core.stream.conditioning").Conditioning.pack("a prompt")
    source = torch.Generator().manual_seed(index)
    channels, *size = LATENT
    hidden, content = (torch.randn((1, channels, n, *size), generator=source) for n in (1, 3))
    entry = record.ChunkEvent(
        index, 0, prompt.digest, None, "", config, latents=str(index), state=hidden, content=content
    )
    return state.append_chunk(entry, record.Conditions(prompt))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _loop(stream: Stream) -> None:
    stream.restart()
    stream.advance(CHAIN)


def _chain(stream: Stream) -> None:
    stream.restart()
    for _ in range(CHAIN):
        stream.advance()


def _replay(stream: Stream, chunks: int) -> int:
    """Count the forwards that rebuild the memory of some chunks."""
    stream.restart()
    stream.advance(chunks)
    stream.forget()
    before = stream.forwards
    stream.advance()
    return stream.forwards - before - (len(SIGMAS) - 1)
