"""Attention kernels that are chosen by a clock of the tests."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch


class Clock:
    """Seconds in place of real ones: the host's kernel takes one, the other a share of that."""

    def __init__(self) -> None:
        self.readings = 0
        self.share = 0.5

    def __call__(self, run: Callable[[], object], device: torch.device) -> float:
        run()
        self.readings += 1
        return 1.0 if self.readings % 2 else self.share

    def install(self, monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
        """Let it measure; on any device what there is to try on a CPU, which is one kernel."""
        names = ("adastate_core.attention.kernel_choice", "adastate_comfy.model.attention_override")
        choice, override = (importlib.import_module(f"{pack.__name__}.{name}") for name in names)
        found = override.exact_kernels
        monkeypatch.setattr(choice, "seconds_of", self)
        monkeypatch.setattr(override, "exact_kernels", lambda q, mask: found(torch.zeros(1), mask))
