"""Forms in which keys and values of the past are kept: their bytes, their time, their error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tools.bench.models import wan
from tools.bench.streams import Stream
from tools.bench.subject import Subject
from tools.bench.table import Row
from tools.bench.timing import in_turns, median, overhead
from tools.inprocess import Pack

SIGMAS = (1.0, 0.7, 0.0)
ONE_FORWARD = (1.0, 0.0)
FORMS = {
    "fp8": {"cache_precision": "fp8"},
    "system memory": {"cache_place": "system memory"},
    "fp8 in system memory": {"cache_precision": "fp8", "cache_place": "system memory"},
}
"""What Apply AdaState is told, by name; the plain form is what they are compared with."""
FP8, EXACT = (0.55, 1.15, 0.02, 0.05), (1.0, 1.15, 0.0, 0.0)
TARGETS = {"fp8": FP8, "system memory": EXACT, "fp8 in system memory": FP8}
"""Of bytes and time over the plain form; of the error of a forward and of the last chunk."""
MEASURES = {
    "bytes_ratio": "bytes over plain",
    "time_ratio": "a chunk over plain",
    "forward_error": "error of a forward",
    "chunk_error": "error of the last chunk",
}


@dataclass(frozen=True)
class Setting:
    """The model, as in the recurrence but smaller, and the chunks of a stream."""

    dim: int = 512
    layers: int = 4
    size: tuple[int, int] = (28, 28)
    dtype: str = "bfloat16"
    chunks: int = 8
    pairs: int = 7


FULL = Setting()
SMALL = Setting(dim=128, layers=1, size=(8, 8), chunks=3, pairs=1)


def measure(pack: Pack, setting: Setting) -> dict[str, Any]:
    """Return the measures of every form."""
    build = partial(
        wan, dim=setting.dim, layers=setting.layers, dtype=getattr(torch, setting.dtype)
    )
    subject = Subject(build, 4096, size=setting.size)
    model = subject.build()
    open_stream = partial(_stream, pack, subject, model)
    plain, once = open_stream(SIGMAS, {}), open_stream(ONE_FORWARD, {})
    plain.advance(setting.chunks - 1)
    once.follow(plain)
    once.advance()
    forms = {}
    for name, apply in FORMS.items():
        print(f"caches: {name}", flush=True)
        other, other_once = open_stream(SIGMAS, apply), open_stream(ONE_FORWARD, apply)
        other_once.follow(plain)
        other_once.advance()
        other.advance(setting.chunks - 1)
        forms[name] = {"forward_error": _error(other_once.newest, once.newest)}
        both = open_stream(SIGMAS, {})
        both.follow(plain)
        both.advance()
        other.advance()
        forms[name]["chunk_error"] = _error(other.newest, both.newest)
        pairs = in_turns(other.advance, both.advance, setting.pairs)
        forms[name] |= {
            "time_ratio": overhead(pairs),
            "chunk_seconds": median(pair.ours for pair in pairs),
            "bytes": other.kept_bytes,
            "bytes_ratio": other.kept_bytes / both.kept_bytes,
        }
    return {
        "forms": forms,
        "plain": {
            "bytes": both.kept_bytes, "chunk_seconds": median(pair.bare for pair in pairs),
        },
        "setting": {**vars(setting), "sigmas": SIGMAS},
    }  # fmt: skip


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the measures beside their targets.

    Not the time in system memory: the models of this part run there, so nothing has to move.
    """
    return [
        Row(f"{form}: {text}", each[measure], target)
        for form, each in result["forms"].items()
        for (measure, text), target in zip(MEASURES.items(), TARGETS[form], strict=True)
        if not (measure == "time_ratio" and "cache_place" in FORMS[form])
    ]


def notes(result: dict[str, Any]) -> list[str]:
    """Return bytes and seconds."""
    every = {"plain": result["plain"], **result["forms"]}
    lines = [
        f"{name}: {each['bytes'] / 2**20:.2f} MiB, a chunk {each['chunk_seconds']:.2f} s"
        for name, each in every.items()
    ]
    chunks = result["setting"]["chunks"]
    return [*lines, f"errors: RMS over that of the plain form; the last of {chunks} chunks"]


def _stream(
    pack: Pack, subject: Subject, model: Any, sigmas: tuple[float, ...], apply: dict[str, str]
) -> Stream:
    return Stream(pack, subject, model, torch.tensor(sigmas), apply=apply, history_chunks=0)


def _error(found: Tensor, expected: Tensor) -> float:
    """Return the difference as a share, both as root mean squares."""
    difference = (found - expected).float().square().mean().sqrt()
    return float(difference / expected.float().square().mean().sqrt())
