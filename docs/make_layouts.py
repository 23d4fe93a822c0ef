"""Write `presets.md`: every preset with its cache drawn, chunk by chunk, from the layout code.

python -m docs.make_layouts
"""

from __future__ import annotations

from pathlib import Path

from adastate_core.anchors import policy_for
from adastate_core.anchors.presets import PRESETS, Preset
from adastate_core.config import StreamConfig
from adastate_core.layout import CachedFrames, FrameMix, SlotLayout

PAGE = Path(__file__).parent / "presets.md"
SHOWN = (0, 1, 2, 3, 7)
SHOWN_OF = {
    "memrope": (0, 1, 3, 4, 5),
    "rolling_sink": (0, 1, 6, 7, 8, 9),
    "raven": (0, 1, 2, 3, 4),
    "taomate": (0, 1, 2, 3),
}

HEAD = """# Presets

Published methods that differ in what a chunk attends to, as presets of *Apply AdaState*. Compare
them on the same weights, with the same prompt and seed. Weights that were trained for a method show
it at its best; other weights show what its cache alone does.

How to read the drawings: a column is a temporal index (the position for RoPE), a row is a chunk.
`A` is slot 0 (the anchor, or sink), `W` the window, `S` the hidden state and `C` the content that
are being denoised. The number is that of the content frame; `~` marks an average. The tests compare
every preset with the published method, written out independently, over sixteen chunks, in float32,
to 1e-5; *self_forcing* also with ComfyUI's own sampler for causal models, *Sampler AR Video*, on
the same noise, to 1e-4. Those for MiniMax H3 are compared in video and sound over five and six
chunks, to 5e-6, *omniforcing* on LTX-2 over seven, to 1e-4. All of it is on tiny random weights.
"""

TAIL = "`python -m docs.make_layouts` writes this page from the code that lays chunks out.\n"


def page() -> str:
    """Return the page."""
    return "\n".join([HEAD, *(_section(name, preset) for name, preset in PRESETS.items()), TAIL])


def _section(name: str, preset: Preset) -> str:
    note = f" {preset.note}" if preset.note else ""
    drawing = "\n".join(_drawing(preset.config, SHOWN_OF.get(name, SHOWN)))
    return f"## {name}\n\n{preset.title}: {preset.reference}.{note}\n\n```\n{drawing}\n```\n"


def _drawing(config: StreamConfig, shown: tuple[int, ...]) -> list[str]:
    chunks = _chunks(config, max(shown) + 1)
    rows = {chunk: cells for chunk, cells in enumerate(chunks) if chunk in shown}
    last = max(index for cells in rows.values() for index in cells)
    lines = ["index   " + "".join(f"{index:>5}" for index in range(last + 1))]
    for chunk, cells in rows.items():
        line = "".join(f"{cells.get(index, ''):>5}" for index in range(last + 1))
        lines.append(f"chunk {chunk} {line}".rstrip())
    return lines


def _chunks(config: StreamConfig, count: int) -> list[dict[int, str]]:
    """Run the layout and the commit plans over a few chunks, with names in place of frames."""
    policy, cached = policy_for(config), CachedFrames()
    anchor: list[str] = []
    window: list[str] = []
    chunks = []
    for chunk in range(count):
        layout = policy.layout(config, cached)
        content = [str(chunk * config.chunk_frames + i) for i in range(config.chunk_frames)]
        chunks.append(_cells(layout, anchor, window, content))
        plan = policy.commit(config, cached, hold=False)
        names = {"anchor": anchor, "window": window, "content": content}
        names["state"] = [""] * config.state_frames

        anchor, window = (
            [
                f"~{names[kept.terms[0][0].source][kept.terms[0][0].position].lstrip('~')}"
                if isinstance(kept, FrameMix)
                else names[kept.source][kept.position]
                for kept in part
            ]
            for part in (plan.anchor, plan.window)
        )
        cached = CachedFrames(
            (0,) * len(anchor), (0,) * len(window), cached.committed + config.chunk_frames
        )
    return chunks


def _cells(
    layout: SlotLayout, anchor: list[str], window: list[str], content: list[str]
) -> dict[int, str]:
    cells: dict[int, str] = {}
    read = window[len(window) - len(layout.window) :]
    for letter, indices, names in (
        ("A", layout.anchor, [anchor[i] for i in layout.picked]),
        ("W", layout.window, read),
        ("S", layout.state, [""] * len(layout.state)),
        ("C", layout.content, content),
    ):
        for index, name in zip(indices, names, strict=False):
            cells[index] = cells.get(index, "") + letter + name
    return cells


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
