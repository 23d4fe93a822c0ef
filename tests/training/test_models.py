"""Training's compact forwards give the numbers of ComfyUI's classes, and the assets load there."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from training import dit, text
from training.dit import DitConfig, Groups
from training.export import DIT_FILE, TEXT_FILE, VAE_FILE, WAN_MEAN, WAN_STD, fold_scale
from training.rollout import GRID, Stream, draw_noise, generate_latents, shifted_sigmas
from training.settings import ASSETS
from training.vae import ClipVAE

TEXT = "red circle moving left, camera pans right, blue hills"


def random_params(config: DitConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    params = dit.init_params(config, generator)
    return {n: v + 0.05 * torch.randn(v.shape, generator=generator) for n, v in params.items()}


def test_dit_equals_stock(comfy: Callable[[str], ModuleType]) -> None:
    config = DitConfig(dim=256, ffn_dim=64, layers=2, text_dim=32)
    params = random_params(config)
    ops = comfy("comfy.ops").disable_weight_init
    stock = comfy("comfy.ldm.wan.model").WanModel(
        model_type="t2v",
        in_dim=16,
        out_dim=16,
        dim=256,
        ffn_dim=64,
        num_heads=2,
        num_layers=2,
        text_dim=32,
        dtype=torch.float32,
        device="cpu",
        operations=ops,
    )
    stock.load_state_dict(params)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 16, 4, 8, 8, generator=generator)
    words, lengths = torch.randn(2, 5, 32, generator=generator), torch.tensor([5, 2])
    words[1, 2:] = 0.0
    t = torch.tensor([250.0, 900.0])
    place = torch.meshgrid(
        torch.tensor([0.0, 4.0, 5.0, 6.0]), torch.arange(4.0), torch.arange(4.0), indexing="ij"
    )
    freqs = stock.rope_embedder(torch.stack(place, -1).reshape(1, -1, 3)).movedim(1, 2)
    padded = torch.nn.functional.pad(words, (0, 0, 0, 512 - 5))
    groups = Groups(2, torch.zeros(0, dtype=torch.long), torch.arange(2))
    with torch.no_grad():
        expected = stock.forward_orig(x, t, padded, freqs=freqs)
        actual = dit.grouped_forward(params, config, x, t, words, lengths, groups)
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-4)


def test_teacher_forcing_equals_cache() -> None:
    """Three chunks in one grouped forward are the three chunks streamed one by one."""
    config = DitConfig(dim=128, ffn_dim=64, layers=3, text_dim=16)
    params = random_params(config)
    generator = torch.Generator().manual_seed(2)
    clean, noisy = torch.randn(2, 3, 16, 4, 16, 16, generator=generator)
    words, lengths = torch.randn(1, 4, 16, generator=generator), torch.tensor([4])
    # Groups: clean 0, noisy 0 | clean 1, noisy 1, noisy 2.
    x = torch.stack([clean[0], noisy[0], clean[1], noisy[1], noisy[2]])
    t = torch.tensor([0.0, 700.0, 0.0, 700.0, 700.0])
    groups = Groups(2, torch.tensor([0, 0, 2]), torch.zeros(5, dtype=torch.long))
    with torch.no_grad():
        together = dit.grouped_forward(params, config, x, t, words, lengths, groups)[[1, 3, 4]]
        stream = Stream(params, config, words, lengths)
        for k in range(3):
            alone, _ = stream.predict(noisy[k : k + 1], 0.7)
            torch.testing.assert_close(alone[0], together[k], atol=1e-4, rtol=1e-3)
            _, written = stream.predict(clean[k : k + 1], 0.0)
            stream.anchor = [(key[:, :64], value[:, :64]) for key, value in written]
            stream.window = [(key[:, 64:], value[:, 64:]) for key, value in written]


@pytest.mark.parametrize("row", ["adaptive", "held", "frozen", "none"])
def test_rollout_is_deterministic(row: str) -> None:
    config = DitConfig(dim=128, ffn_dim=32, layers=1, text_dim=16)
    params = {n: v.bfloat16() for n, v in random_params(config).items()}
    words, lengths = torch.zeros(2, 3, 16, dtype=torch.bfloat16), torch.tensor([3, 1])

    def run() -> torch.Tensor:
        stream = Stream(params, config, words, lengths, row)
        content, states = generate_latents(stream, [5, 6], 3, shifted_sigmas(2, 3.0))
        assert (states is None) == (row in ("frozen", "none"))
        return content

    content = run()
    assert content.shape == (2, 16, 9, *GRID)
    torch.testing.assert_close(content, run(), atol=0.0, rtol=0.0)
    assert not torch.equal(draw_noise([5], 0, 1, 1, (4, 4)), draw_noise([5], 1, 1, 1, (4, 4)))


@pytest.mark.parametrize("frames", [1, 5, 9, 17])
def test_vae_equals_stock(comfy: Callable[[str], ModuleType], frames: int) -> None:
    vae = ClipVAE(dim=8)
    state = vae.stock_state_dict()
    stock = comfy("comfy.ldm.wan.vae").WanVAE(
        dim=8,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attn_scales=[],
        temperal_downsample=[False, True, True],
    )
    stock.load_state_dict(state)
    generator = torch.Generator().manual_seed(frames)
    video = torch.rand(1, 3, frames, 32, 32, generator=generator) * 2.0 - 1.0
    with torch.no_grad():
        latents = vae.encode(video)[0]
        torch.testing.assert_close(latents, stock.encode(video), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(vae.decode(latents), stock.decode(latents), atol=1e-4, rtol=1e-4)


def test_folded_scale_is_undone_by_the_host() -> None:
    generator = torch.Generator().manual_seed(0)
    vae, folded = ClipVAE(dim=8), ClipVAE(dim=8)
    mean, std = torch.randn(16, generator=generator), torch.rand(16, generator=generator) + 0.5
    folded.load_stock(fold_scale(vae.stock_state_dict(), mean, std))
    video = torch.rand(1, 3, 5, 32, 32, generator=generator) * 2.0 - 1.0
    wan_mean, wan_std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (WAN_MEAN, WAN_STD))
    with torch.no_grad():
        plain, host = vae.encode(video)[0], folded.encode(video)[0]
        normal = (plain - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1)
        torch.testing.assert_close((host - wan_mean) / wan_std, normal, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(vae.decode(plain), folded.decode(host), atol=1e-4, rtol=1e-4)


def test_assets_load_through_stock_loaders(comfy: Callable[[str], ModuleType]) -> None:
    sd = comfy("comfy.sd")
    with torch.inference_mode():
        state = load_file(ASSETS / TEXT_FILE)
        with safe_open(ASSETS / TEXT_FILE, "pt") as file:
            config = json.loads(file.metadata()["umt5xxl_model_config"])
        clip = sd.load_text_encoder_state_dicts(
            [dict(state)], clip_type=sd.CLIPType.WAN, model_options={"umt5xxl_model_config": config}
        )
        hidden = clip.encode_from_tokens_scheduled(clip.tokenize(TEXT))[0][0]
        ids, lengths = text.Tokenizer(state["spiece_model"].numpy().tobytes())([TEXT])
        own = text.encode({n: v.float() for n, v in state.items()}, ids, lengths)
        assert hidden.shape == (1, 512, text.D_MODEL)
        torch.testing.assert_close(hidden[:, : ids.shape[1]].float(), own, atol=2e-2, rtol=2e-2)
        assert not hidden[:, ids.shape[1] :].any()

        with safe_open(ASSETS / VAE_FILE, "pt") as file:
            assert "description" in file.metadata()
        vae = sd.VAE(sd=load_file(ASSETS / VAE_FILE))
        assert vae.decode(torch.zeros(1, 16, 2, 8, 8)).shape[-3:] == (64, 64, 3)

        with safe_open(ASSETS / DIT_FILE, "pt") as file:
            metadata = file.metadata()
        weights = load_file(ASSETS / DIT_FILE)
        model = sd.load_diffusion_model_state_dict(dict(weights), metadata=metadata)
        assert type(model.model).__name__ == "WAN21"
        assert model.model.diffusion_model.text_dim == text.D_MODEL
        assert set(weights) == set(model.model.diffusion_model.state_dict())
