"""The loop, over workers that are lost at any moment and may commit after that."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from farm.driver import Driver, Report
from farm.errors import FarmError
from farm.ledger import Ledger, read_ledger
from farm.schedule import Rules
from tests.support.farm import Watched, job, written
from tests.support.farm_sim import Hand, World, reason_of, world

__all__ = ["world"]


@contextlib.contextmanager
def hands_of(world: World, count: int) -> Iterator[list[Hand]]:
    beacon = world.folder.hold("farm")
    hands = [Hand(world, beacon.name) for _ in range(count)]
    yield hands
    for hand in hands:
        hand.server.stop()
    beacon.release()


def run(
    world: World,
    lines: Sequence[dict[str, Any]],
    hands: Sequence[Hand],
    *,
    meanwhile: Callable[[Driver], None] | None = None,
    rules: Rules | None = None,
    watched: Watched | None = None,
) -> Report:
    path = world.folder.path / "jobs.jsonl"
    with Ledger(path.with_suffix(".ledger")) as ledger:
        watched = watched or Watched()
        driver = Driver(
            written(path, lines), ledger, world.folder, hands, reason_of, watched, rules=rules
        )
        if meanwhile is not None:
            threading.Thread(target=meanwhile, args=(driver,), daemon=True).start()
        return driver.run()


def expected(lines: Sequence[dict[str, Any]]) -> list[str]:
    """Return what has to be committed once, by the names of the files."""
    return sorted(
        f"adastate/named.{line['name']}.{number:05d}"
        for line in lines
        for number in range(1, line["times"] + 1)
    )


def in_order(commits: Sequence[str]) -> bool:
    """Say whether the prompts of every job were committed in their order."""
    jobs: dict[str, list[str]] = {}
    for name in commits:
        jobs.setdefault(name[:-6], []).append(name)
    return all(names == sorted(names) for names in jobs.values())


def trouble(world: World, hands: Sequence[Hand], kinds: str) -> Callable[[Driver], None]:
    """Return what kills servers and loses workers until the run ends."""

    def act(driver: Driver) -> None:
        while not driver.report.wall:
            time.sleep(world.random.uniform(0.002, 0.02))
            hand = world.random.choice(hands)
            hand.kill_server() if world.random.choice(kinds) == "s" else hand.lose()

    return act


LINES = [
    *(job(f"a{n}", f"stream {n}", times=6, video=True) for n in range(4)),
    job("again", "stream 1", times=3, video=True),
]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kinds", ["s", "w", "sw"])
def test_whatever_is_lost_each_prompt_is_committed_once(
    world: World, seed: int, kinds: str
) -> None:
    world.random.seed(seed)
    with hands_of(world, 3) as hands:
        rules = Rules(retries=1000)
        meanwhile = trouble(world, hands, kinds)
        report = run(world, LINES, hands, meanwhile=meanwhile, rules=rules)
    assert not report.failed
    assert sorted(world.commits) == expected(LINES)
    assert in_order(world.commits)
    last = max(world.commits.index(n) for n in world.commits if ".a1." in n)
    assert last < world.commits.index("adastate/named.again.00001")
    assert report.prompts + report.found == len(world.commits)
    assert world.folder.revision("stream 1") == 9


@pytest.mark.parametrize("seed", range(4))
def test_a_run_that_is_killed_goes_on_where_it_was(world: World, seed: int) -> None:
    world.random.seed(seed)

    class Killed(BaseException):
        """What ends the driver without any of its own doing."""

    for _ in range(200):
        with hands_of(world, 2) as hands:
            ends = time.monotonic() + world.random.uniform(0.01, 0.06)

            class Watch(Watched):
                def advanced(self, job: int, chunks: float, ends: float = ends) -> None:
                    if time.monotonic() > ends:
                        raise Killed

            try:
                report = run(world, LINES, hands, watched=Watch())
            except Killed:
                for hand in hands:
                    hand.lose()
            else:
                break
    assert not report.failed
    assert sorted(world.commits) == expected(LINES)
    assert in_order(world.commits)


def test_a_broken_job_does_not_stop_the_others(world: World) -> None:
    def bad(prompt: Any) -> str | None:
        return "no such sampler" if prompt["11"]["inputs"]["seed"] == 13 else None

    world.bad = bad
    lines = [
        job("broken", "x", times=2, n11_seed=13, video=True),
        job("after", "x", video=True),
        job("other", "y", times=3, video=True),
    ]
    with hands_of(world, 2) as hands:
        report = run(world, lines, hands)
    assert report.failed == {
        "broken": "no such sampler",
        "after": "not begun, since broken of its stream failed",
    }
    assert report.retries == 0
    assert sorted(world.commits) == expected(lines[2:])
    # Once it is mended, the same list goes on, in its order.
    world.bad = lambda prompt: None
    with hands_of(world, 2) as hands:
        assert not run(world, lines, hands).failed
    assert sorted(world.commits) == expected(lines)
    assert world.commits.index("adastate/named.broken.00002") < world.commits.index(
        "adastate/named.after.00001"
    )


def test_what_ends_every_server_is_given_up(world: World) -> None:
    hands: list[Hand] = []

    def bad(prompt: Any) -> str | None:
        if prompt["11"]["inputs"]["seed"] == 13:
            for hand in hands:
                if hand.server.is_alive() and hand.server.url == current():
                    hand.kill_server()
            raise ConnectionError("killed for memory")
        return None

    def current() -> str:
        return next(h.server.url for h in hands if h.server.is_alive())

    world.bad = bad
    lines = [
        job("poison", "x", times=2, n11_seed=13, video=True),
        job("other", "y", times=9, video=True),
    ]
    with hands_of(world, 1) as made:
        hands += made
        report = run(world, lines, hands)
    assert list(report.failed) == ["poison"]
    assert "lost too often; the last time: " in report.failed["poison"]
    assert report.retries == 3
    assert sorted(world.commits) == expected(lines[1:])


def test_a_stream_that_went_back_is_not_continued(world: World) -> None:
    lines = [job("a", "x", times=2, video=True)]
    with hands_of(world, 1) as hands:
        run(world, lines, hands)
        world.put("x", 1)
        lines[0]["times"] = 3
        report = run(world, lines, hands)
    assert "found revision 1, expected revision 2 or later" in report.failed["a"]
    assert world.folder.revision("x") == 1


def test_a_stream_that_an_artist_went_on_with_is_continued(world: World) -> None:
    lines = [job("a", "x", times=2, video=True)]
    with hands_of(world, 1) as hands:
        run(world, lines, hands)
        world.put("x", 7)
        lines[0]["times"] = 3
        assert not run(world, lines, hands).failed
    assert world.folder.revision("x") == 8


def test_a_stream_that_something_else_changes_fails_its_job(world: World) -> None:
    lines = [job("a", "x", times=50, video=True), job("b", "y", times=3, video=True)]

    def interfere(driver: Driver) -> None:
        while world.folder.revision("x") < 3:
            time.sleep(0.001)
        with world.guard:
            world.put("x", 40)

    with hands_of(world, 1) as hands:
        report = run(world, lines, hands, meanwhile=interfere)
    assert list(report.failed) == ["a"]
    assert len([name for name in world.commits if ".b." in name]) == 3


def test_without_a_worker_that_starts_it_ends_with_the_reason(world: World) -> None:
    world.starts = False
    with (
        hands_of(world, 2) as hands,
        pytest.raises(FarmError, match=r"No worker is left.*no such interpreter"),
    ):
        run(world, LINES, hands)


def test_a_worker_that_does_not_see_the_folder_is_given_up(world: World) -> None:
    with hands_of(world, 1) as hands:
        stranger = Hand(world, "another.lock")
        watched = Watched()
        report = run(world, LINES, [stranger, *hands], watched=watched)
    assert not report.failed
    assert [worker.state for worker in report.workers] == ["gone", "idle"]
    assert "does not see the locks of the other machines" in watched.texts[0]


def test_ctrl_c_ends_it_after_the_prompts_that_run(world: World, tmp_path: Path) -> None:
    world.pause = 0.05

    def interrupt(driver: Driver) -> None:
        while len(world.commits) < 3:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    watched = Watched()
    with hands_of(world, 2) as hands:
        report = run(world, LINES, hands, meanwhile=interrupt, watched=watched)
        assert signal.getsignal(signal.SIGINT) is before
        assert report.stopped
        assert 3 <= report.prompts == len(world.commits) <= 6
        assert "Press Ctrl-C again" in watched.texts[0]
        entries = read_ledger(world.folder.path / "jobs.ledger")
        assert sum(len(entry.done) for entry in entries.values()) == report.prompts
        world.pause = 0.001
        report = run(world, LINES, hands)
    assert not report.stopped
    assert sorted(world.commits) == expected(LINES)
