"""Exported runs load in the host's own loaders, and say there what they say in training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.support.tiny_anchors import TINY, fill_folder
from training.anchors.export import export, preview_basis
from training.anchors.latents import FOLDER, SCALE
from training.anchors.memory import Memory, anchor_config
from training.anchors.network import Network
from training.anchors.runs import BASE, run_folder
from training.anchors.streaming import Weights, embedded
from training.anchors.train_vae import ENCODED_BY
from training.export import DIT_FILE, TEXT_FILE, VAE_FILE, WAN_MEAN, WAN_STD
from training.panorama.prompts import split
from training.settings import ASSETS
from training.train_dit import part
from training.train_vae import load_vae


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADASTATE_TRAIN_DIR", str(folder))
        fill_folder(folder)
        vae = {name: value.float() for name, value in load_file(ASSETS / VAE_FILE).items()}
        save_file(vae, folder / ENCODED_BY)
        generator = torch.Generator().manual_seed(4)
        scale = {"mean": torch.randn(16, generator=generator), "std": torch.full((16,), 1.5)}
        save_file(scale, folder / FOLDER / SCALE)
        export(folder, BASE, folder / "out")
    return folder


def test_the_basis_is_a_rotation_and_is_kept(folder: Path) -> None:
    basis = preview_basis(folder)
    torch.testing.assert_close(basis @ basis.T, torch.eye(16), atol=1e-5, rtol=0.0)
    assert torch.equal(basis, preview_basis(folder))


@torch.inference_mode()
def test_the_host_says_what_training_says(comfy: Callable[[str], ModuleType], folder: Path) -> None:
    sd, out = comfy("comfy.sd"), folder / "out"
    state = load_file(out / TEXT_FILE)
    with safe_open(out / TEXT_FILE, "pt") as file:
        config = json.loads(file.metadata()["umt5xxl_model_config"])
    clip = sd.load_text_encoder_state_dicts(
        [dict(state)], clip_type=sd.CLIPType.WAN, model_options={"umt5xxl_model_config": config}
    )
    prompt = split(unseen=True)[5].text
    hidden = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))[0][0].float()
    with safe_open(out / DIT_FILE, "pt") as file:
        metadata = file.metadata()
    assert metadata["anchors"] == "adaptive frozen none ema"
    assert json.loads(metadata["config"])["sampling"] == {"shift": 3.0}
    weights = load_file(out / DIT_FILE)
    model = sd.load_diffusion_model_state_dict(dict(weights), metadata=metadata)
    assert type(model.model).__name__ == "WAN21"
    host = model.model.diffusion_model.float()

    trained = Weights.load(run_folder(folder, BASE))
    x = torch.randn(1, 16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([600.0])
    # Places in time of the host's forward begin with 0, as those of a stream without an anchor
    # do not; attention sees differences alone.
    memory, params = Memory(anchor_config("none")), part(trained.params, "dit.", torch.float32)
    expected = Network(TINY).velocity(
        params, x, t, embedded(trained, [prompt]), None, memory.layout()
    )
    basis = preview_basis(folder)
    turned = torch.einsum("ij,bjthw->bithw", basis, x)
    seen = torch.einsum("ij,bithw->bjthw", basis, host(turned, t, hidden).float())
    torch.testing.assert_close(seen, expected, atol=3e-2, rtol=3e-2)


@torch.no_grad()
def test_the_vae_speaks_the_scale_of_the_host(
    comfy: Callable[[str], ModuleType], folder: Path
) -> None:
    vae = load_vae(folder / ENCODED_BY)
    exported = load_vae(folder / "out" / VAE_FILE)
    video = torch.rand(2, 3, 5, 32, 32, generator=torch.Generator().manual_seed(2)) * 2.0 - 1.0
    scale, shape = load_file(folder / FOLDER / SCALE), (1, -1, 1, 1, 1)
    ours = (vae.encode(video)[0] - scale["mean"].view(shape)) / scale["std"].view(shape)
    mean, std = (torch.tensor(v).view(shape) for v in (WAN_MEAN, WAN_STD))
    host = (exported.encode(video)[0] - mean) / std
    turned = torch.einsum("ij,bjthw->bithw", preview_basis(folder), ours)
    torch.testing.assert_close(host, turned, atol=3e-2, rtol=3e-2)
    state = comfy("comfy.sd").VAE(sd=load_file(folder / "out" / VAE_FILE))
    assert state.decode(torch.zeros(1, 16, 2, 8, 8)).shape[-3:] == (64, 64, 3)


def test_a_run_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nobody"):
        export(folder, "nobody", folder / "nowhere")
