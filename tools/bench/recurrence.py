"""A chunk of Wan over the same bare forwards, at a width where the products are what costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from tools.bench.models import wan
from tools.bench.streams import BareForwards, Stream
from tools.bench.subject import Subject
from tools.bench.table import Row
from tools.bench.timing import in_turns, median, overhead
from tools.inprocess import Pack

SIGMAS = (1.0, 0.0)
"""One step and the commit: the fewest forwards, so what happens once a chunk weighs most."""
WARM_UP = 2
"""Chunks until the window is full: the first sees nothing, the second is the first to commit."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TARGET = 1.03


@dataclass(frozen=True)
class Setting:
    """Size of the model; `text_tokens` is to a block what 512 are to one of 480p."""

    dim: int = 1024
    layers: int = 4
    size: tuple[int, int] = (32, 64)
    text_tokens: int = 168
    pairs: int = 9


FULL, SMALL = Setting(), Setting(dim=128, layers=1, size=(8, 8), text_tokens=8, pairs=2)


def measure(pack: Pack, setting: Setting) -> dict[str, Any]:
    """Return the overhead in every dtype, and the worst of them."""
    dtypes = {}
    for name, dtype in DTYPES.items():
        print(f"recurrence: {name}", flush=True)
        dtypes[name] = _overhead(pack, setting, dtype)
    return {
        "overhead": max(each["overhead"] for each in dtypes.values()),
        "dtypes": dtypes,
        "setting": {**vars(setting), "sigmas": SIGMAS},
    }


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the measures beside their targets."""
    return [
        Row(f"a chunk over bare forwards, {name}", each["overhead"], TARGET)
        for name, each in result["dtypes"].items()
    ]


def notes(result: dict[str, Any]) -> list[str]:
    """Return what else is worth a line."""
    return [
        f"{name}: pairs {each['lowest']:.3f} to {each['highest']:.3f}, a chunk "
        f"{each['chunk_seconds']:.2f} s, bare {each['bare_seconds']:.2f} s"
        for name, each in result["dtypes"].items()
    ]


def _overhead(pack: Pack, setting: Setting, dtype: torch.dtype) -> dict[str, Any]:
    subject = Subject(
        partial(wan, dim=setting.dim, layers=setting.layers, dtype=dtype),
        4096, size=setting.size, text_tokens=setting.text_tokens,
    )  # fmt: skip
    model, sigmas = subject.build(), torch.tensor(SIGMAS)
    stream = Stream(pack, subject, model, sigmas)
    bare = BareForwards(subject, model, sigmas, stream.layers)
    stream.advance(WARM_UP)
    bare()
    pairs = in_turns(stream.advance, bare, setting.pairs)
    return {
        "overhead": overhead(pairs),
        "lowest": min(pair.ratio for pair in pairs),
        "highest": max(pair.ratio for pair in pairs),
        "chunk_seconds": median(pair.ours for pair in pairs),
        "bare_seconds": median(pair.bare for pair in pairs),
        "tokens_per_frame": subject.tokens_per_frame,
    }
