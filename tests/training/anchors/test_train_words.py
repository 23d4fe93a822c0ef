"""Words of a prompt learn what the others say, and a base begins with them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.support.tiny_anchors import fill_folder, tiny_params
from training.anchors.runs import Run, first_params
from training.anchors.train_words import CHOICES, choices_of, taught, teach
from training.panorama.prompts import parse_prompt

TEXT = "a green kite bobbing, travelling left at a slow pace from the town to the forest, by day"


def test_what_a_prompt_says_is_numbered() -> None:
    (said,) = choices_of([parse_prompt(TEXT)]).tolist()
    words = [known[number] for known, number in zip(CHOICES, said, strict=True)]
    assert words == ["green", "kite", "bobbing", "left", "slow", "town", "forest", "by day"]


@pytest.mark.slow
def test_words_learn_what_others_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADASTATE_TRAIN_DIR", str(tmp_path))
    torch.set_num_threads(1)
    fill_folder(tmp_path)
    assert taught(tmp_path) == {}
    teach(tmp_path, tiny_params(), minutes=9.0, most=102)
    lines = (tmp_path / "words.log").read_text("utf-8").splitlines()
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
    guessed = sum(math.log(len(known)) for known in CHOICES) / len(CHOICES)
    assert losses[0] == pytest.approx(guessed, abs=0.001)
    assert losses[2] < 0.9 * losses[0]
    begun = first_params(tmp_path, Run.base())
    for name, value in taught(tmp_path).items():
        assert torch.equal(begun[name].detach(), value)
