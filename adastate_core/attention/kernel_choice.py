"""Choose the fastest attention kernel that is as exact as the host's own, once for every shape.

All candidates compute the same function; they differ in speed from device to device, and in their
last bits. At the first call of a shape the error of each is compared with that of the host's own
kernel, both against float64 on some of the queries. Those that are no worse are timed beside it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]
"""Attention over (B, S, H, D) queries, keys and values, returning (B, S, H, D).

Then come the mask, boolean or added to the logits, broadcastable to (B, H, S, keys), and the scale
of the logits.
"""
Candidates = Callable[[Tensor, Tensor | None], Mapping[str, Kernel]]
"""Kernels by name for such queries and such a mask."""
Timer = Callable[[Callable[[], object], torch.device], float]
"""Seconds that a call takes on a device."""

ROWS = 64
"""Queries, first and last among them, whose results are computed again in float64."""
WORSE = 2.0
"""How many times the host's own error is allowed on those queries."""
APART = 32.0
"""How many times that error any result may be away from the host's, so that none is garbage."""
GAIN = 0.95
"""Share of the host's own time that a kernel may take at most to be worth it."""
_ROUNDS = 5
_BUDGET = 0.5
"""Seconds after which no further round is timed."""
_EXPECTED = 0.05
"""Error of the host's own kernel above which it computes something else than we think."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The kernel for calls of one shape, and why.

    Args:
        name: Its name, empty for the host's own.
        work: Products of one query with one key in such a call.
        seconds: Seconds of a call.
        host_seconds: Seconds of a call with the host's own.
        error: Its error, relative to the size of the results.
        host_error: That of the host's own.
    """

    name: str
    work: int
    seconds: float
    host_seconds: float
    error: float
    host_error: float


class KernelChoice:
    """The kernels that were chosen for one model, by the shape of the call.

    Args:
        timer: What measures.
    """

    def __init__(self, timer: Timer | None = None) -> None:
        self._timer = timer or seconds_of
        self._kernels: dict[Hashable, Kernel | None] = {}
        self.choices: list[Choice] = []
        """What was chosen so far, in the order of the first calls."""

    def attend(
        self,
        host: Kernel,
        candidates: Candidates,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scale: float,
    ) -> Tensor:
        """Compute one attention with the kernel for its shape, choosing it first if need be.

        Args:
            host: The host's own kernel.
            candidates: What else there is.
            q: Queries, (B, S, H, D).
            k: Keys, (B, keys, H, D).
            v: Values, the same.
            mask: Mask, or None.
            scale: Scale of the logits.
        """
        kind = mask if mask is None else mask.dtype
        shape = (q.shape, k.shape, q.dtype, q.device, kind, scale)
        if shape not in self._kernels:
            others = candidates(q, mask)
            # Equal values give equal results, whatever a kernel does: no call to judge it by.
            if others and _all_equal(v):
                return host(q, k, v, mask, scale)
            self._kernels[shape] = self._choose(host, others, (q, k, v, mask, scale))
        return (self._kernels[shape] or host)(q, k, v, mask, scale)

    @property
    def largest(self) -> Choice | None:
        """Return what was chosen for the largest call, if any was made."""
        return max(self.choices, key=lambda choice: choice.work, default=None)

    def _choose(
        self,
        host: Kernel,
        others: Mapping[str, Kernel],
        call: tuple[Tensor, Tensor, Tensor, Tensor | None, float],
    ) -> Kernel | None:
        if not others:
            return None
        q, k, *_ = call
        expected = host(*call)
        rows = torch.linspace(0, q.shape[1] - 1, min(ROWS, q.shape[1]), device=q.device).long()
        reference = _reference(rows, *call)
        own = _error(expected[:, rows], reference)
        errors = {"": own}
        kernels = {"": host}
        for name, kernel in others.items():
            try:
                out = kernel(*call)
                error, apart = _error(out[:, rows], reference), _apart(out, expected)
            except Exception as refusal:  # whatever a package raises for what it cannot do
                why = next(iter(str(refusal).splitlines()), type(refusal).__name__)
                logging.info("AdaState: attention by %s cannot take this call: %s", name, why)
                continue
            if own < _EXPECTED and error <= WORSE * own and apart <= APART * own:
                errors[name], kernels[name] = error, kernel
            else:
                logging.info(
                    "AdaState: attention by %s is not exact enough: error %.2g, beside %.2g",
                    name,
                    error,
                    own,
                )
        seconds = self._time(kernels, call)
        best = min(seconds, key=lambda name: seconds[name])
        if seconds[best] > GAIN * seconds[""]:
            best = ""
        work = q.shape[0] * q.shape[2] * q.shape[1] * k.shape[1]
        chosen = Choice(best, work, seconds[best], seconds[""], errors[best], own)
        self.choices.append(chosen)
        logging.info(
            "AdaState: attention of %d queries to %d keys by %s: %.3g ms, error %.2g; "
            "the host's own: %.3g ms, error %.2g",
            *(q.shape[1], k.shape[1], best or "the host's own", 1e3 * chosen.seconds, chosen.error),
            *(1e3 * chosen.host_seconds, chosen.host_error),
        )
        return kernels[best] if best else None

    def _time(
        self,
        kernels: Mapping[str, Kernel],
        call: tuple[Tensor, Tensor, Tensor, Tensor | None, float],
    ) -> dict[str, float]:
        """Return the least seconds of each, timed in turns; all have run before."""
        best = dict.fromkeys(kernels, float("inf"))
        spent = 0.0
        for _ in range(_ROUNDS):
            for name, kernel in kernels.items():

                def run(kernel: Kernel = kernel) -> Tensor:
                    return kernel(*call)

                taken = self._timer(run, call[0].device)
                best[name] = min(best[name], taken)
                spent += taken
            if spent > _BUDGET:
                break
        return best


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Return how long a call takes, on a card by its own clock."""
    if device.type != "cuda":
        started = time.perf_counter()
        run()
        return time.perf_counter() - started
    stream = torch.cuda.current_stream(device)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record(stream)
    run()
    end.record(stream)
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def _all_equal(v: Tensor) -> bool:
    return bool((v - v[:, :1]).abs().amax() <= 1e-3 * v.abs().amax())


def _reference(
    rows: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """Compute some queries in float64, head by head, since keys in float64 are large."""
    if mask is not None:
        mask = mask[None] if mask.ndim == 2 else mask
        mask = mask[:, None] if mask.ndim == 3 else mask
        mask = mask[:, :, rows] if mask.shape[2] > 1 else mask
    results = []
    for head in range(q.shape[2]):
        queries, keys, values = (x[:, :, head].double() for x in (q[:, rows], k, v))
        logits = queries @ keys.transpose(1, 2) * scale
        if mask is not None:
            seen = mask[:, head if mask.shape[1] > 1 else 0]
            boolean = seen.dtype == torch.bool
            logits = logits.masked_fill(~seen, -torch.inf) if boolean else logits + seen
        results.append(logits.softmax(dim=-1) @ values)
    return torch.stack(results, dim=2)


def _error(out: Tensor, reference: Tensor) -> float:
    return float((out.double() - reference).norm() / reference.norm())


def _apart(out: Tensor, expected: Tensor) -> float:
    """Return how far the worst token is from the host's, relative to the size of a token."""
    away = (out - expected).flatten(2).float().norm(dim=-1).amax()
    return float(away / expected.flatten(2).float().norm(dim=-1).square().mean().sqrt())
