"""The timeline editor: text and blocks are the same thing, in both renderers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.editor import Editor
from tests.support.shipped import open_short

from .test_pages import OPEN

ROOT = Path(__file__).parents[2]
CASES = json.loads((ROOT / "tests" / "golden" / "timeline_cases.json").read_text(encoding="utf-8"))
PARTS = "/extensions/adastate/js/timeline"

pytestmark = pytest.mark.browser

TEXT = "0: a red circle\n# a remark\n\nchunk 4 blend 2:  a blue square\n8: a star\n"

START = """(text) => {
    app.graph.clear();
    const make = (type, pos) => {
        const node = LiteGraph.createNode(type);
        app.graph.add(node);
        node.pos = pos;
        return node;
    };
    const node = make('AdaStateStreamTimeline', [500, 60]);
    make('AdaStateNewStream', [60, 60]).connect(0, node, 'state');
    const set = (name, value) => {
        node.widgets.find((widget) => widget.name === name).value = value;
    };
    set('timeline', text);
    set('chunks', 12);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [0, 60];
    app.canvas.setDirty(true, true);
}"""

VALUE = """(type) => app.graph.nodes.find((node) => node.type === type)
    .widgets.find((widget) => widget.name === 'timeline').value"""

READ = """async ([parts, cases]) => {
    const read = await import(`${parts}/read.js`);
    const plain = ({ line, start, in_seconds, text, transition, count }) =>
        ({ line, start, in_seconds, text, transition, count });
    return cases.map((one) => {
        const { cues, problems } = read.readTimeline(one.text);
        const made = { text: one.text, cues: cues.map(plain), problems };
        if (!one.pace) return made;
        const { pace, first } = one;
        const chunks = cues.map((cue) => read.chunkOf(cue, pace));
        return { ...made, pace, first, chunks, order: read.orderProblems(cues, pace, first) };
    });
}"""

EDIT = """async ([parts, texts]) => {
    const { chunkOf, linesOf, readTimeline } = await import(`${parts}/read.js`);
    const { moveLine, writeTimeline } = await import(`${parts}/edit.js`);
    const pace = { chunk_frames: 3, time_stride: 4, fps: 12 };
    const plain = (cues) => JSON.stringify(
        cues.map(({ start, in_seconds, text, transition, count }) =>
            [start, in_seconds, text, transition, count]));
    const wrong = [];
    let checked = 0;
    for (const text of texts) {
        const { cues } = readTimeline(text);
        if (plain(readTimeline(writeTimeline(cues)).cues) !== plain(cues)) wrong.push(text);
        for (const cue of cues) for (const chunk of [0, 3, 17, 500]) {
            const moved = moveLine(text, cue.line, chunk, pace);
            const after = readTimeline(moved).cues.find(({ line }) => line === cue.line);
            const [old, now] = [linesOf(text), linesOf(moved)];
            const others = old.every((line, i) => i === cue.line - 1
                || (line.text === now[i].text && line.end === now[i].end));
            const same = after && plain([{ ...after, start: 0 }]) === plain([{ ...cue, start: 0 }]);
            if (!same || chunkOf(after, pace) !== chunk || !others || old.length !== now.length)
                wrong.push([text, cue.line, chunk, moved]);
            checked += 1;
        }
    }
    return { wrong, checked };
}"""


def start(page: Any, text: str = TEXT) -> Any:
    """Show a timeline and return its editor, once its blocks are there."""
    page.evaluate(START, text)
    editor = page.get_by_test_id("adastate-timeline")
    editor.get_by_test_id("adastate-block").first.wait_for()
    # Until the node has laid out its widgets.
    page.wait_for_timeout(400)
    return editor


def value(page: Any) -> str:
    """Return the text that the node would send."""
    text: str = page.evaluate(VALUE, "AdaStateStreamTimeline")
    return text


def starts(editor: Any) -> list[str]:
    """Return what the blocks say about when they begin."""
    found: list[str] = editor.locator(".adastate-tl-when").all_inner_texts()
    return [when.split("chunk ")[1] for when in found]


def test_the_page_reads_what_python_reads(page: Any) -> None:
    made = page.evaluate(READ, [PARTS, CASES])
    for case, seen in zip(CASES, made, strict=True):
        assert seen == case


def test_edits_keep_everything_else(page: Any) -> None:
    texts = [case["text"] for case in CASES if not case["problems"]]
    result = page.evaluate(EDIT, [PARTS, texts])
    assert result["wrong"] == []
    assert result["checked"] > 400


def test_a_drag_changes_only_the_head_of_its_line(page: Any) -> None:
    editor = start(page)
    block = editor.get_by_test_id("adastate-block").nth(1)
    box = block.bounding_box()
    chunk = box["width"] / 4
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 2 * chunk, middle[1], steps=6)
    assert starts(editor) == ["0", "2", "8"]
    assert value(page) == TEXT
    page.mouse.up()
    assert value(page) == TEXT.replace("chunk 4 blend", "chunk 2 blend")
    # The right edge is where the next line begins.
    box = block.bounding_box()
    edge = (box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    page.mouse.move(*edge)
    page.mouse.down()
    page.mouse.move(edge[0] + chunk, edge[1], steps=6)
    page.mouse.up()
    assert starts(editor) == ["0", "2", "9"]
    assert value(page) == TEXT.replace("chunk 4", "chunk 2").replace("8: a star", "9: a star")
    assert not page.problems


def test_an_edit_of_blocks_is_one_step_of_undo(page: Any) -> None:
    editor = start(page)
    page.evaluate("app.canvas.emitBeforeChange(); app.canvas.emitAfterChange()")
    editor.get_by_test_id("adastate-block").nth(1).focus()
    page.keyboard.press("ArrowRight")
    assert value(page) == TEXT.replace("chunk 4", "chunk 5")
    page.keyboard.press("Control+z")
    page.wait_for_function(f"({VALUE})('AdaStateStreamTimeline').includes('chunk 4')")
    assert value(page) == TEXT
    editor.get_by_test_id("adastate-block").nth(1).wait_for()
    assert starts(editor) == ["0", "4", "8"]


def test_the_keyboard_does_all_that_the_mouse_does(page: Any) -> None:
    editor = start(page)
    blocks = editor.get_by_test_id("adastate-block")
    blocks.nth(1).focus()
    page.keyboard.press("Shift+ArrowLeft")
    assert starts(editor) == ["0", "4", "7"]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert starts(editor) == ["0", "2", "7"]
    page.keyboard.press("Enter")
    page.keyboard.type("a green hill")
    page.keyboard.press("Enter")
    assert "chunk 2 blend 2:  a green hill\n" in value(page)
    page.keyboard.press("s")
    assert starts(editor) == ["0", "2", "5", "7"]
    assert "\nchunk 5: a green hill\n" in value(page)
    page.keyboard.press("Delete")
    assert starts(editor) == ["0", "2", "7"]
    assert value(page) == (
        "0: a red circle\n# a remark\n\nchunk 2 blend 2:  a green hill\n7: a star\n"
    )
    label = blocks.nth(1).get_attribute("aria-label")
    assert label.startswith("a green hill, from chunk 2")
    assert label.endswith("blend over 2 chunks")
    assert not page.problems


def test_a_join_changes_the_transition(page: Any) -> None:
    editor = start(page)
    joins = editor.get_by_test_id("adastate-join")
    assert [join.get_attribute("data-kind") for join in joins.all()] == ["blend", "swap"]
    joins.first.click()
    shown = page.get_by_test_id("adastate-popover")
    shown.get_by_role("spinbutton").fill("3")
    shown.get_by_role("spinbutton").press("Tab")
    assert "chunk 4 blend 3:  a blue square" in value(page)
    shown.get_by_role("button", name="recache").click()
    assert "chunk 4 recache:  a blue square" in value(page)
    shown.get_by_role("button", name="swap").click()
    assert "chunk 4:  a blue square" in value(page)
    page.keyboard.press("Escape")
    assert shown.count() == 0
    assert not page.problems


def test_a_faulty_line_is_shown_and_can_be_corrected(page: Any) -> None:
    editor = start(page, "0: a red circle\n4 fade: a blue square\n8: a star\n8: a hill")
    problems = editor.get_by_test_id("adastate-problem")
    sentences = problems.locator(".adastate-tl-sentence")
    assert sentences.all_inner_texts() == [
        'Line 2: "fade" is not a transition. Use swap, blend, recache or flush.',
        "Line 4: It begins with chunk 8, and line 3 with chunk 8. "
        "Let it begin later than the line above.",
    ]
    faulty = problems.first.get_by_test_id("adastate-faulty")
    assert "wavy" in faulty.evaluate("(field) => getComputedStyle(field).textDecoration")
    faulty.click()
    page.keyboard.type("4 recache: a blue square")
    page.keyboard.press("Enter")
    assert value(page).startswith("0: a red circle\n4 recache: a blue square\n8: a star\n")
    assert problems.count() == 1
    assert not page.problems


def test_text_and_blocks_show_each_other_at_once(page: Any) -> None:
    editor = start(page)
    field = page.locator("textarea").filter(visible=True).first
    field.fill("0: one\n3: two")
    blocks = editor.get_by_test_id("adastate-block")
    assert [block.locator(".adastate-tl-text").inner_text() for block in blocks.all()] == [
        "one",
        "two",
    ]
    editor.get_by_role("button", name="Add").click()
    page.keyboard.type("three")
    page.keyboard.press("Enter")
    assert value(page) == "0: one\n3: two\n7: three"
    page.wait_for_function(
        "(text) => [...document.querySelectorAll('textarea')].some((one) => one.value === text)",
        arg=value(page),
    )


def test_a_node_keeps_no_more_than_before(page: Any) -> None:
    saved = page.evaluate(OPEN, "03 Stream a timeline")
    editor = page.get_by_test_id("adastate-timeline")
    editor.get_by_test_id("adastate-block").first.wait_for()
    (node,) = [node for node in saved["nodes"] if node["type"] == "AdaStateStreamTimeline"]
    names = page.evaluate(
        """() => app.graph.nodes.find((node) => node.type === 'AdaStateStreamTimeline')
            .widgets.map((widget) => widget.name)"""
    )
    assert "adastate_timeline_editor" in names
    kept = [name for name in names if not name.startswith("adastate_")]
    assert len(node["widgets_values"]) == len(kept)
    # A copy has an editor of its own.
    page.evaluate(
        """() => {
            const node = app.graph.nodes.find((one) => one.type === 'AdaStateStreamTimeline');
            app.canvas.selectNode(node);
            app.canvas.copyToClipboard([node]);
            app.canvas.pasteFromClipboard({ position: [node.pos[0], node.pos[1] + 900] });
        }"""
    )
    first, second = page.evaluate(
        """() => app.graph.nodes.filter((one) => one.type === 'AdaStateStreamTimeline')
            .map((one) => { one.adastateTimeline.refresh(); return one.adastateTimeline.text; })"""
    )
    assert first == second
    assert not page.problems


def test_a_chunk_leads_to_its_block(page: Any) -> None:
    editor = start(page)
    page.evaluate(
        """() => app.graph.nodes.find((node) => node.type === 'AdaStateStreamTimeline')
            .adastateEditChunk(6)"""
    )
    focused = editor.locator(".adastate-tl-block:focus")
    assert focused.get_attribute("data-line") == "4"


def test_a_render_without_a_timeline_has_one_quiet_line(page: Any) -> None:
    page.evaluate(START.replace("AdaStateStreamTimeline", "AdaStateRender"), "")
    editor = page.get_by_test_id("adastate-timeline")
    editor.wait_for()
    assert editor.bounding_box()["height"] < 60
    assert page.evaluate(
        """() => app.graph.nodes.find((node) => node.type === 'AdaStateRender')
            .adastateEditChunk === undefined"""
    )
    editor.get_by_role("button", name="Add").click()
    page.keyboard.type("a red circle")
    page.keyboard.press("Enter")
    assert page.evaluate(VALUE, "AdaStateRender") == "0: a red circle"
    page.wait_for_function(
        """() => document.querySelector('[data-testid="adastate-timeline"]').offsetHeight > 100"""
    )
    assert not page.problems


def test_what_is_made_is_marked(page: Any, editor: Editor) -> None:
    track = start(page)
    assert track.locator(".adastate-tl-made").count() == 0
    assert "about" in track.locator(".adastate-tl-status").inner_text()
    open_short(editor, "03 Stream a timeline", chunks=6)
    editor.run()
    page.wait_for_function(
        """() => {
            const made = document.querySelector('.adastate-tl-made')?.getBoundingClientRect();
            const whole = document.querySelector('.adastate-tl-inner')?.getBoundingClientRect();
            return made?.width > 0.98 * whole?.width;
        }"""
    )
    assert "about" not in track.locator(".adastate-tl-status").inner_text()
