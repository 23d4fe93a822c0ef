"""A real cluster of Ray on this machine, two workers, ComfyUI servers and the demo models."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import psutil
import pytest

from farm.driver import Driver
from tests.support.farm import Crew, Killer, equal, job

KILLS = int(os.environ.get("ADASTATE_FARM_KILLS", "2"))
"""How often something is killed; `make farm-kill-test` does it more often."""
STREAMS, CHUNKS = 6, 5
SHOWN = 2
"""Streams of which a video is made as well."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def alone(crew: Crew) -> Crew:
    """Have one server make all streams, each in one prompt."""
    lines = [
        job(f"alone {n}", f"alone {n}", n11_seed=n, n11_chunks=CHUNKS, video=n < SHOWN)
        for n in range(STREAMS)
    ]
    report, _ = crew.run(lines, "alone", workers=1)
    assert not report.failed
    return crew


def lines_of(run: str) -> list[dict[str, Any]]:
    """Return two jobs for every stream, the second of which adds the last chunk."""
    streams = [(n, f"{run} {n}") for n in range(STREAMS)]
    return [
        *(job(f"{name} begins", name, times=CHUNKS - 1, n11_seed=n) for n, name in streams),
        *(job(f"{name} ends", name, n11_seed=n, video=n < SHOWN) for n, name in streams),
    ]


def assert_as_alone(crew: Crew, run: str) -> None:
    for number in range(STREAMS):
        made = crew.stream(f"{run} {number}")
        assert len(made) == CHUNKS
        assert equal(made, crew.stream(f"alone {number}"))
        assert crew.folder.revision(f"{run} {number}") == CHUNKS
    for number in range(SHOWN):
        frames = crew.video(f"{run} {number} ends")
        assert len(frames) > 12 * (CHUNKS - 1)
        assert frames == crew.video(f"alone {number}")


def test_many_streams_equal_those_of_one_server(alone: Crew) -> None:
    report, watched = alone.run(lines_of("many"), "many")
    assert not report.failed
    assert not report.stopped
    assert (report.prompts, report.chunks) == (STREAMS * CHUNKS, STREAMS * CHUNKS)
    assert (report.retries, report.found) == (0, 0)
    assert all(worker.prompts > 0 for worker in report.workers)
    # Each stream stays where it is warm, but for those that a worker without any takes over.
    assert report.replays <= 2
    assert sum(watched.chunks.values()) == pytest.approx(STREAMS * CHUNKS)
    assert_as_alone(alone, "many")


def test_what_is_killed_costs_the_prompt_in_flight_and_nothing_else(alone: Crew) -> None:
    killer = Killer(KILLS, seed=3)
    report, watched = alone.run(lines_of("killed"), "killed", meanwhile=killer)
    assert len(killer.killed) == KILLS, watched.texts
    assert not report.failed, watched.texts
    assert not report.stopped, watched.texts
    # One that was killed between two prompts had nothing to lose.
    assert report.retries <= KILLS
    assert report.prompts + report.found == STREAMS * CHUNKS
    assert_as_alone(alone, "killed")


def test_a_broken_job_does_not_stop_the_others(crew: Crew) -> None:
    lines = [
        job("refused", "broken", n11_chunks=0),
        job("waits", "broken"),
        job("fails", "unlike", n6_text="no such words"),
        job("goes on", "sound", times=2),
    ]
    # A node that fails while it runs: 2 is above 1, and nothing says what to guide away from.
    del lines[2]["workflow"]["11"]["inputs"]["negative"]
    report, _ = crew.run(lines, "broken")
    assert set(report.failed) == {"refused", "waits", "fails"}
    assert "smaller than min of 1: chunks" in report.failed["refused"]
    assert "refused of its stream failed" in report.failed["waits"]
    assert "cfg above 1 needs a negative prompt" in report.failed["fails"]
    assert report.retries == 0
    assert [crew.folder.revision(name) for name in ("broken", "unlike", "sound")] == [0, 0, 2]


def test_ctrl_c_and_the_same_command_again(alone: Crew) -> None:
    lines = [job(f"paused {n}", f"paused {n}", times=6, n11_seed=n) for n in range(2)]

    def interrupt(driver: Driver) -> None:
        while driver.report.prompts < 3:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    first, _ = alone.run(lines, "paused", meanwhile=interrupt)
    assert first.stopped
    assert 3 <= first.prompts < 12
    second, _ = alone.run(lines, "paused")
    assert not second.stopped
    assert first.prompts + second.prompts == 12
    for number in range(2):
        made = alone.stream(f"paused {number}")
        assert [equal(made[:5], alone.stream(f"alone {number}")), len(made)] == [True, 6]


def test_every_port_is_on_the_loopback_interface(crew: Crew) -> None:
    processes = psutil.Process().children(recursive=True)
    listening = {
        (process.name(), connection.laddr.ip)
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {name for name, _ in listening} >= {"gcs_server", "raylet"}
    assert {ip.removeprefix("::ffff:") for _, ip in listening} == {"127.0.0.1"}
