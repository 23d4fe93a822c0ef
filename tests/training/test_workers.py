"""Jobs keep their order in any number of processes, and one that ends is not waited for."""

from __future__ import annotations

import math
import os
from concurrent.futures.process import BrokenProcessPool

import pytest

from training.workers import run_jobs


@pytest.mark.parametrize("count", [1, 2])
def test_results_come_in_the_order_of_their_jobs(count: int) -> None:
    assert list(run_jobs(count, math.sqrt, [9.0, 4.0, 1.0])) == [3.0, 2.0, 1.0]


def test_a_process_that_ends_is_an_error() -> None:
    with pytest.raises(BrokenProcessPool):
        list(run_jobs(2, os._exit, [3]))
