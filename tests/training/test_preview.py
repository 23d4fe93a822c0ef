"""Rotating the latent space changes what the preview shows and nothing else."""

from __future__ import annotations

import json

import torch

from training import dit
from training.dit import DitConfig
from training.preview import WAN_RGB, fit_colours, preview_rotation, rotate_dit, rotate_vae
from training.preview_factors import WORLD, world_text

SOURCE = torch.Generator().manual_seed(0)
ROTATION = torch.linalg.qr(torch.randn((16, 16), generator=SOURCE))[0]
MEAN, STD = torch.randn(16, generator=SOURCE), torch.rand(16, generator=SOURCE) + 0.5


def test_the_rotation_finds_the_colours() -> None:
    """Latents whose colour hides in another basis come out in the preview's own."""
    colour_of = torch.tensor(WAN_RGB).T @ ROTATION
    latents = torch.randn((500, 16), generator=SOURCE)
    fitted = fit_colours(latents, latents @ colour_of.T + 0.3)
    torch.testing.assert_close(fitted, colour_of, atol=1e-4, rtol=0)
    found = preview_rotation(fitted)
    torch.testing.assert_close(found @ found.T, torch.eye(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.tensor(WAN_RGB).T @ found, colour_of, atol=1e-4, rtol=0)


def test_the_vae_codes_the_same_pictures() -> None:
    state = {
        "conv1.weight": torch.randn((32, 32, 1, 1, 1), generator=SOURCE),
        "conv1.bias": torch.randn(32, generator=SOURCE),
        "conv2.weight": torch.randn((16, 16, 1, 1, 1), generator=SOURCE),
        "conv2.bias": torch.randn(16, generator=SOURCE),
    }
    turned = rotate_vae(state, ROTATION, MEAN, STD)
    hidden = torch.randn((7, 32), generator=SOURCE)

    def latents(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        raw = hidden @ weights["conv1.weight"][:, :, 0, 0, 0].T + weights["conv1.bias"]
        return (raw[:, :16] - MEAN) / STD

    def decoded(weights: dict[str, torch.Tensor], z: torch.Tensor) -> torch.Tensor:
        raw = z * STD + MEAN
        return raw @ weights["conv2.weight"][:, :, 0, 0, 0].T + weights["conv2.bias"]

    z = latents(state)
    torch.testing.assert_close(latents(turned), z @ ROTATION.T, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        decoded(turned, z @ ROTATION.T), decoded(state, z), atol=1e-4, rtol=1e-4
    )


def test_the_dit_predicts_the_same_in_the_new_basis() -> None:
    config = DitConfig(dim=128, ffn_dim=128, layers=1, text_dim=32)
    params = dit.init_params(config, SOURCE)
    params["head.head.weight"] = torch.randn(params["head.head.weight"].shape, generator=SOURCE)
    params["head.head.bias"] = torch.randn(params["head.head.bias"].shape, generator=SOURCE)
    turned = rotate_dit(params, ROTATION)
    x = torch.randn((1, 16, 2, 4, 4), generator=SOURCE)
    rotated = torch.einsum("ij,bjthw->bithw", ROTATION, x)
    torch.testing.assert_close(
        dit.embed_patches(turned, rotated), dit.embed_patches(params, x), atol=1e-4, rtol=1e-4
    )
    tokens = torch.randn((1, 8, 128), generator=SOURCE)
    e, _ = dit.embed_time(params, torch.tensor([500.0]), torch.float32)
    plain = dit.unpatchify(dit.head(params, tokens, e), 2, 2)
    again = dit.unpatchify(dit.head(turned, tokens, e), 2, 2)
    expected = torch.einsum("ij,bjthw->bithw", ROTATION, plain)
    torch.testing.assert_close(again, expected, atol=1e-4, rtol=1e-4)


def test_the_file_of_the_world_is_written_as_it_ships() -> None:
    text = WORLD.read_text("utf-8")
    said = json.loads(text)
    colours = torch.tensor([*said["latent_rgb_factors"], said["latent_rgb_factors_bias"]])
    assert colours.shape == (17, 3)
    assert world_text(said["words"], said["fingerprint"], colours) == text
