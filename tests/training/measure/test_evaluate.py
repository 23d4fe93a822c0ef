"""A whole evaluation on made streams: kept, resumed, written and drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from training.measure import evaluate as evaluation
from training.measure.controls import CONTROLS, REAL, SHUFFLED, STILL
from training.measure.evaluate import Bench, Measured, Plan, evaluate, fixed_pairs
from training.measure.plane import draw_plane, steps
from training.measure.reader import Reader
from training.measure.space import Space, pieces
from training.measure.streams import Kept, Row, Source
from training.measure.strip import draw_strip
from training.measure.table import write_result
from training.panorama.journey import Journey
from training.panorama.prompts import Prompt
from training.panorama.render import render
from training.vae import ClipVAE

CHUNKS = 2


class Noise:
    """Streams of nothing but noise, which count how often they are asked for."""

    batch = 2

    def __init__(self, level: float) -> None:
        self.level, self.digest = level, f"noise-{level}"

    def __call__(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], chunks: int
    ) -> torch.Tensor:
        rows = [
            torch.randn(16, 3 * chunks, 14, 24, generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
        return self.level * torch.stack(rows)


class Refuses(Noise):
    """Streams that must not be made again."""

    def __call__(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], chunks: int
    ) -> torch.Tensor:
        raise AssertionError("made again")


@pytest.fixture(scope="module")
def space() -> Space:
    """A VAE of the right shape that was never trained: what is measured is not judged here."""
    vae = ClipVAE(4).eval().requires_grad_(False)
    return Space(vae, torch.zeros(16), torch.ones(16), "tiny")


@pytest.fixture(scope="module")
def bench(space: Space, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("measure")
    plan = Plan(folder, fixed_pairs(2), CHUNKS, decode_every=1, controls=2)
    return Bench(plan, space, Reader().eval().requires_grad_(False))


ROWS = (Row("loud", "adaptive"), Row("quiet", "frozen"))


@pytest.fixture(scope="module")
def result(bench: Bench) -> evaluation.Result:
    sources: list[Source] = [Noise(1.0), Noise(0.3)]
    return evaluate(bench, list(zip(ROWS, sources, strict=True)), {"command": "test"}, str)


def test_every_row_and_control_is_measured(result: evaluation.Result) -> None:
    assert [row.name for row in result.rows] == ["loud", "quiet"]
    assert [row.name for row in result.controls] == list(CONTROLS)
    assert [len(row.seeds) for row in result.rows] == [2, 2]
    by_name = {row.name: row for row in result.controls}
    assert max(by_name[STILL].values("seams")) == 0.0
    seams = {name: by_name[name].values("seams") for name in (REAL, SHUFFLED)}
    assert all(0.5 < value < 1.6 for value in seams[REAL])


def test_what_was_made_is_not_made_again(bench: Bench, result: evaluation.Result) -> None:
    again = evaluate(bench, [(ROWS[0], Refuses(1.0)), (ROWS[1], Refuses(0.3))], {}, str)
    for one, other in zip(again.rows, result.rows, strict=True):
        # An interval of fewer chunks than five is no number, and equals none.
        assert json.dumps(one.figures) == json.dumps(other.figures)


def test_an_interrupted_row_goes_on_where_it_was(tmp_path: Path) -> None:
    pairs, kept, source = fixed_pairs(5), Kept(tmp_path), Noise(1.0)
    kept.make(source, pairs[1:3], CHUNKS)
    missing = kept.missing(source, pairs, CHUNKS)
    assert missing == [[pairs[0], pairs[3]], [pairs[4]]]
    stored = kept.load(Refuses(1.0), pairs[2], CHUNKS)
    assert torch.allclose(stored, source([pairs[2][0]], [pairs[2][1]], CHUNKS)[0], atol=2e-3)
    assert kept.missing(Noise(0.5), pairs[1:3], CHUNKS) == [pairs[1:3]]
    assert kept.missing(source, pairs[1:3], CHUNKS + 1) == [pairs[1:3]]


def test_streams_of_another_length_are_refused(tmp_path: Path) -> None:
    class Short(Noise):
        def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int], chunks: int) -> Tensor:
            return super().__call__(prompts, seeds, chunks - 1)

    with pytest.raises(ValueError, match=r"expected \(2, 16, 6, h, w\)"):
        Kept(tmp_path).make(Short(1.0), fixed_pairs(2), CHUNKS)


def test_the_files_hold_every_stream_and_the_command(
    result: evaluation.Result, tmp_path: Path
) -> None:
    table, numbers = write_result(result, tmp_path)
    text = table.read_text("utf-8")
    assert "command: test" in text
    for name in (*CONTROLS, "loud", "quiet"):
        assert text.count(f"| {name} |") >= 3, name
    assert "### loud minus the others, paired by prompt and seed" in text
    stored = json.loads(numbers.read_text("utf-8"))
    assert [len(row["streams"]) for row in stored["rows"]] == [2, 2]
    figures = stored["rows"][0]["streams"][0]["figures"]
    assert {"progress", "drift", "seams", "flow", "identity"} <= set(figures)


def test_pictures_are_drawn(bench: Bench, result: evaluation.Result, tmp_path: Path) -> None:
    rows: list[tuple[Row, Source]] = [(ROWS[0], Refuses(1.0)), (ROWS[1], Refuses(0.3))]
    with Image.open(draw_plane(result, tmp_path / "plane.png")) as plane:
        assert plane.size == (900, 620)
        assert len(np.unique(np.asarray(plane).reshape(-1, 3), axis=0)) > 20
    path = draw_strip(bench.space, bench.plan, rows, tmp_path / "strip.png")
    with Image.open(path) as strip:
        # One column: the plan's streams end before chunk 5. Two anchors and the world.
        assert strip.height > 3 * 112
        world = strip.crop((170, strip.height - 20 - 112, 170 + 192, strip.height - 20 - 6))
        assert len(np.unique(np.asarray(world).reshape(-1, 3), axis=0)) > 1000


def test_steps_of_an_axis_are_round() -> None:
    assert steps(0.0, 1.06) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert steps(-0.3, 0.2) == [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2]


def test_pieces_cover_a_clip_once_and_agree_with_the_whole(space: Space) -> None:
    spans = list(pieces(9, piece=3, warm_up=4))
    assert [count for count, _ in spans] == [3, 3, 3]
    pair = fixed_pairs(1)[0]
    pictures = render([Journey.draw(*pair)], torch.arange(33.0)[None])
    whole = space.encode(pictures)
    parts = [space.encode(pictures[:, span])[:, :, -count:] for count, span in spans]
    assert [part.shape[2] for part in parts] == [3, 3, 3]
    off = (torch.cat(parts, 2) - whole).square().mean().sqrt()
    assert float(off) < 0.02 * float(whole.std())


def test_rows_are_read_from_a_command_line() -> None:
    assert Row.parse("adaptive=a.safetensors") == Row("adaptive", "adaptive", Path("a.safetensors"))
    assert Row.parse("alpha 0:adaptive=b") == Row("alpha 0", "adaptive", Path("b"))
    assert Row.parse("none") == Row("none", "none")
    assert Row.parse("x:none=a,b") == Row("x", "none", Path("a"), Path("b"))
    with pytest.raises(ValueError, match="expected one of"):
        Row.parse("sometimes=a")


def test_prompts_are_unseen_and_more_begin_with_fewer() -> None:
    pairs = fixed_pairs(48)
    assert all(prompt.unseen for prompt, _ in pairs)
    assert len({prompt.text for prompt, _ in pairs}) == 48
    assert fixed_pairs(12) == pairs[:12]


def test_a_row_without_a_figure_has_no_number() -> None:
    assert Measured("row", ["a"], [1], [{}]).values("progress") != [0.0]
