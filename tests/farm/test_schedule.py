"""Who makes what next, over any course of events: order, affinity, retries, and its cost."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.schedule import Assignment, Plan, Rules, Schedule

MADE, FAILED, LOST = "made", "failed", "lost"


def up(schedule: Schedule, *workers: int) -> list[Assignment]:
    for worker in workers:
        schedule.up(worker)
    return list(schedule.assign())


def finish(schedule: Schedule, worker: int) -> list[Assignment]:
    schedule.done(worker)
    return list(schedule.assign())


def lose(schedule: Schedule, worker: int) -> list[Assignment]:
    schedule.lost(worker)
    schedule.down(worker)
    return list(schedule.assign())


def prompts(assignments: Sequence[Assignment]) -> list[tuple[int, int, int]]:
    return [(a.worker, a.job, a.number) for a in assignments]


plans = st.lists(
    st.builds(
        Plan,
        stream=st.sampled_from([None, "a", "b", "c"]),
        times=st.integers(1, 4),
        done=st.frozensets(st.integers(0, 4), max_size=2),
    ),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(
    plans,
    st.builds(Rules, streams=st.integers(1, 3), queue=st.integers(0, 3), retries=st.integers(0, 2)),
    st.integers(1, 4),
    st.data(),
)
def test_whatever_happens_each_prompt_is_made_once_and_in_order(
    jobs: list[Plan], rules: Rules, workers: int, data: st.DataObject
) -> None:
    schedule = Schedule(jobs, rules)
    running: dict[int, Assignment] = {}
    made: list[tuple[int, int]] = []
    lost: Counter[tuple[int, int]] = Counter()
    waiting = set(range(workers))  # not up
    given_up: set[int] = set()
    for _ in range(400):
        if schedule.finished:
            break
        for assignment in schedule.assign():
            assert assignment.worker not in running
            assert assignment.worker not in waiting
            assert assignment.attempt == lost[assignment.job, assignment.number] <= rules.retries
            assert assignment.job not in given_up
            stream = jobs[assignment.job].stream
            if stream is not None:
                # One prompt of a stream at a time, and all before it are made.
                assert stream not in [jobs[a.job].stream for a in running.values()]
                assert all(
                    (job, number) in made or number in jobs[job].done
                    for job in range(assignment.job + 1)
                    if jobs[job].stream == stream
                    for number in range(jobs[job].times)
                    if (job, number) < (assignment.job, assignment.number)
                )
            running[assignment.worker] = assignment
        choices = [*(("up", w) for w in sorted(waiting)), *(("end", w) for w in sorted(running))]
        if not choices:
            break
        what, worker = data.draw(st.sampled_from(choices))
        if what == "up":
            waiting.discard(worker)
            schedule.up(worker)
            continue
        ended = running.pop(worker)
        prompt = (ended.job, ended.number)
        how = data.draw(st.sampled_from([MADE, MADE, MADE, FAILED, LOST]))
        if how == MADE:
            assert prompt not in made
            made.append(prompt)
            schedule.done(worker)
        elif how == FAILED:
            given_up.update(schedule.failed(worker))
            assert ended.job in given_up
        else:
            lost[prompt] += 1
            stopped = ended.job in given_up
            given_up.update(schedule.lost(worker))
            schedule.down(worker)
            waiting.add(worker)
            assert (ended.job in given_up) == (stopped or lost[prompt] > rules.retries)
        assert given_up == schedule.stopped
    # Nothing waits for ever: what is left belongs to what was given up.
    for _ in range(400):
        for worker in range(workers):
            schedule.up(worker)
        for assignment in schedule.assign():
            running[assignment.worker] = assignment
        if not running:
            break
        worker, ended = running.popitem()
        made.append((ended.job, ended.number))
        schedule.done(worker)
    assert schedule.finished
    every = {(j, n) for j, plan in enumerate(jobs) for n in set(range(plan.times)) - plan.done}
    assert len(made) == len(set(made))
    assert {p for p in every - set(made) if p[0] not in given_up} == set()
    assert set(made) <= every
    # A job that was given up takes the later ones of its stream with it.
    for job in given_up:
        later = [j for j in range(job, len(jobs)) if jobs[j].stream == jobs[job].stream]
        unmade = [j for j in later if any(p[0] == j for p in every)]
        assert jobs[job].stream is None or given_up >= set(unmade)


@pytest.mark.parametrize("lost_first", [False, True])
def test_a_lost_prompt_of_a_failed_job_is_not_made_again(lost_first: bool) -> None:
    schedule = Schedule([Plan(None, 3)])
    assert prompts(up(schedule, 0, 1)) == [(0, 0, 0), (1, 0, 1)]
    if lost_first:
        schedule.lost(1)
        schedule.down(1)
        assert schedule.failed(0) == [0]
    else:
        assert schedule.failed(0) == [0]
        assert schedule.lost(1) == []
        schedule.down(1)
    assert up(schedule, 1) == []
    assert schedule.finished


def test_streams_spread_and_stay(subtests: pytest.Subtests) -> None:
    schedule = Schedule([Plan(name, 3) for name in "abcd"], Rules(streams=2))
    assert prompts(up(schedule, 0, 1)) == [(0, 0, 0), (1, 1, 0)]
    with subtests.test("a worker takes a second stream before it goes on with its first"):
        assert prompts(finish(schedule, 0)) == [(0, 2, 0)]
        assert prompts(finish(schedule, 1)) == [(1, 3, 0)]
    with subtests.test("and then serves both in turn"):
        assert prompts(finish(schedule, 0)) == [(0, 0, 1)]
        assert prompts(finish(schedule, 0)) == [(0, 2, 1)]
        assert prompts(finish(schedule, 0)) == [(0, 0, 2)]


def test_what_is_warm_is_known() -> None:
    schedule = Schedule([Plan("a", 5)])
    (first,) = up(schedule, 0)
    assert not first.warm
    (second,) = finish(schedule, 0)
    assert second.warm
    assert not lose(schedule, 0)
    (third,) = up(schedule, 0)  # the same worker, but with a new server
    assert (third.number, third.attempt, third.warm) == (1, 1, False)
    (fourth,) = finish(schedule, 0)
    assert (fourth.attempt, fourth.warm) == (0, True)


@pytest.mark.parametrize(("times", "moves"), [(2, False), (3, False), (4, True)])
def test_a_long_queue_is_shared_with_whoever_has_nothing_to_do(times: int, moves: bool) -> None:
    schedule = Schedule([Plan("a", times), Plan("b", times)], Rules(streams=2, queue=2))
    assert prompts(up(schedule, 0)) == [(0, 0, 0)]
    assert prompts(finish(schedule, 0)) == [(0, 1, 0)]
    # Now a waits, with one prompt less than at the beginning.
    assert prompts(up(schedule, 1)) == ([(1, 0, 1)] if moves else [])


def test_a_stream_does_not_leave_the_worker_that_goes_on_with_it() -> None:
    schedule = Schedule([Plan("a", 9)], Rules(queue=0))
    assert prompts(up(schedule, 0, 1, 2)) == [(0, 0, 0)]
    for number in range(1, 9):
        assert prompts(finish(schedule, 0)) == [(0, 0, number)]


def test_a_stream_that_is_new_goes_where_there_is_none() -> None:
    schedule = Schedule([Plan("a", 5), Plan("b", 5), Plan("c", 1)], Rules(streams=2, queue=0))
    assert prompts(up(schedule, 0, 1)) == [(0, 0, 0), (1, 1, 0)]
    schedule.done(0)
    schedule.lost(1)
    schedule.down(1)
    schedule.up(2)
    # Worker 0 would take c for its second one; worker 2 has none, so b and then a stay apart.
    assert prompts(list(schedule.assign())) == [(2, 1, 0), (0, 2, 0)]


def test_a_lost_prompt_is_made_elsewhere_if_there_is_an_elsewhere() -> None:
    schedule = Schedule([Plan("a", 2), Plan("b", 1)])
    assert prompts(up(schedule, 0, 1)) == [(0, 0, 0), (1, 1, 0)]
    schedule.lost(0)
    schedule.down(0)
    schedule.up(0)  # again, before the other one is ready
    assert prompts(list(schedule.assign())) == []
    assert prompts(finish(schedule, 1)) == [(1, 0, 0)]
    alone = Schedule([Plan("a", 1)])
    up(alone, 0)
    lose(alone, 0)
    assert prompts(up(alone, 0)) == [(0, 0, 0)]


def test_streams_of_a_lost_worker_go_on_elsewhere() -> None:
    schedule = Schedule([Plan("a", 3), Plan("b", 3)], Rules(streams=2, queue=9))
    up(schedule, 0)
    finish(schedule, 0)  # a waits, b runs
    assert lose(schedule, 0) == []
    got = up(schedule, 1) + finish(schedule, 1)
    assert sorted(prompts(got)) == [(1, 0, 1), (1, 1, 0)]
    assert not any(a.warm for a in got)


def test_prompts_without_a_stream_run_side_by_side() -> None:
    schedule = Schedule([Plan(None, 3, frozenset({1}))])
    assert prompts(up(schedule, 0, 1, 2)) == [(0, 0, 0), (1, 0, 2)]


def test_a_failed_job_stops_its_own_stream_alone() -> None:
    schedule = Schedule([Plan("a", 2), Plan("b", 1), Plan("a", 1), Plan(None, 5)])
    up(schedule, 0)
    assert schedule.failed(0) == [0, 2]
    left = list(schedule.assign())
    assert prompts(left) == [(0, 1, 0)]
    assert prompts(finish(schedule, 0)) == [(0, 3, 0)]
    assert schedule.failed(0) == [3]
    assert list(schedule.assign()) == []
    assert schedule.finished


def steps_of(streams: int, workers: int = 10, times: int = 3) -> float:
    """Return lines of Python that a prompt takes in the schedule."""
    schedule = Schedule([Plan(f"s{n}", times) for n in range(streams)])
    count = 0

    def trace(frame: object, event: str, arg: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        busy = [a.worker for a in up(schedule, *range(workers))]
        while busy:
            busy += [a.worker for a in finish(schedule, busy.pop(0))]
            assert not schedule.finished or not busy
    finally:
        sys.settrace(before)
    return count / (streams * times)


def test_a_prompt_costs_the_same_with_many_streams() -> None:
    few, many = steps_of(50), steps_of(1000)
    assert many < 1.1 * few
