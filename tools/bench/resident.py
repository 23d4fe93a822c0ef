"""Memory of this process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return _field("VmRSS")


def peak() -> int:
    """Return the most bytes that were in memory, since the start or the last `forget_peak`."""
    return _field("VmHWM")


def forget_peak() -> None:
    """Let the peak begin anew from what is in memory now."""
    _RESET.write_text(_FORGET_PEAK)


def mebibytes(count: float) -> float:
    """Return bytes in MiB."""
    return count / 2**20


def _field(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{_STATUS} has no {name}: memory is measured on Linux only")
