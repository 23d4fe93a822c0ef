"""What a run obeys is told by how much worse it does under a prompt that says something else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.tiny_anchors import fill_folder
from training.anchors import obedience
from training.anchors.latents import write_whole
from training.anchors.runs import AVERAGE, run_folder
from training.panorama.prompts import GRAMMAR, parse_prompt

TEXT = "a green kite bobbing, travelling left at a slow pace from the town to the forest, by day"


def test_a_prompt_is_changed_in_one_part_at_a_time() -> None:
    texts = obedience.changed(parse_prompt(TEXT))
    assert texts.pop("true") == TEXT
    assert texts.pop("empty") == ""
    assert texts.pop("swapped") == TEXT.replace(
        "from the town to the forest", "from the forest to the town"
    )
    assert texts["colour"] == TEXT.replace("a green", "a red")
    assert texts["origin"] == TEXT.replace("town", "coast")
    true = said(TEXT)
    assert texts.keys() == true.keys()
    for name, text in texts.items():
        assert {part for part, word in said(text).items() if word != true[part]} == {name}


def said(text: str) -> dict[str, str]:
    """Return the parts of a prompt, also of one whose way no clip goes."""
    found = GRAMMAR.fullmatch(text)
    assert found is not None
    return found.groupdict()


def test_examined_clips_are_of_prompts_that_nobody_trains_on() -> None:
    clips = obedience.examined_clips()
    assert len({clip.prompt for clip in clips}) == obedience.CLIPS
    assert all(clip.prompt.unseen and clip.begin == 0 for clip in clips)


def test_who_reads_no_words_obeys_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obedience, "CLIPS", 4)
    monkeypatch.setattr(obedience, "BATCH", 2)
    fill_folder(tmp_path)
    source = torch.Generator().manual_seed(1)
    content = torch.randn(4, 16, 3, 14, 24, generator=source).half()
    write_whole({"content": content}, tmp_path / obedience.EXAMINED)
    hears = obedience.obedience(tmp_path, "base")
    assert all(abs(row["light"] - 1.0) > 1e-4 for row in hears.values())
    params = load_file(run_folder(tmp_path, "base") / AVERAGE)
    for name, value in params.items():
        if "cross_attn.o" in name:
            value.zero_()
    run_folder(tmp_path, "deaf").mkdir()
    write_whole(params, run_folder(tmp_path, "deaf") / AVERAGE)
    for level, row in obedience.obedience(tmp_path, "deaf").items():
        assert row.pop("true") > 0.0
        assert set(row.values()) == {1.0}, level
    table = obedience.obedience_table(tmp_path, "deaf").splitlines()
    assert table[0].split()[:3] == ["noise", "true", "colour"]
    assert len(table) == 3
