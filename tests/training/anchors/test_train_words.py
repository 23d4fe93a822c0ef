"""Words of a prompt learn what the others say, and a base begins with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.tiny_anchors import TINY, fill_folder
from training.anchors.runs import AVERAGE, BASE, Run, first_params, run_folder
from training.anchors.train import Length, train
from training.anchors.train_words import choices_of, taught, teach
from training.panorama.prompts import CHOICES, parse_prompt

TEXT = "a green kite bobbing, travelling left at a slow pace from the town to the forest, by day"


def test_what_a_prompt_says_is_numbered() -> None:
    (said,) = choices_of([parse_prompt(TEXT)]).tolist()
    words = [known[number] for known, number in zip(CHOICES, said, strict=True)]
    assert words == ["green", "kite", "bobbing", "left", "slow", "town", "forest", "by day"]


def test_every_word_of_a_prompt_learns_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADASTATE_TRAIN_DIR", str(tmp_path))
    torch.set_num_threads(1)
    fill_folder(tmp_path)
    assert taught(tmp_path) == {}
    assert teach(tmp_path, steps=150) > 0.9
    begun = first_params(tmp_path, Run.base())
    for name, value in taught(tmp_path).items():
        assert torch.equal(begun[name], value)


def test_a_run_leaves_the_text_encoder_as_it_was(tmp_path: Path) -> None:
    fill_folder(tmp_path)
    run = Run.variant("none", 1, config=TINY, clips=1)
    train(tmp_path, run, Length(updates=2), 1, torch.device("cpu"))
    begun = load_file(run_folder(tmp_path, BASE) / AVERAGE)
    learned = load_file(run_folder(tmp_path, run.name) / AVERAGE)
    same = {name for name, value in begun.items() if torch.equal(value, learned[name])}
    assert same == {name for name in begun if name.startswith("text.")}
