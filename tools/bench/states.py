"""States as values: files, commits to a named stream, replay, and steps chained by hand."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tools.bench.models import SUBJECTS
from tools.bench.streams import Stream
from tools.bench.table import against, show
from tools.bench.timing import Pair, median, overhead, seconds
from tools.inprocess import Pack

SUBJECT = SUBJECTS["wan 2.1"]
SIGMAS = (1.0, 0.7, 0.0)
CHUNKS, LATENT = 100, (16, 60, 104)
"""A long stream at the size of Wan 2.1 at 480 x 832."""
CHAIN, PAIRS = 5, 5
REPLAYED = 12
TARGETS = {
    "save_seconds": 1.0, "load_seconds": 1.0, "chain_over_loop": 1.02, "forwards_per_replay": 1.0,
}  # fmt: skip


def measure(pack: Pack) -> dict[str, Any]:
    """Return seconds and bytes of files, and what replay and chains cost."""
    print(f"states: {CHUNKS} chunks in files", flush=True)
    result = _files(pack)
    print("states: chains and replay", flush=True)
    model, sigmas = SUBJECT.build(), torch.tensor(SIGMAS)
    stream = Stream(pack, SUBJECT, model, sigmas, history_chunks=0)
    stream.advance(2)
    pairs = [
        Pair(seconds(partial(_chain, stream)), seconds(partial(_loop, stream)))
        for _ in range(PAIRS)
    ]
    result["chain_over_loop"] = overhead(pairs)
    result["forwards_per_replay"] = _replay(stream) / REPLAYED
    return result


def report(result: dict[str, Any]) -> None:
    """Print a table."""
    rows = [(name, *against(result[name], target)) for name, target in TARGETS.items()]
    show("States", ("", "measured", "target", ""), *rows)
    total, new = result["file_bytes"], result["commit_bytes"]
    print(f"A state of {CHUNKS} chunks is {total / 2**20:.0f} MiB; committing one more chunk to a")
    print(f"named stream wrote {new / 2**20:.2f} MiB in {result['commit_seconds']:.2f} s.")


def _files(pack: Pack) -> dict[str, Any]:
    """Save, load and commit a stream of random latents."""
    storage, named = pack.part("adastate_core.storage"), pack.part("adastate_core.named_stream")
    with tempfile.TemporaryDirectory(prefix="adastate-bench-") as folder:
        path, root = Path(folder) / "long.adastate.safetensors", Path(folder) / "streams"
        state = _long_stream(pack, CHUNKS)
        saves = [seconds(partial(storage.save_state, state, path)) for _ in range(3)]
        loads = [seconds(partial(storage.load_state, path)) for _ in range(3)]
        opened = named.open_stream(root, "bench", state)
        kept = named.commit_stream(root, opened)
        before = _size(root)
        longer = _with_chunk(pack, kept, CHUNKS)
        commit = seconds(partial(named.commit_stream, root, longer))
        return {
            "save_seconds": median(saves), "load_seconds": median(loads),
            "file_bytes": path.stat().st_size, "commit_seconds": commit,
            "commit_bytes": _size(root) - before,
        }  # fmt: skip


def _long_stream(pack: Pack, chunks: int) -> Any:
    state = pack.part("adastate_core.state").StreamState((1, *LATENT))
    for index in range(chunks):
        state = _with_chunk(pack, state, index)
    return state


def _with_chunk(pack: Pack, state: Any, index: int) -> Any:
    record = pack.part("adastate_core.record")
    config = pack.part("adastate_core.config").StreamConfig()
    prompt = pack.part("adastate_core.conditioning").Conditioning.pack("a prompt")
    source = torch.Generator().manual_seed(index)
    channels, *size = LATENT
    hidden, content = (torch.randn((1, channels, n, *size), generator=source) for n in (1, 3))
    entry = record.ChunkEntry(
        index, 0, prompt.digest, None, "", config, latents=str(index), state=hidden, content=content
    )
    return state.append(entry, record.Conditions(prompt))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _loop(stream: Stream) -> None:
    stream.restart()
    stream.advance(CHAIN)


def _chain(stream: Stream) -> None:
    stream.restart()
    for _ in range(CHAIN):
        stream.advance()


def _replay(stream: Stream) -> int:
    """Count the forwards that rebuild the memory of some chunks."""
    stream.restart()
    stream.advance(REPLAYED)
    stream.forget()
    before = stream.forwards
    stream.advance()
    return stream.forwards - before - (len(SIGMAS) - 1)
