"""The decoder goes on alone: what encoded the latents stays as it was, and export takes the new."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from training.anchors.pictures import FRAMES
from training.anchors.train_vae import ENCODED_BY, ENCODER, newest_vae, train_vae
from training.anchors.vae_device import VaeSizes, train_vae_on
from training.export import VAE_FILE
from training.panorama.journey import HEIGHT, WIDTH
from training.settings import ASSETS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the VAE of latents, and two clips to learn from."""
    monkeypatch.setenv("ADASTATE_TRAIN_DIR", str(tmp_path))
    (tmp_path / ENCODED_BY).parent.mkdir()
    # In half precision, as what is kept of a VAE: what is polished is written in single.
    shutil.copyfile(ASSETS / VAE_FILE, tmp_path / ENCODED_BY)
    generator = np.random.default_rng(1)
    clips = generator.integers(0, 256, (2, FRAMES, 3, HEIGHT, WIDTH), np.uint8)
    np.save(tmp_path / "pictures.npy", clips)
    np.save(tmp_path / "middles.npy", np.full((2, FRAMES, 2), 50.0, np.float32))
    return tmp_path


def by_workers(folder: Path) -> Path:
    """Polish as a CPU does."""
    return train_vae(folder, minutes=1e-4, workers=1, stage="polish")


def in_one_process(folder: Path) -> Path:
    """Polish as a card does."""
    sizes = VaeSizes(pool=2, times=1)
    return train_vae_on(folder, 1e-4, torch.device("cpu"), sizes, stage="polish")


@pytest.mark.slow
@pytest.mark.parametrize("polish", [by_workers, in_one_process])
def test_polishing_changes_the_decoder_alone(folder: Path, polish: Callable[[Path], Path]) -> None:
    assert newest_vae(folder) == folder / ENCODED_BY
    polished = polish(folder)
    assert newest_vae(folder) == polished
    before, after = load_file(folder / ENCODED_BY), load_file(polished)
    changed = {name for name in before if not torch.equal(before[name].float(), after[name])}
    assert any(name.startswith("decoder.") for name in changed)
    assert not any(name.startswith(ENCODER) for name in changed)

    # Latents by another VAE: it would decode them to something else.
    other = {name: value + 0.01 for name, value in before.items()}
    save_file(other, folder / ENCODED_BY)
    with pytest.raises(ValueError, match="does not decode these latents"):
        newest_vae(folder)


def test_nothing_is_polished_without_latents(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make latents with stage latents first"):
        train_vae(tmp_path, minutes=1.0, stage="polish")
