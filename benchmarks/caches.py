"""Forms in which keys and values of the past are kept: their bytes, their time, their error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from benchmarks.harness import Measured, Row, in_turns
from benchmarks.models import wan
from benchmarks.streams import Stream

SIGMAS = (1.0, 0.7, 0.0)
ONE_FORWARD = (1.0, 0.0)
FORMS = {
    "fp8": {"cache_precision": "fp8"},
    "system memory": {"cache_place": "system memory"},
    "fp8 in system memory": {"cache_precision": "fp8", "cache_place": "system memory"},
}
"""What Apply AdaState is told, by name; the plain form is what they are compared with."""
MEASURES = {
    "bytes_ratio": ("bytes over plain", 0.55, 1.0),
    "time_ratio": ("a chunk over plain", 1.15, 1.15),
    "forward_error": ("error of a forward", 0.02, 0.0),
    "chunk_error": ("error of the last chunk", 0.05, 0.0),
}
"""Name and target, in fp8 and in the model's own precision.

Time has no row in system memory: the models of this part run there, so nothing has to move.
"""


@dataclass(frozen=True)
class Caches:
    """The model, as in the recurrence but smaller, and the chunks of a stream."""

    dim: int = 512
    layers: int = 4
    size: tuple[int, int] = (28, 28)
    dtype: str = "bfloat16"
    chunks: int = 8
    pairs: int = 7

    def measure(self) -> Measured:
        """Return the measures of every form."""
        subject = wan(self.dim, self.layers, size=self.size, dtype=self.dtype)
        open_stream = partial(Stream, subject, subject.build(), history_chunks=0)
        plain, once = open_stream(SIGMAS), open_stream(ONE_FORWARD)
        plain.advance(self.chunks - 1)
        once.follow(plain)
        once.advance()
        forms = {}
        for name, apply in FORMS.items():
            other, both = open_stream(SIGMAS, apply=apply), open_stream(SIGMAS)
            other_once = open_stream(ONE_FORWARD, apply=apply)
            other_once.follow(plain)
            other_once.advance()
            both.follow(plain)
            both.advance()
            other.advance(self.chunks)
            errors = {
                "forward_error": _error(other_once.newest, once.newest),
                "chunk_error": _error(other.newest, both.newest),
            }
            pairs = in_turns(other.advance, both.advance, self.pairs)
            times = pairs.details("time_ratio", "chunk_seconds", "plain_seconds")
            kept = {"bytes": other.kept_bytes, "bytes_ratio": other.kept_bytes / both.kept_bytes}
            forms[name] = errors | times | kept
        kept = {"bytes": both.kept_bytes, "chunk_seconds": times["plain_seconds"]}
        setting = {**vars(self), "sigmas": SIGMAS}
        return Measured(_rows(forms), {"forms": forms, "plain": kept, "setting": setting})


def _rows(forms: dict[str, dict[str, float]]) -> list[Row]:
    rows = []
    for name, form in forms.items():
        exact, moved = "cache_precision" not in FORMS[name], "cache_place" in FORMS[name]
        for measure, (text, fp8_target, exact_target) in MEASURES.items():
            if not (moved and measure == "time_ratio"):
                target = exact_target if exact else fp8_target
                rows.append(Row(f"{name}: {text}", form[measure], target))
    return rows


def _error(found: Tensor, expected: Tensor) -> float:
    """Return the difference as a share, both as root mean squares."""
    difference = (found - expected).float().square().mean().sqrt()
    return float(difference / expected.float().square().mean().sqrt())
