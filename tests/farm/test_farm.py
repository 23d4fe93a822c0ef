"""A real cluster of Ray on this machine, two workers, ComfyUI servers and the demo models."""

from __future__ import annotations

import os
import signal
import time

import pytest

from farm.driver import Driver
from tests.support.farm import Crew, Killer, equal, job

KILLS = int(os.environ.get("ADASTATE_FARM_KILLS", "2"))
"""How often something is killed; `make farm-kill-test` does it more often."""
STREAMS = 6
CHUNKS = 5

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def alone(crew: Crew) -> Crew:
    """Have one server make all streams, each in one prompt."""
    lines = [job(f"alone {n}", f"alone {n}", **{"11_chunks": CHUNKS}) for n in range(STREAMS)]
    for number, line in enumerate(lines):
        line["set"]["11.seed"] = number
    report, _ = crew.run(lines, "alone", workers=1)
    assert not report.failed
    return crew


def lines_of(run: str) -> list[dict[str, object]]:
    lines = [job(f"{run} {n}", times=CHUNKS) for n in range(STREAMS)]
    for number, line in enumerate(lines):
        line["set"]["11.seed"] = number
    return lines


def assert_as_alone(crew: Crew, run: str) -> None:
    for number in range(STREAMS):
        made = crew.stream(f"{run} {number}")
        assert len(made) == CHUNKS
        assert equal(made, crew.stream(f"alone {number}"))
        videos = crew.videos(f"{run} {number}")
        assert len(videos) == CHUNKS
        assert videos[-1] == crew.videos(f"alone {number}")[-1]


def test_many_streams_equal_those_of_one_server(alone: Crew) -> None:
    report, watched = alone.run(lines_of("many"), "many")
    assert not report.failed
    assert not report.stopped
    assert (report.prompts, report.chunks) == (STREAMS * CHUNKS, STREAMS * CHUNKS)
    assert (report.retries, report.found) == (0, 0)
    assert all(worker.prompts > 0 for worker in report.workers)
    # Each stream stayed where it was warm, but for those that a worker without any took over.
    assert report.replays <= 2
    assert {n: pytest.approx(CHUNKS) for n in range(STREAMS)} == watched.chunks
    assert_as_alone(alone, "many")


def test_what_is_killed_costs_the_prompt_in_flight_and_nothing_else(alone: Crew) -> None:
    killer = Killer(KILLS, seed=3)
    report, watched = alone.run(lines_of("killed"), "killed", meanwhile=killer)
    assert len(killer.killed) == KILLS, watched.texts
    assert not report.failed
    assert report.retries == KILLS
    assert report.prompts + report.found == STREAMS * CHUNKS
    assert sum(worker.starts for worker in report.workers) <= KILLS + 2
    assert_as_alone(alone, "killed")
