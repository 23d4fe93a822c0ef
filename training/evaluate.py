"""Scores the demo models on prompts they never saw, row by row, as a Markdown table.

``evaluate`` takes any ``generate(row, prompt, seed, chunks) -> frames``; what it measures lives in
:mod:`training.metrics`. Streams are made by the pack's own nodes (:mod:`training.generate`), or
with ``--work`` from the newest checkpoint by training's rollout (:mod:`training.monitor`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.metrics import Drift, Look, bootstrap, colour_right, direction_right, pan_right
from training.prompts import Prompt, split
from training.rollout import ROWS, Row
from training.settings import use_threads

Array = NDArray[np.float32]
Generate = Callable[[Row, Prompt, int, int], Array]
STEPS, CFG = 8, 2.0
SHORT_CHUNKS = 7
SHORT_FRAMES = 1 + 4 * (3 * SHORT_CHUNKS - 1)


def fixed_pairs(count: int) -> list[tuple[Prompt, int]]:
    """The same unseen prompts and seeds every time."""
    prompts = split(unseen=True)
    order = np.random.default_rng(2025).permutation(len(prompts))
    return [(prompts[order[i % len(prompts)]], 40_000 + i) for i in range(count)]


@dataclass(slots=True)
class Scores:
    """Everything measured of one row; one value a stream."""

    colour: list[float] = field(default_factory=list)
    direction: list[float] = field(default_factory=list)
    pan: list[float] = field(default_factory=list)
    dynamics: list[float] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)

    def add_short(self, frames: Array, prompt: Prompt) -> None:
        self.colour.append(float(colour_right(frames, prompt)))
        self.direction.append(float(direction_right(frames, prompt)))
        self.pan.append(float(pan_right(frames, prompt)))

    def add_long(self, frames: Array) -> None:
        self.dynamics.append(Look.of(frames).motion)
        self.drifts.append(Drift.of(frames))


def evaluate(
    generate: Generate,
    rows: tuple[Row, ...],
    pairs: list[tuple[Prompt, int]],
    long_pairs: int,
    chunks: int,
) -> dict[Row, Scores]:
    """Score every row: what is shown on short clips, drift on ``long_pairs`` long streams."""
    table: dict[Row, Scores] = {}
    for row in rows:
        scores = table[row] = Scores()
        for i, (prompt, seed) in enumerate(pairs):
            # A long stream begins with the short one: same draws, causal decoder.
            frames = generate(row, prompt, seed, chunks if i < long_pairs else SHORT_CHUNKS)
            scores.add_short(frames[:SHORT_FRAMES], prompt)
            if i < long_pairs:
                scores.add_long(frames)
    return table


def cell(values: list[float], percent: bool = False) -> str:
    if not values:
        return "-"
    mean, low, high = (100.0 * v if percent else v for v in bootstrap(values))
    form = "{:.0f} [{:.0f}, {:.0f}]" if percent else "{:.3f} [{:.3f}, {:.3f}]"
    return form.format(mean, low, high)


def markdown(table: dict[Row, Scores], chunks: int) -> str:
    """The scores as a Markdown table, means with 95 % bootstrap intervals."""
    looks = ("luminance", "saturation", "sharpness", "motion")
    head = ["row", "colour %", "direction %", "pan %", "dynamics"]
    head += [f"{look}, end / start" for look in looks] + ["within limits %"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row, scores in table.items():
        cells = [row, *(cell(v, True) for v in (scores.colour, scores.direction, scores.pan))]
        cells.append(cell(scores.dynamics))
        cells += [cell([getattr(d, look) for d in scores.drifts]) for look in looks]
        cells.append(cell([float(d.within_limits) for d in scores.drifts], True))
        lines.append("| " + " | ".join(cells) + " |")
    count = len(next(iter(table.values())).drifts)
    lines.append(f"\nDrift and dynamics over {count} streams of {chunks} chunks a row.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--long-pairs", type=int, default=32)
    parser.add_argument("--chunks", type=int, default=60)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--cfg", type=float, default=CFG)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--work", action="store_true", help="the newest checkpoint, own rollout")
    options = parser.parse_args()
    use_threads(options.threads)
    pairs = fixed_pairs(options.pairs)
    generate: Generate
    if options.work:
        from training.monitor import OwnRollout

        generate = OwnRollout(pairs, options.steps)
    else:
        from training.generate import NodeGenerator

        generate = NodeGenerator(options.steps, options.cfg)
    table = evaluate(generate, tuple(options.rows), pairs, options.long_pairs, options.chunks)
    print(markdown(table, options.chunks))


if __name__ == "__main__":
    main()
