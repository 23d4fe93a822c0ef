"""Checkpoints: whole or not at all, of the same run or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from adastate_core.errors import ConfigError, StateFileError
from adastate_core.training.checkpoint import FORMAT, TrainingCheckpoint

IDENTITY = {"model": "abc", "rank": "4"}


def checkpoint(step: int = 2) -> TrainingCheckpoint:
    return TrainingCheckpoint(
        step=step,
        identity=IDENTITY,
        adapter={"x.lora_up.weight": torch.randn(3, 2)},
        optimizer={"exp_avg/x.lora_up.weight": torch.randn(3, 2), "step/x": torch.tensor(2.0)},
        losses=(0.1, 1 / 3)[:step],
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    kept, path = checkpoint(), tmp_path / "run.safetensors"
    kept.write(path)
    read = TrainingCheckpoint.read(path)
    assert (read.step, read.identity, read.losses) == (2, IDENTITY, kept.losses)
    for theirs, ours in ((read.adapter, kept.adapter), (read.optimizer, kept.optimizer)):
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    assert [file.name for file in tmp_path.iterdir()] == ["run.safetensors"]


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    checkpoint().write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StateFileError, match=r"run\.safetensors is damaged"):
        TrainingCheckpoint.read(path)
    for said in (
        {},
        {"format": FORMAT},
        {"format": FORMAT, "step": "x", "identity": "{}"},
        {"format": FORMAT, "step": "5", "identity": "{}"},
        {"format": FORMAT, "step": "1", "identity": "[]"},
    ):
        save_file({"losses": torch.zeros(1)}, path, said)
        with pytest.raises(StateFileError, match="is damaged"):
            TrainingCheckpoint.read(path)


def test_another_run_is_named() -> None:
    kept = checkpoint()
    kept.require_same(IDENTITY, "run")
    kept.require_same({"rank": "4"}, "run")
    with pytest.raises(ConfigError) as error:
        kept.require_same({**IDENTITY, "rank": "8"}, "run")
    assert str(error.value) == (
        '"run" was begun with another rank. Choose another name, or turn resume off to begin again.'
    )
