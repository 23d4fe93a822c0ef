"""Runs of Train State Adapter on a tiny model, in process."""

from __future__ import annotations

from typing import Any

import torch

from tests.support.harness import NodeHarness, conditioning

FRAMES = 21
"""Two chunks of 3 latent frames of a Wan model, and a bit."""


def moving_clip(frames: int = FRAMES, seed: int = 0, height: int = 32, width: int = 48) -> Any:
    """Return images in which a bright bar travels over a coloured ground."""
    source = torch.Generator().manual_seed(seed)
    clip = torch.rand((1, 1, 1, 3), generator=source).expand(frames, height, width, 3).clone()
    for frame in range(frames):
        clip[frame, :, (2 * frame + 5 * seed) % width] = 1.0
    return clip


def train(
    harness: NodeHarness, vae: Any, steps: int, *, name: str = "run", **changes: Any
) -> tuple[Any, Any, Any]:
    """Execute the node as ComfyUI does: every input comes as a list."""
    import comfy.samplers

    given = {
        "model": harness.model,
        "vae": vae,
        "sampler": comfy.samplers.sampler_object("lcm"),
        "sigmas": torch.tensor((1.0, 0.6, 0.0)),
        "steps": steps,
        "learning_rate": 2e-3,
        "rank": 4,
        "rollout_chunks": 2,
        "horizon_alpha": 2.0,
        "own_past": 0.5,
        "seed": 3,
        "name": name,
        "save_every": 100,
        "resume": True,
        "width": 0,
        "height": 0,
        "training_dtype": "fp32",
        "gradient_checkpointing": False,
        **changes,
    }
    given = {key: [value] for key, value in given.items() if key not in ("clips", "positive")}
    given["clips"] = changes.get("clips", [moving_clip()])
    given["positive"] = changes.get("positive", [conditioning(0)])
    lora, losses, done = harness.run("AdaStateTrainAdapter", **given)
    return lora, losses["loss"], done
