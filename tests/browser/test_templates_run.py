"""Every template that needs no downloads: opened, queued from the page and finished."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.editor import Editor
from tests.support.shipped import RUNNABLE, open_short

pytestmark = pytest.mark.browser

SHOWN = """(count) => [...document.querySelectorAll("video")]
    .filter((video) => video.readyState >= 2).length >= count"""
OVERLAPS = """() => {
    const titled = ({ pos, size }) => [pos[0], pos[1] - 30, size[0], size[1] + 30];
    const boxes = app.graph.nodes.filter((node) => !node.flags.collapsed)
        .map((node) => [node.title, titled(node)]);
    const groups = app.graph.groups.map((group) => [group.title, [...group.pos, ...group.size]]);
    const meet = ([, [x, y, w, h]], [, [left, top, width, height]]) =>
        x < left + width && left < x + w && y < top + height && top < y + h;
    const within = ([, [x, y, w, h]], [, [left, top, width, height]]) =>
        x >= left && x + w <= left + width && y >= top && y + h <= top + height;
    const names = ([a], [b]) => `${a} / ${b}`;
    const pairs = [];
    boxes.forEach((one, i) => {
        for (const other of boxes.slice(i + 1)) if (meet(one, other)) pairs.push(names(one, other));
        for (const group of groups)
            if (meet(one, group) && !within(one, group)) pairs.push(names(one, group));
    });
    return pairs;
}"""
"""Which nodes lie over each other, or over the edge of a group, as large as a run has made them."""


@pytest.mark.timeout(900)
def test_templates_run(editor: Editor, subtests: Any) -> None:
    for name in RUNNABLE:
        with subtests.test(name):
            open_short(editor, name)
            editor.run()
            assert editor.failed_nodes() == []
            editor.fit()
            videos = len(editor.nodes("SaveVideo") + editor.nodes("AdaStateRender"))
            editor.page.wait_for_function(SHOWN, arg=videos)
            editor.shoot(name)
            assert editor.page.evaluate(OVERLAPS) == []
