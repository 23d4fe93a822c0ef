"""A real cluster of Ray on this machine, two workers, ComfyUI servers and the demo models."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from farm.driver import Driver
from tests.support.farm import (
    CHUNKS,
    KILLS,
    STREAMS,
    Crew,
    Killer,
    assert_as_alone,
    equal,
    job,
    two_jobs,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


def test_many_streams_equal_those_of_one_server(alone: Crew) -> None:
    report, watched = alone.run(two_jobs("many"), "many")
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
    for number in range(KILLS):
        before = len(killer.killed)
        name = f"killed {number}"
        report, watched = alone.run(two_jobs(name), name, meanwhile=killer)
        assert not report.failed, watched.texts
        assert not report.stopped, watched.texts
        # One that was killed between two prompts had nothing to lose.
        assert report.retries <= len(killer.killed) - before
        assert report.prompts + report.found == STREAMS * CHUNKS
        assert_as_alone(alone, name)
        if len(killer.killed) == KILLS:
            break
    assert len(killer.killed) == KILLS


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
