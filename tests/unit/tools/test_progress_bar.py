"""One bar for a whole prompt."""

from __future__ import annotations

import io

from tools.client import NodeProgress, Progress
from tools.progress_bar import PromptBar

PROMPT = {
    "1": {"class_type": "AdaStateLoadDemo", "inputs": {}},
    "2": {"class_type": "AdaStateStream", "inputs": {}, "_meta": {"title": "Stream Chunks"}},
}


def progress(
    value: float, state: str = "running", cached: frozenset[str] = frozenset()
) -> Progress:
    return Progress({"2": NodeProgress(value, 10, state, "2")}, cached, "2")


def lines(bar: PromptBar, stream: io.StringIO, *events: Progress) -> list[str]:
    for event in events:
        bar.update(event)
    return stream.getvalue().splitlines()


def test_without_a_terminal_a_line_is_printed_now_and_then() -> None:
    stream = io.StringIO()
    bar = PromptBar(PROMPT, stream)
    events = [progress(step / 10) for step in range(101)]
    shown = lines(bar, stream, *events)
    assert 8 <= len(shown) <= 12
    assert all("Stream Chunks" in line for line in shown)


def test_never_goes_back() -> None:
    stream = io.StringIO()
    bar = PromptBar(PROMPT, stream)
    bar.update(progress(9))
    bar.update(progress(1))
    bar.close()
    percents = [int(line.split("%")[0]) for line in stream.getvalue().splitlines()]
    assert percents == sorted(percents)
    assert percents[-1] == 100


def test_cached_nodes_count_as_done() -> None:
    stream = io.StringIO()
    bar = PromptBar(PROMPT, stream)
    done = progress(10, "finished", cached=frozenset({"1"}))
    assert lines(bar, stream, done)[-1].startswith("  100%")


def test_an_expanded_node_is_as_far_as_its_children() -> None:
    stream = io.StringIO()
    bar = PromptBar({"2": PROMPT["2"]}, stream)
    children = {
        "2": NodeProgress(0, 1, "running", "2"),
        "2.0.0.1": NodeProgress(4, 4, "finished", "2"),
        "2.0.0.2": NodeProgress(2, 4, "running", "2"),
    }
    bar.update(Progress(children, frozenset(), "2.0.0.2"))
    assert stream.getvalue() == "   50%  Stream Chunks 2/4\n"
