"""Turns the latent space so that ComfyUI's stock latent preview shows true colours.

The preview multiplies a Wan latent by fixed colour factors, made for the official VAE. Which basis
a VAE's latent channels have is arbitrary, and white noise looks the same in every one: so the
demo's latents, and with them VAE and DiT, are rotated to the basis in which those factors fit.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import avg_pool2d

from training.latents import LONG_CHUNKS, LONG_SEED, frames_of, prompt_index
from training.prompts import split
from training.world import render

# `latent_rgb_factors` of ComfyUI's latent format Wan21, one row a channel.
WAN_RGB = (
    (-0.1299, -0.1692, 0.2932),
    (0.0671, 0.0406, 0.0442),
    (0.3568, 0.2548, 0.1747),
    (0.0372, 0.2344, 0.1420),
    (0.0313, 0.0189, -0.0328),
    (0.0296, -0.0956, -0.0665),
    (-0.3477, -0.4059, -0.2925),
    (0.0166, 0.1902, 0.1975),
    (-0.0412, 0.0267, -0.1364),
    (-0.1293, 0.0740, 0.1636),
    (0.0680, 0.3019, 0.1128),
    (0.0032, 0.0581, 0.0639),
    (-0.1251, 0.0927, 0.1699),
    (0.0060, -0.0633, 0.0005),
    (0.3477, 0.2275, 0.2950),
    (0.1984, 0.0913, 0.1861),
)


def fit_colours(latents: Tensor, colours: Tensor) -> Tensor:
    """Least-squares colour of a latent, without its constant: ``(3, 16)``.

    Args:
        latents: Normalised latents ``(N, 16)``.
        colours: The pictures' mean colours at the same places ``(N, 3)`` in [-1, 1].
    """
    ones = torch.ones(len(latents), 1)
    solution = torch.linalg.lstsq(torch.cat([latents, ones], 1), colours).solution
    return solution[:-1].T


def preview_rotation(colour_of: Tensor) -> Tensor:
    """Orthogonal ``Q (16, 16)`` that brings the preview of ``Q z`` closest to the colour of ``z``.

    The orthogonal Procrustes solution of ``F^T Q = A`` (Schoenemann 1966).
    """
    factors = torch.tensor(WAN_RGB)
    u, _, vh = torch.linalg.svd(factors @ colour_of)
    return u @ vh


def measure_rotation(folder: Path, clips: int = 12) -> Tensor:
    """Fit the rotation to encoded clips whose pictures can be drawn again."""
    scale = load_file(folder / "scale.safetensors")
    content = load_file(min(folder.glob("long_*.safetensors")))["content"][:clips].float()
    points, colours = [], []
    for i, clip in enumerate(content):
        seed = LONG_SEED + i
        frames = render(split(unseen=False)[prompt_index(seed)], seed, frames_of(LONG_CHUNKS))
        small = avg_pool2d(torch.from_numpy(frames).permute(0, 3, 1, 2) * 2.0 - 1.0, 8)
        # The first latent frame holds one picture, each later one four.
        means = small[1:].unflatten(0, (-1, 4)).mean(1)
        z = (clip - scale["mean"].view(-1, 1, 1, 1)) / scale["std"].view(-1, 1, 1, 1)
        points.append(z[:, 1:].flatten(1).T)
        colours.append(means.transpose(0, 1).flatten(1).T)
    return preview_rotation(fit_colours(torch.cat(points), torch.cat(colours)))


def rotate_vae(state: dict[str, Tensor], q: Tensor, mean: Tensor, std: Tensor) -> dict[str, Tensor]:
    """Rotate the latents of a VAE; mean and std are those of its latent format, ``(16,)``."""
    state = dict(state)
    turn = std[:, None] * q / std[None, :]
    back = std[:, None] * q.T / std[None, :]
    size = len(q)
    weight, bias = state["conv1.weight"].clone(), state["conv1.bias"].clone()
    weight[:size] = torch.einsum("ij,jcxyz->icxyz", turn, weight[:size])
    bias[:size] = turn @ (bias[:size] - mean) + mean
    state["conv1.weight"], state["conv1.bias"] = weight, bias
    weight = state["conv2.weight"]
    rotated = torch.einsum("ojxyz,ji->oixyz", weight, back)
    state["conv2.bias"] = state["conv2.bias"] + (weight - rotated)[..., 0, 0, 0] @ mean
    state["conv2.weight"] = rotated
    return state


def rotate_dit(state: dict[str, Tensor], q: Tensor) -> dict[str, Tensor]:
    """Make a DiT read and predict rotated latents."""
    state = dict(state)
    state["patch_embedding.weight"] = torch.einsum(
        "djtyx,ij->dityx", state["patch_embedding.weight"], q
    )
    weight, bias = state["head.head.weight"], state["head.head.bias"]
    # The head's rows are patch positions, channels innermost.
    rows = weight.view(-1, len(q), weight.shape[1])
    state["head.head.weight"] = torch.einsum("ij,pjd->pid", q, rows).reshape(weight.shape)
    state["head.head.bias"] = (bias.view(-1, len(q)) @ q.T).reshape(bias.shape)
    return state
