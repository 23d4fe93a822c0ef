"""A named stream that one process opens while another one commits to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adastate_core.files import named_stream
from adastate_core.files.atomic import locked
from adastate_core.files.named_stream import commit_stream, open_stream
from adastate_core.files.names import damaged
from adastate_core.stream.events import ChunkEvent
from adastate_core.stream.state import StreamState
from tests.support.named_streams import NAME
from tests.support.reference_host import Harness

ROOT = Path(__file__).parents[4]

# Commits as fast as it can: chunks, rewinds, and what a bounded history forgets.
COMMITS = """
import sys
from pathlib import Path
from dataclasses import replace
import torch
from adastate_core.config import StreamConfig
from adastate_core.files.named_stream import commit_stream, open_stream
from adastate_core.stream.events import ChunkEvent, Conditions
from adastate_core.fingerprint import ModelFingerprint
from adastate_core.stream.state import StreamState
from tests.support.reference_host import text

prompts = [text(seed) for seed in range(3)]
start = StreamState((1, 4, 2, 3), ModelFingerprint("reference", 4, "0"))
start = replace(start, history_chunks=int(sys.argv[2]))
state = open_stream(Path(sys.argv[1]), sys.argv[3], start)
print("ready", flush=True)
for turn in range(10**9):
    for _ in range(2):
        index, prompt = state.chunk_index, prompts[turn % 3]
        latents = torch.full((1, 4, 3, 2, 3), float(index))
        entry = ChunkEvent(
            index, 0, prompt.digest, None, "", StreamConfig(), latents=str(index),
            state=latents[:, :, :1].clone(), content=latents,
        )
        state = commit_stream(Path(sys.argv[1]), state.append_chunk(entry, Conditions(prompt)))
    if turn % 3 == 2:
        state = commit_stream(Path(sys.argv[1]), state.rewind(-2))
"""


@contextmanager
def committing(root: Path, history: int) -> Iterator[None]:
    """Have another process commit all the time."""
    command = [sys.executable, "-c", COMMITS, str(root), str(history), NAME]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"ready\n"
            yield
            assert other.poll() is None
        finally:
            other.kill()


def whole(state: StreamState) -> bool:
    """Return whether each chunk has its own latents, whose values are its number."""
    chunks = [entry for entry in state.events if isinstance(entry, ChunkEvent)]
    return [chunk.index for chunk in chunks] == list(range(state.chunk_index)) and all(
        chunk.content is None or bool((chunk.content == float(chunk.index)).all())
        for chunk in chunks
    )


@pytest.mark.parametrize("history", [0, 2])
def test_every_open_gives_one_revision(tmp_path: Path, history: int) -> None:
    fresh, seen = Harness().fresh, [0]
    with committing(tmp_path, history):
        while len(set(seen)) < 40:
            state = open_stream(tmp_path, NAME, fresh)
            assert state.origin is not None
            assert state.origin.revision >= seen[-1]
            seen.append(state.origin.revision)
            assert whole(state)
            if len(seen) % 2:  # now and then as after a restart
                del state
    last = open_stream(tmp_path, NAME, fresh)  # killed in the middle of a commit
    assert whole(last)
    assert commit_stream(tmp_path, last.hold_anchor(1)).origin is not None


def test_an_open_that_a_commit_always_overtakes_takes_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = commit_stream(tmp_path, open_stream(tmp_path, NAME, Harness().fresh))
    read, tries = named_stream._opened, []

    def overtaken(folder: Path, name: str, start: StreamState) -> StreamState:
        nonlocal state
        tries.append(1)
        try:
            with locked(folder / named_stream.LOCK, patience=0):
                pass
        except TimeoutError:  # nobody can commit now
            return read(folder, name, start)
        state = commit_stream(tmp_path, state.hold_anchor(len(tries)))
        raise damaged(name, "a file that is gone")

    monkeypatch.setattr(named_stream, "_opened", overtaken)
    opened = open_stream(tmp_path, NAME, Harness().fresh)
    assert opened.origin is not None
    assert opened.origin.revision == len(tries)
