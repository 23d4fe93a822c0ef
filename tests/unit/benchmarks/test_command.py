"""The command line of the bench."""

from __future__ import annotations

import pytest

from benchmarks import __main__ as bench
from benchmarks.harness import HEADLINES


def test_all_parts_run_by_default_and_those_at_real_size_on_a_graphics_card() -> None:
    assert set(bench.parse([]).parts) == set(bench.PARTS) >= set(HEADLINES.values())
    assert list(bench.parse(["--only", "decode", "growth"]).parts) == ["growth", "decode"]
    assert list(bench.parse(["--device", "cuda"]).parts) == list(bench.SPEED)
    assert not set(bench.SPEED) & set(bench.PARTS)
    with pytest.raises(SystemExit):
        bench.parse(["--device", "cuda", "--only", "decode"])


def test_small_sizes_leave_the_results_of_a_real_run_alone() -> None:
    assert bench.parse(["--small"]).output != bench.parse([]).output


def test_a_machine_without_cuda_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="finds no CUDA device here: run the bench without"):
        bench.main(["--device", "cuda"])
