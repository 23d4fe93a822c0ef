"""States as values: files, commits to a named stream, replay, and steps chained by hand."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Measured, Row, in_turns, pack, seconds
from benchmarks.models import wan
from benchmarks.streams import Stream

SIGMAS = (1.0, 0.7, 0.0)
LATENT = (16, 60, 104)
"""Wan 2.1 at 480 x 832."""
CHAIN = 5


@dataclass(frozen=True)
class States:
    """Chunks of the long stream and of the replay; pairs of a chain and a loop; the model."""

    chunks: int = 100
    replayed: int = 12
    pairs: int = 5
    dim: int = 512
    layers: int = 2
    size: tuple[int, int] = (28, 28)

    def measure(self) -> Measured:
        """Return seconds and bytes of files, and what replay and chains cost."""
        files = _files(self.chunks)
        subject = wan(self.dim, self.layers, size=self.size)
        stream = Stream(subject, subject.build(), SIGMAS, history_chunks=0)
        stream.advance(2)
        pairs = in_turns(partial(_chain, stream), partial(_loop, stream), self.pairs)
        replay = _replay(stream, self.replayed) / self.replayed
        rows = [
            Row("a long stream, saved", files["save_seconds"], 1.0, "s"),
            Row("a long stream, loaded", files["load_seconds"], 1.0, "s"),
            Row(f"{CHAIN} steps chained over one step of {CHAIN} chunks", pairs.ratio, 1.02),
            Row("forwards to replay a chunk", replay, 1.0),
        ]
        setting = {**vars(self), "latent": LATENT, "sigmas": SIGMAS}
        results = {"chain_over_loop": pairs.ratio, "forwards_per_replay": replay}
        return Measured(rows, {**files, **results, "setting": setting})


def _files(chunks: int) -> dict[str, float]:
    """Save, load and commit a stream of random latents."""
    storage = pack().part("adastate_core.files.state_file")
    named = pack().part("adastate_core.files.named_stream")
    with tempfile.TemporaryDirectory(prefix="adastate-bench-") as folder:
        path, root = Path(folder) / "long.adastate.safetensors", Path(folder) / "streams"
        state = _long_stream(chunks)
        saves = [seconds(partial(storage.save_state, state, path)) for _ in range(3)]
        loads = [seconds(partial(storage.load_state, path)) for _ in range(3)]
        kept = named.commit_stream(root, named.open_stream(root, "bench", state))
        before = _size(root)
        commit = seconds(partial(named.commit_stream, root, _with_chunk(kept, chunks)))
        return {
            "save_seconds": statistics.median(saves),
            "load_seconds": statistics.median(loads),
            "file_bytes": path.stat().st_size,
            "commit_seconds": commit,
            "commit_bytes": _size(root) - before,
        }


def _long_stream(chunks: int) -> Any:
    model = pack().part("adastate_core.fingerprint").ModelFingerprint("bench", LATENT[0], "0")
    state = pack().part("adastate_core.stream.state").StreamState((1, *LATENT), model)
    for index in range(chunks):
        state = _with_chunk(state, index)
    return state


def _with_chunk(state: Any, index: int) -> Any:
    record = pack().part("adastate_core.stream.events")
    config = pack().part("adastate_core.config").StreamConfig()
    prompt = pack().part("adastate_core.stream.conditioning").Conditioning.pack("a prompt")
    source = torch.Generator().manual_seed(index)
    channels, *size = LATENT
    hidden, content = (torch.randn((1, channels, n, *size), generator=source) for n in (1, 3))
    event = record.ChunkEvent(
        index, 0, prompt.digest, None, "", config, latents=str(index), state=hidden, content=content
    )
    return state.append_chunk(event, record.Conditions(prompt))


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
    """Count the forwards that rebuild the keys and values of some chunks.

    The pool is emptied, as the host does when it is short of memory.
    """
    stream.restart()
    stream.advance(chunks)
    stream.binding.pool.clear()
    before = stream.forwards
    stream.advance()
    return stream.forwards - before - (len(SIGMAS) - 1)
