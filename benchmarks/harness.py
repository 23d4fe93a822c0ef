"""What every part needs: turns, memory, processes of their own, rows with their targets."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from operator import truediv
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import psutil
import torch
from rich.console import Console
from rich.table import Table

from tools.inprocess import Pack, open_comfyui

HEADLINES = {
    "overhead": "recurrence",
    "chunk200_over_5": "growth",
    "rss_400_over_20": "render",
    "core_over_ours_168": "core",
    "decode_ratio": "decode",
}
"""Figures that stand at the top of the file, and the part that each comes from."""
_GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
"""Tells glibc to return what is freed at once; else gaps in its heap decide where a peak lies."""


@dataclass(frozen=True)
class Row:
    """One measure and its target: a ceiling, or a floor if it is `at_least` that much."""

    name: str
    measured: float
    target: float
    unit: str = ""
    at_least: bool = False

    @property
    def missed(self) -> bool:
        """Whether the target is missed; what is not a number misses every target."""
        met = self.measured >= self.target if self.at_least else self.measured <= self.target
        return not met

    @property
    def used(self) -> float:
        """How much of the target is used up: 1 meets it, more misses it."""
        part, whole = self.measured, self.target
        if self.at_least:
            part, whole = whole, part
        return part / whole if whole > 0 else float("inf") if part else 1.0

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Name, number, target and verdict."""
        unit = f" {self.unit}" if self.unit else ""
        bound = "at least" if self.at_least else "at most"
        number = f"{self.measured:.3f}" if self.measured > 0.01 else f"{self.measured:.2g}"
        verdict = "missed" if self.missed else "met"
        return self.name, f"{number}{unit}", f"{bound} {self.target:g}{unit}", verdict


@dataclass(frozen=True)
class Measured:
    """The rows of a part, and all that it has measured, as it is written to the file."""

    rows: list[Row]
    details: dict[str, Any]


class Part(Protocol):
    """A measurement: a dataclass of its sizes, those of a real run by default."""

    def measure(self) -> Measured:
        """Measure through the nodes of the pack."""


@dataclass(frozen=True)
class Pairs:
    """Seconds of two things that ran in turns, so that each pair saw much the same load."""

    ours: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The median of ours over the bare one, in which a busy moment does not show."""
        return statistics.median(self._ratios)

    @property
    def _ratios(self) -> list[float]:
        return list(map(truediv, self.ours, self.bare))

    def details(self, ratio: str, ours: str, bare: str) -> dict[str, float]:
        """Return what the file says, under these names: the ratios, and the median seconds."""
        spread = {"lowest": min(self._ratios), "highest": max(self._ratios)}
        medians = {ours: statistics.median(self.ours), bare: statistics.median(self.bare)}
        return {ratio: self.ratio, **spread, **medians}


@cache
def pack() -> Pack:
    """Return the nodes, loaded once a process; ComfyUI is open by then."""
    return Pack()


def in_turns(ours: Callable[[], object], bare: Callable[[], object], count: int) -> Pairs:
    """Run both so often, and swap who is first, so that neither always follows the other."""
    pairs = Pairs()
    for index in range(count):
        both = [(pairs.ours, ours), (pairs.bare, bare)]
        for taken, run in reversed(both) if index % 2 else both:
            taken.append(seconds(run))
    return pairs


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def finished(make: Callable[[], object]) -> None:
    """Do it and wait for the device, which works on after a call has returned."""
    make()
    if on_cuda():
        torch.cuda.synchronize()


def on_cuda() -> bool:
    """Say whether ComfyUI computes on a graphics card."""
    import comfy.model_management

    return bool(comfy.model_management.get_torch_device().type == "cuda")


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(psutil.Process().memory_info().rss)


def peak() -> int:
    """Return the most bytes since the start or `forget_peak`; only Linux can forget."""
    (kibibytes,) = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return 1024 * int(kibibytes)


def forget_peak() -> None:
    """Let the peak begin anew from what is in memory now."""
    Path("/proc/self/clear_refs").write_text("5")


def run_apart(*calls: Callable[[], Any], give_back: bool = False) -> list[Any]:
    """Make the calls in one new process that has opened ComfyUI, on the CPU.

    Args:
        *calls: What can be pickled, such as a partial of a function of a part.
        give_back: Whether memory that is freed goes back to the system at once, which takes time
            but leaves in memory what is in use and nothing else.
    """
    start = (get_context("spawn"), _open, (torch.get_num_threads(),))
    environment = patch.dict(os.environ, _GIVE_BACK if give_back else {})
    with environment, ProcessPoolExecutor(1, *start) as process:
        return [process.submit(call).result() for call in calls]


def _open(threads: int) -> None:
    # Parts import ComfyUI when they are: this comes before the first call is unpickled.
    torch.set_num_threads(threads)
    open_comfyui()


def assemble(setting: dict[str, Any], parts: dict[str, Measured]) -> dict[str, Any]:
    """Return the content of the file: the figures that decide, all rows, all details."""
    details = {name: part.details for name, part in parts.items()}
    headlines = {name: details[part][name] for name, part in HEADLINES.items() if part in parts}
    rows = [
        {"part": name, **vars(row), "missed": row.missed}
        for name, part in parts.items()
        for row in part.rows
    ]
    return {**headlines, "setting": setting, "rows": rows, **details}


def show(title: str, measured: Measured) -> None:
    """Print the rows of a part beside their targets."""
    table = Table("", "measured", "target", "", title=title, title_justify="left", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in measured.rows:
        table.add_row(*row.cells, style="red" if row.missed else None)
    print()
    Console(width=120).print(table)
