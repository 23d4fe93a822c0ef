"""Make all pictures again, from real runs: README, help pages, templates and registry.

    python tools/environment.py run -- -m docs.make_pictures

Runs the workflows of the demo models, or those that are named, on a real server. With `--page` it
takes the pictures of ComfyUI's page instead, which need a browser (`page_pictures.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from adastate_core.metrics.chart import draw_chart
from adastate_core.metrics.measures import measure_stream
from docs import registry_images
from docs.page_pictures import open_page, take_graph, take_nodes
from docs.thumbnails import beside as _beside
from docs.thumbnails import named as _named
from docs.thumbnails import save_thumbnail
from tools import environment
from tools.client import ComfyClient
from tools.contact_sheet import FAINT, GOLD, LIGHT, Canvas, fitted, read_frames
from tools.export_api import LATER
from tools.graph import load_prompt
from tools.server import ComfyServer

DEMO, RENDER, TIMELINE, STORY, COMPARE, LOOP, STEPS, BRANCH, NAMED, TRAIN, LOOP_NODES = (
    "01 Stream the demo world",
    "02 Render a long video",
    "03 Stream a timeline",
    "04 Render a story",
    "05 Compare anchors",
    "06 Loop a video",
    "07 Step by step",
    "08 Branch a scene",
    "09 Continue a named stream",
    "14 Train a state adapter",
    "15 Loop over prompts",
)
RUNS = {NAMED: 3}
"""How often a workflow is run, where it is not once."""
DOCS, HELP, WORKFLOWS = (
    environment.ROOT / "docs",
    environment.ROOT / "web" / "docs",
    environment.ROOT / "workflows",
)

WITH_NODES = (LOOP, RENDER, TIMELINE, STEPS, NAMED, TRAIN)
"""The workflows that nodes are shown in."""
PANELS = {"AdaStateStream", "AdaStateStreamTimeline"}
"""Nodes whose pages show their panel, from a longer stream."""
NODES = sorted({path.stem for path in HELP.glob("*.md")} - PANELS)

CHUNKS, CHUNK_FRAMES, STRIDE, FPS = 12, 3, 4, 12

Pictures = list[Image.Image]


def thumbnail(name: str, frames: Sequence[Image.Image]) -> None:
    """Write the card of a template."""
    save_thumbnail(WORKFLOWS / f"{name}.jpg", frames, FPS)


def run(client: ComfyClient, base_dir: Path, name: str) -> list[Path]:
    """Run a workflow and return the files it saved and previewed, in order of their nodes."""
    result = client.run(load_prompt(WORKFLOWS / f"{name}.json", client), timeout=3600)
    in_order = sorted(result.outputs, key=lambda node: [int(part) for part in node.split(":")])
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


def draw_demo(files: Sequence[Path]) -> None:
    """Draw what the demo shows: the sheet, the animation, the card, and two help pictures."""
    frames = video(files, "demo_")
    states = [Image.open(f).convert("RGB") for f in files if f.name.startswith("demo_state_")]
    _sheet(frames, states).save(DOCS / "demo.png", optimize=True)
    _animation(frames, states)
    _strip(frames, states).save(HELP / "hidden_states.png", optimize=True)
    _chart(frames).quantize(48).save(HELP / "report.png", optimize=True)
    shown = [_beside(frames[i], states[_chunk_of(i)]) for i in range(len(frames))]
    thumbnail(DEMO, shown)


def draw_render(files: Sequence[Path]) -> None:
    """Draw the card of the long video, with the chunk that is written."""
    frames = video(files, "long_")
    thumbnail(RENDER, [_named(f, f"chunk {_chunk_of(i)}") for i, f in enumerate(frames)])


def draw_timeline(files: Sequence[Path]) -> None:
    """Draw the card of the timeline, and the registry's images."""
    frames = video(files, "timeline_")
    states = [Image.open(f).convert("RGB") for f in files if f.name.startswith("timeline_state_")]
    thumbnail(
        TIMELINE, [_named(f, f"line {min(_chunk_of(i) // 4, 1) + 1}") for i, f in enumerate(frames)]
    )
    icon = registry_images.icon(states[7], states[8], states[10])
    icon.save(DOCS / "icon.png", optimize=True)
    chosen = range(4, CHUNKS)
    shown = [frame_at(frames, k, 0.5) for k in chosen]
    banner = registry_images.banner(shown, [states[k] for k in chosen])
    banner.save(DOCS / "banner.jpg", quality=92, optimize=True)


def draw_story(files: Sequence[Path]) -> None:
    """Draw the card of the story, with the time that has passed."""
    frames = video(files, "story_")
    thumbnail(STORY, [_named(f, f"{i // FPS} s") for i, f in enumerate(frames)])


def draw_compare(files: Sequence[Path]) -> None:
    """Draw the card of the comparison, and its pictures in the README and the help page."""
    frames = video(files, "compare_")
    thumbnail(COMPARE, frames)
    save_thumbnail(DOCS / "compare.webp", frames, FPS)
    frames[-1].quantize(192).save(HELP / "compare.png", optimize=True)


def draw_loop(files: Sequence[Path]) -> None:
    """Draw the card of the loop: all of it, so that it loops as well."""
    thumbnail(LOOP, [_named(frame, "") for frame in video(files, "loop_")])


def draw_steps(files: Sequence[Path]) -> None:
    """Draw the card of the three steps."""
    frames = video(files, "step_by_step_")
    thumbnail(STEPS, [_named(f, f"step {_chunk_of(i) // 4 + 1}") for i, f in enumerate(frames)])


def draw_branch(files: Sequence[Path]) -> None:
    """Draw the card of the branches, side by side."""
    both = zip(video(files, "branch_a_"), video(files, "branch_b_"), strict=True)
    thumbnail(BRANCH, [_beside(one, other, hidden=False) for one, other in both])


def draw_named(files: Sequence[Path]) -> None:
    """Draw the card of the named stream, with the run that made each part."""
    frames = read_frames([file for file in files if file.suffix == ".mp4"][-1])
    thumbnail(NAMED, [_named(f, f"run {_chunk_of(i) // 2 + 1}") for i, f in enumerate(frames)])


def draw_loop_nodes(files: Sequence[Path]) -> None:
    """Draw the card of ComfyUI's loop, with the round that made each part."""
    frames = read_frames(next(file for file in files if file.suffix == ".mp4"))
    rounds = [f"round {_chunk_of(i) // 3 + 1}" for i in range(len(frames))]
    thumbnail(LOOP_NODES, [_named(f, words) for f, words in zip(frames, rounds, strict=True)])


DRAWN = {
    DEMO: draw_demo,
    RENDER: draw_render,
    TIMELINE: draw_timeline,
    STORY: draw_story,
    COMPARE: draw_compare,
    LOOP: draw_loop,
    STEPS: draw_steps,
    BRANCH: draw_branch,
    NAMED: draw_named,
    LOOP_NODES: draw_loop_nodes,
}


def _chunk_of(frame: int) -> int:
    """Return the chunk that a frame of a stream belongs to."""
    return (frame + STRIDE - 1) // (STRIDE * CHUNK_FRAMES)


def _sheet(frames: Pictures, states: Pictures) -> Image.Image:
    """Return two frames of every chunk and its hidden state, all chunks side by side."""
    gap, left, top = 6, 100, 44
    wide, high = fitted(frames[0], 168, 128)
    rows = (("first frame", FAINT), ("middle frame", FAINT), ("hidden state", GOLD))
    canvas = Canvas(left + CHUNKS * (wide + gap) + 12, top + 3 * (high + gap) + 22)
    for k in range(CHUNKS):
        x = left + k * (wide + gap)
        canvas.words(f"chunk {k}", x, 14, FAINT, 16)
        pictures = (frame_at(frames, k, 0.0), frame_at(frames, k, 0.5), states[k])
        for row, picture in enumerate(pictures):
            y = top + row * (high + gap) + (8 if row == 2 else 0)
            canvas.frame(picture, x, y, (wide, high), hidden=row == 2)
    for row, (text, colour) in enumerate(rows):
        canvas.words(text, 8, top + row * (high + gap) + high // 2 - 8, colour, 15)
    return canvas.image.quantize(192)


def _animation(frames: Pictures, states: Pictures) -> None:
    """Write the video and, beside it, the hidden state of the chunk that is shown."""
    every = 2
    wide, high = fitted(frames[0], 320, 224)
    pictures = []
    for i in range(0, len(frames), every):
        chunk = min((i + STRIDE - 1) // (STRIDE * CHUNK_FRAMES), CHUNKS - 1)
        canvas = Canvas(2 * wide + 48, high + 58)
        canvas.words("the video", 16, 10, LIGHT, 16)
        canvas.words(f"hidden state of chunk {chunk}", wide + 32, 10, GOLD, 16)
        canvas.frame(frames[i], 16, 38, (wide, high), hidden=False)
        canvas.frame(states[chunk], wide + 32, 38, (wide, high), hidden=True)
        pictures.append(canvas.image)
    palette = pictures[len(pictures) // 2].quantize(128)
    no_dither = Image.Dither.NONE
    first, *others = [p.quantize(palette=palette, dither=no_dither) for p in pictures]
    timing: dict[str, Any] = {"duration": round(1000 * every / 12), "loop": 0}
    first.save(DOCS / "demo.gif", save_all=True, append_images=others, optimize=True, **timing)


def _chart(frames: Pictures) -> Image.Image:
    """Return the chart that Stream Report draws of a video."""
    pixels = torch.from_numpy(np.stack([np.asarray(f, dtype=np.float32) for f in frames])) / 255
    return Image.fromarray((draw_chart(measure_stream(pixels)) * 255).round().astype(np.uint8))


def _strip(frames: Pictures, states: Pictures) -> Image.Image:
    """Return six chunks for the narrow panel of the help pages."""
    gap = 10
    wide, high = fitted(frames[0], 150, 150)
    canvas = Canvas(6 * (wide + gap) + 14, 2 * high + 112)
    canvas.words("what is shown", 12, 8, LIGHT, 18)
    canvas.words("hidden state", 12, high + 48, GOLD, 18)
    for i, k in enumerate(range(0, CHUNKS, 2)):
        x = 12 + i * (wide + gap)
        canvas.frame(frame_at(frames, k, 0.5), x, 36, (wide, high), hidden=False)
        canvas.frame(states[k], x, high + 76, (wide, high), hidden=True)
        canvas.words(f"chunk {k}", x + 44, 2 * high + 84, FAINT, 17)
    return canvas.image.quantize(192)


@contextlib.contextmanager
def new_server(*flags: str) -> Iterator[ComfyServer]:
    """Run a server with a base directory of its own, and more flags."""
    with tempfile.TemporaryDirectory(prefix="adastate-pictures-") as base:
        python = Path(sys.executable)
        tree = environment.tree_path()
        with ComfyServer(tree, python, Path(base), environment.ROOT, args=flags) as server:
            yield server


def main(arguments: Sequence[str] | None = None) -> int:
    """Make all pictures from the command line."""
    parser = argparse.ArgumentParser(prog="docs.make_pictures", description="Make the pictures.")
    parser.add_argument("--page", action="store_true", help="pictures of the page instead")
    parser.add_argument(
        "workflows", nargs="*", help=f"workflows to draw, all by default: {', '.join(DRAWN)}"
    )
    options = parser.parse_args(arguments)
    if options.page:
        with new_server("--preview-method", "none") as server, open_page(server.url) as page:
            take_graph(page, DEMO, DOCS / "graph.jpg")
            take_nodes(page, WITH_NODES, NODES, HELP)
        return 0
    with new_server() as server, ComfyClient(server.url) as client:
        nodes = set(client.object_info())
        here = [name for name in DRAWN if name != LOOP_NODES or nodes >= LATER]
        for name in options.workflows or here:
            runs = [run(client, server.base_dir, name) for _ in range(RUNS.get(name, 1))]
            DRAWN[name]([file for files in runs for file in files])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
