"""One bar for a whole prompt."""

from __future__ import annotations

import io
import re

import pytest

from tools.events import NodeProgress, Progress
from tools.progress_bar import PromptBar

PROMPT = {
    "1": {"class_type": "AdaStateLoadDemo", "inputs": {}},
    "2": {"class_type": "AdaStateStream", "inputs": {}, "_meta": {"title": "Stream Chunks"}},
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def progress(value: float, cached: frozenset[str] = frozenset({"1"})) -> Progress:
    return Progress({"2": NodeProgress(value, 10, "running", "2")}, cached, running="2")


def percents(stream: io.StringIO) -> list[int]:
    return [int(n) for n in re.findall(r"(\d+)%", stream.getvalue())]


def test_a_terminal_shows_a_bar_with_what_runs() -> None:
    stream = Terminal()
    bar = PromptBar(PROMPT, stream)
    bar._bar.mininterval = 0
    for step in range(11):
        bar.update(progress(step))
    assert "| 00:00 Stream Chunks 5/10" in stream.getvalue()
    assert "\n" not in stream.getvalue()


def test_elsewhere_lines_are_printed_now_and_then() -> None:
    stream = io.StringIO()
    bar = PromptBar(PROMPT, stream)
    for step in range(101):
        bar.update(progress(step / 10))
    bar.close()
    assert percents(stream) == [0, 100]  # nothing between: less than five seconds went by
    assert stream.getvalue().rstrip("\r ").endswith("100% done\n")


def test_never_goes_back() -> None:
    bar = PromptBar(PROMPT, io.StringIO())
    bar.update(progress(9))
    before = bar._bar.n
    bar.update(progress(1))
    assert bar._bar.n == before > 80


def test_cached_nodes_count_as_done() -> None:
    bar = PromptBar(PROMPT, io.StringIO())
    bar.update(progress(0))
    assert bar._bar.n == pytest.approx(100 * 3 / 63)


def test_an_expanded_node_is_as_far_as_its_children() -> None:
    bar = PromptBar({"2": PROMPT["2"]}, io.StringIO())
    children = {
        "2": NodeProgress(0, 1, "running", "2"),
        "2.0.0.1": NodeProgress(4, 4, "finished", "2"),
        "2.0.0.2": NodeProgress(2, 4, "running", "2"),
    }
    bar.update(Progress(children, running="2.0.0.2"))
    assert bar._bar.n == 50
    assert bar._bar.desc == "Stream Chunks 2/4"
