"""Draw what the bench has measured as one picture, in the style of Stream Report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from tools.bench.resident import mebibytes
from tools.bench.table import Row

_WIDTH, _PANEL, _MARGIN, _GAP = 960, 200, 64, 56
_BACKGROUND, _INK, _FAINT, _ALARM = "#16181d", "#e8e6e1", "#343841", "#ff5d5d"
_COLOURS = ("#7ec8ff", "#ffc46b", "#9be38f")
_BAR, _LABELS, _NUMBERS, _MOST = 22, 400, 190, 1.25
"""Height of a bar, width of the texts beside it, and how far over its target it is drawn."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """Lines over common axes, both from 0; `unit` is that of the one below."""

    title: str
    unit: str
    lines: dict[str, Points]


def draw(result: dict[str, Any]) -> Image.Image:
    """Draw the content of a result file: curves of the parts that it has, then a bar for each row.

    A bar says how much of its target a measure uses: 1 meets it, what is longer misses it.
    """
    panels = [make(result[part]) for part, make in _PANELS if part in result]
    rows = [_row(each) for each in result["rows"]]
    bands = (len(panels) + 1) // 2
    top = _GAP + bands * (_PANEL + _GAP + 20)
    image = Image.new("RGB", (_WIDTH, top + (len(rows) + 2) * _BAR), _BACKGROUND)
    canvas = ImageDraw.Draw(image)
    half = _WIDTH // 2
    for index, panel in enumerate(panels):
        left = _MARGIN + (index % 2) * half
        corner = (left, _GAP + (index // 2) * (_PANEL + _GAP + 20))
        _curves(canvas, panel, corner, half - _MARGIN - 28)
    _bars(canvas, rows, top)
    return image


def _curves(canvas: ImageDraw.ImageDraw, panel: Panel, corner: tuple[int, int], width: int) -> None:
    left, top = corner
    points = [point for line in panel.lines.values() for point in line]
    last, high = max(x for x, _ in points), 1.1 * max(y for _, y in points) or 1.0
    canvas.text((left, top - 26), panel.title, fill=_INK, font=_font(15))
    for share in (0.0, 0.5, 1.0):
        y = top + _PANEL * (1 - share)
        canvas.line((left, y, left + width, y), fill=_FAINT)
        canvas.text((left - 8, y), f"{share * high:.4g}", fill=_INK, font=_font(12), anchor="rm")
    for index, (name, line) in enumerate(panel.lines.items()):
        spots = [(left + width * x / last, top + _PANEL * (1 - y / high)) for x, y in line]
        canvas.line(spots, fill=_COLOURS[index], width=2, joint="curve")
        if len(panel.lines) > 1:
            legend = (left + 8, top + 6 + 18 * index)
            canvas.text(legend, name, fill=_COLOURS[index], font=_font(13))
    for x, anchor in ((0.0, "lm"), (last, "rm")):
        at = (left + width * x / last, top + _PANEL + 14)
        canvas.text(at, f"{x:g}", fill=_INK, font=_font(12), anchor=anchor)
    middle = (left + width / 2, top + _PANEL + 14)
    canvas.text(middle, panel.unit, fill=_INK, font=_font(12), anchor="mm")


def _bars(canvas: ImageDraw.ImageDraw, rows: Sequence[Row], top: int) -> None:
    left, right = _LABELS, _WIDTH - _NUMBERS - 16
    end = left + (right - left) / _MOST
    canvas.text((16, top - 26), "how much of its target each measure uses", _INK, _font(15))
    for index, row in enumerate(rows):
        name, number, target, _ = row.cells
        y, colour = top + 8 + index * _BAR, _ALARM if row.missed else _COLOURS[2]
        canvas.text((16, y + 7), name, fill=_INK, font=_font(13), anchor="lm")
        length = (right - left) * min(row.used, _MOST) / _MOST
        canvas.rectangle((left, y, left + max(length, 1), y + 13), fill=colour)
        words = f"{number}, {target}"
        canvas.text((_WIDTH - 16, y + 7), words, fill=_INK, font=_font(13), anchor="rm")
    canvas.line((end, top, end, top + 8 + len(rows) * _BAR), fill=_INK)


def _row(stored: dict[str, Any]) -> Row:
    known = ("name", "measured", "target", "unit", "at_least")
    return Row(**{name: stored[name] for name in known})


def _times(core: dict[str, Any]) -> Panel:
    return Panel("time of a video, s", "latent frames", _by_length(core, "seconds", float))


def _memory(core: dict[str, Any]) -> Panel:
    return Panel("memory of a video, MiB", "latent frames", _by_length(core, "bytes", mebibytes))


def _by_length(
    core: dict[str, Any], measure: str, scale: Callable[[float], float]
) -> dict[str, Points]:
    lines: dict[str, Any] = {}
    for frames, runs in core["videos"].items():
        for way, run in runs.items():
            lines.setdefault(way, []).append((float(frames), scale(run[measure])))
    return lines


def _chunks(growth: dict[str, Any]) -> Panel:
    base = growth["early_seconds"]
    line = [(float(i), each / base) for i, each in enumerate(growth["along_seconds"])]
    return Panel("time of a chunk, over the fifth", "chunk", {"adaptive": line})


def _render(render: dict[str, Any]) -> Panel:
    line = [(float(i), mebibytes(each)) for i, each in enumerate(render["long"]["along_bytes"])]
    return Panel("memory of a render, MiB", "chunk", {"Render Stream to Video": line})


_PANELS: tuple[tuple[str, Callable[[dict[str, Any]], Panel]], ...] = (
    ("core", _times), ("core", _memory), ("growth", _chunks), ("render", _render),
)  # fmt: skip


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
