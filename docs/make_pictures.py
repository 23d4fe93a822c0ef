"""Make all pictures again, from real runs: README, help pages, templates and registry.

    python tools/environment.py run -- -m docs.make_pictures

Runs the workflows of the demo models, or those that are named, on a real server. With `--graph` it
also takes the screenshot of the editor, which needs Playwright and a Chromium (`CHROMIUM_PATH` may
name one).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from docs import registry_images
from tools import environment
from tools.client import ComfyClient
from tools.contact_sheet import DARK, FAINT, GOLD, LIGHT, Canvas, read_frames
from tools.graph import load_prompt
from tools.server import ComfyServer

DEMO, STEPS, COMPARE, TIMELINE, BRANCH, RELAY, RENDER = (
    "Stream the demo world",
    "Step by step - read and reset",
    "Compare anchors",
    "Stream a timeline",
    "Branch a scene",
    "Continue a named stream - queue me again",
    "Render a long video",
)
RUNS = {RELAY: 4}
"""How often a workflow is run, where it is not once."""
DOCS, HELP, WORKFLOWS = (
    environment.ROOT / "docs",
    environment.ROOT / "web" / "docs",
    environment.ROOT / "workflows",
)

CHUNKS, CHUNK_FRAMES, STRIDE = 12, 3, 4

Pictures = list[Image.Image]


def run(client: ComfyClient, base_dir: Path, name: str) -> list[Path]:
    """Run a workflow and return the files it saved and previewed, in order of their nodes."""
    result = client.run(load_prompt(WORKFLOWS / f"{name}.json", client), timeout=3600)
    in_order = sorted(result.outputs, key=int)
    return [file for node in in_order for file in result.files(base_dir, node)]


def video(files: Sequence[Path], start: str) -> Pictures:
    """Return the frames of the one video whose name begins so."""
    (found,) = [f for f in files if f.suffix == ".mp4" and f.name.startswith(start)]
    return read_frames(found)


def frame_at(frames: Pictures, chunk: int, share: float) -> Image.Image:
    """Return a frame of a chunk: its first at 0, its last at 1."""
    last = STRIDE * (CHUNK_FRAMES * (chunk + 1) - 1)
    first = last - STRIDE * CHUNK_FRAMES + 1 if chunk else 0
    return frames[min(round(first + share * (last - first)), len(frames) - 1)]


def thumbnail(name: str, cells: Sequence[tuple[Image.Image, bool]]) -> None:
    """Write the card of a template: 4 x 4 frames, row by row."""
    canvas = Canvas(512, 512)
    for i, (picture, hidden) in enumerate(cells):
        row, column = divmod(i, 4)
        canvas.frame(picture, column * 128 + 3, row * 128 + 3, (122, 122), hidden=hidden)
    canvas.image.save(WORKFLOWS / f"{name}.jpg", quality=88, optimize=True)


def draw_demo(files: Sequence[Path]) -> None:
    """Draw what the demo shows: the sheet, the animation, the card, and two help pictures."""
    frames = video(files, "demo_")
    states = [Image.open(f).convert("RGB") for f in files if f.name.startswith("demo_state_")]
    chart = next(f for f in files if f.name.startswith("demo_chart_"))
    _sheet(frames, states).save(DOCS / "demo.png", optimize=True)
    _animation(frames, states)
    _strip(frames, states).save(HELP / "hidden_states.png", optimize=True)
    Image.open(chart).convert("RGB").quantize(48).save(HELP / "report.png", optimize=True)
    chosen = [round(i * (CHUNKS - 1) / 7) for i in range(8)]
    rows = (chosen[:4], chosen[4:])
    shown = [[(frame_at(frames, k, 0.5), False) for k in row] for row in rows]
    hidden = [[(states[k], True) for k in row] for row in rows]
    thumbnail(DEMO, [*shown[0], *hidden[0], *shown[1], *hidden[1]])


def draw_steps(files: Sequence[Path]) -> None:
    """Draw the card of the three steps: frames and the hidden state of each; then the reset."""
    frames = video(files, "step_by_step_")
    states = [Image.open(f) for f in files if f.suffix == ".png"]
    cells = []
    for step, state in enumerate(states):
        cells += [(frame_at(frames, 4 * step + k, 0.9), False) for k in (0, 2, 3)]
        cells.append((state, True))
    cells += [(frame_at(frames, k, 0.3), False) for k in (7, 8, 9, 10)]
    thumbnail(STEPS, cells)


def draw_compare(files: Sequence[Path]) -> None:
    """Draw the card of the comparison: one row for each anchor."""
    cells = []
    for anchor in ("adaptive", "held", "frozen", "none"):
        cells += _spread(video(files, f"compare_{anchor}_"), 4)
    thumbnail(COMPARE, cells)


def draw_timeline(files: Sequence[Path]) -> None:
    """Draw the card of the timeline, its whole story in 16 frames, and the registry's images."""
    frames = video(files, "timeline_")
    states = [Image.open(f).convert("RGB") for f in files if f.name.startswith("timeline_state_")]
    thumbnail(TIMELINE, _spread(frames, 16))
    icon = registry_images.icon(states[7], states[8], states[10])
    icon.save(DOCS / "icon.png", optimize=True)
    chosen = range(4, CHUNKS)
    shown = [frame_at(frames, k, 0.5) for k in chosen]
    banner = registry_images.banner(shown, [states[k] for k in chosen])
    banner.save(DOCS / "banner.jpg", quality=92, optimize=True)


def draw_branch(files: Sequence[Path]) -> None:
    """Draw the card of the branches: two rows for each of the futures."""
    cells = []
    for branch in ("a", "b"):
        cells += _spread(video(files, f"branch_{branch}_"), 8)
    thumbnail(BRANCH, cells)


def draw_relay(files: Sequence[Path]) -> None:
    """Draw the card of the named stream: a row for each run, and the stream grows."""
    cells = []
    for run_number, file in enumerate(f for f in files if f.suffix == ".mp4"):
        shown = _spread(read_frames(file), run_number + 1)
        blank = (Image.new("RGB", (8, 8), DARK), False)
        cells += [*shown, *[blank] * (3 - run_number)]
    thumbnail(RELAY, cells)


def draw_render(files: Sequence[Path]) -> None:
    """Draw the card of the long video: from its first chunk to its last."""
    thumbnail(RENDER, _spread(video(files, "long_"), 16))


DRAWN = {
    DEMO: draw_demo,
    STEPS: draw_steps,
    COMPARE: draw_compare,
    TIMELINE: draw_timeline,
    BRANCH: draw_branch,
    RELAY: draw_relay,
    RENDER: draw_render,
}


def _spread(frames: Pictures, count: int) -> list[tuple[Image.Image, bool]]:
    """Pick frames from the first to the last, as cells of a card."""
    last = len(frames) - 1
    return [(frames[round(i * last / max(count - 1, 1))], False) for i in range(count)]


def _sheet(frames: Pictures, states: Pictures) -> Image.Image:
    """Return two frames of every chunk and its hidden state, all chunks side by side."""
    side, gap, left, top = 128, 6, 100, 44
    rows = (("first frame", FAINT), ("middle frame", FAINT), ("hidden state", GOLD))
    canvas = Canvas(left + CHUNKS * (side + gap) + 12, top + 3 * (side + gap) + 22)
    for k in range(CHUNKS):
        x = left + k * (side + gap)
        canvas.words(f"chunk {k}", x, 14, FAINT, 16)
        pictures = (frame_at(frames, k, 0.0), frame_at(frames, k, 0.5), states[k])
        for row, picture in enumerate(pictures):
            y = top + row * (side + gap) + (8 if row == 2 else 0)
            canvas.frame(picture, x, y, (side, side), hidden=row == 2)
    for row, (text, colour) in enumerate(rows):
        canvas.words(text, 8, top + row * (side + gap) + side // 2 - 8, colour, 15)
    return canvas.image.quantize(192)


def _animation(frames: Pictures, states: Pictures) -> None:
    """Write the video and, beside it, the hidden state of the chunk that is shown."""
    side, every = 224, 2
    pictures = []
    for i in range(0, len(frames), every):
        chunk = min((i + STRIDE - 1) // (STRIDE * CHUNK_FRAMES), CHUNKS - 1)
        canvas = Canvas(2 * side + 48, side + 58)
        canvas.words("the video", 16, 10, LIGHT, 16)
        canvas.words(f"hidden state of chunk {chunk}", side + 32, 10, GOLD, 16)
        canvas.frame(frames[i], 16, 38, (side, side), hidden=False)
        canvas.frame(states[chunk], side + 32, 38, (side, side), hidden=True)
        pictures.append(canvas.image)
    palette = pictures[len(pictures) // 2].quantize(128)
    no_dither = Image.Dither.NONE
    first, *others = [p.quantize(palette=palette, dither=no_dither) for p in pictures]
    timing: dict[str, Any] = {"duration": round(1000 * every / 12), "loop": 0}
    first.save(DOCS / "demo.gif", save_all=True, append_images=others, optimize=True, **timing)


def _strip(frames: Pictures, states: Pictures) -> Image.Image:
    """Return six chunks for the narrow panel of the help pages."""
    side, gap = 150, 10
    canvas = Canvas(6 * (side + gap) + 14, 2 * side + 112)
    canvas.words("what is shown", 12, 8, LIGHT, 18)
    canvas.words("hidden state", 12, side + 48, GOLD, 18)
    for i, k in enumerate(range(0, CHUNKS, 2)):
        x = 12 + i * (side + gap)
        canvas.frame(frame_at(frames, k, 0.5), x, 36, (side, side), hidden=False)
        canvas.frame(states[k], x, side + 76, (side, side), hidden=True)
        canvas.words(f"chunk {k}", x + 44, 2 * side + 84, FAINT, 17)
    return canvas.image.quantize(192)


def screenshot(url: str) -> None:
    """Take the picture of the demo workflow in the editor, after it ran there."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as library:
        chromium = library.chromium.launch(
            executable_path=os.environ.get("CHROMIUM_PATH"), args=["--no-sandbox"]
        )
        page = chromium.new_page(viewport={"width": 2300, "height": 1330})
        page.goto(url)
        page.wait_for_function("window.app?.graph && window.app.extensionManager", timeout=120_000)
        page.wait_for_timeout(3000)
        page.evaluate(_OPEN, DEMO)
        while not page.evaluate(_IDLE):
            page.wait_for_timeout(1000)
        page.keyboard.press("Escape")  # the choice of templates that greets a new user
        page.wait_for_timeout(4000)
        clip = page.evaluate(_FIT)
        page.wait_for_timeout(2500)
        taken = page.screenshot(clip=clip)
        chromium.close()
    picture = Image.open(io.BytesIO(taken)).convert("RGB")
    size = (1600, round(picture.height * 1600 / picture.width))
    smaller = picture.resize(size, Image.Resampling.LANCZOS)
    smaller.save(DOCS / "graph.jpg", quality=80, optimize=True)


_OPEN = """async (name) => {
    await app.extensionManager.setting.set("Comfy.VueNodes.Enabled", false);
    await app.extensionManager.setting.set("Comfy.TutorialCompleted", true);
    await app.extensionManager.setting.set("Comfy.Minimap.Visible", false);
    await app.extensionManager.setting.set("Comfy.Graph.CanvasInfo", false);
    const url = `/api/workflow_templates/adastate/${encodeURIComponent(name)}.json`;
    await app.loadGraphData(await (await fetch(url)).json(), true, true, name);
    await app.queuePrompt(0, 1);
    await new Promise((done) => setTimeout(done, 2000));
}"""
_IDLE = """async () => {
    const queue = await (await fetch("/queue")).json();
    return queue.queue_running.length + queue.queue_pending.length === 0;
}"""
_FIT = """() => {
    const {ds, canvas} = app.canvas;
    app.canvas.deselectAll();
    const nodes = app.graph.nodes;
    const left = Math.min(...nodes.map((n) => n.pos[0])) - 30;
    const top = Math.min(...nodes.map((n) => n.pos[1])) - 100;
    const width = Math.max(...nodes.map((n) => n.pos[0] + n.size[0])) + 30 - left;
    const height = Math.max(...nodes.map((n) => n.pos[1] + n.size[1])) + 30 - top;
    ds.scale = Math.min((canvas.clientWidth - 70) / width, (canvas.clientHeight - 110) / height);
    ds.offset[0] = -left + 65 / ds.scale;
    ds.offset[1] = -top + 95 / ds.scale;
    app.canvas.setDirty(true, true);
    return {x: 65, y: 95 + canvas.getBoundingClientRect().top,
        width: width * ds.scale, height: height * ds.scale};
}"""


@contextlib.contextmanager
def new_server() -> Iterator[ComfyServer]:
    """Run a server with a base directory of its own."""
    with tempfile.TemporaryDirectory(prefix="adastate-pictures-") as base:
        python = Path(sys.executable)
        with ComfyServer(environment.tree_path(), python, Path(base), environment.ROOT) as server:
            yield server


def main(arguments: Sequence[str] | None = None) -> int:
    """Make all pictures from the command line."""
    parser = argparse.ArgumentParser(prog="docs.make_pictures", description="Make the pictures.")
    parser.add_argument("--graph", action="store_true", help="the screenshot of the editor too")
    parser.add_argument(
        "workflows", nargs="*", help=f"workflows to draw, all by default: {', '.join(DRAWN)}"
    )
    options = parser.parse_args(arguments)
    with new_server() as server, ComfyClient(server.url) as client:
        for name in options.workflows or DRAWN:
            runs = [run(client, server.base_dir, name) for _ in range(RUNS.get(name, 1))]
            DRAWN[name]([file for files in runs for file in files])
    if options.graph:
        # Another server, so that nothing is cached and the previews appear.
        with new_server() as server:
            screenshot(server.url)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
