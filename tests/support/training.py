"""Runs of Train State Adapter on a tiny model, in process."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from tests.support.harness import NodeHarness, conditioning, same_rng

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


class Quiet:
    """A place to report to that says nothing."""

    def step(self, step: int, denoised: torch.Tensor) -> None: ...

    def commit(self) -> None: ...


class Bench:
    """A learner on random latents, without a VAE, a file or a page.

    Args:
        pack: The pack's module.
        model: A MODEL from Apply AdaState.
        prompt: A CONDITIONING.
        options: What `Learner.of` takes besides.
    """

    def __init__(self, pack: Any, model: Any, prompt: list[Any], **options: Any) -> None:
        self.name = pack.__name__
        learner = self.module("adastate_comfy.training.learner")
        checks = self.module("adastate_comfy.sampling.checks")
        self.bound = self.module("adastate_comfy.model.binding").bound_model(model)
        self.prompts = (checks.record_conditions(prompt, None, False, 1.0).positive,)
        given = {"rank": 2, "seed": 1, "dtype": torch.float32, "checkpointing": False, **options}
        with torch.inference_mode(False), torch.no_grad():
            self.learner = learner.Learner.of(self.bound, **given)

    def module(self, path: str) -> Any:
        return importlib.import_module(f"{self.name}.{path}")

    def clip(self, chunks: int, size: tuple[int, int], seed: int = 0) -> Any:
        """Return a clip of random latents."""
        rollout = self.module("adastate_core.training.rollout")
        config, channels = self.bound.config, self.bound.traits.latent_channels
        states = self.bound.policy.state_frames(config)
        source = torch.Generator().manual_seed(seed)
        content, state = (
            torch.randn((1, channels, chunks * frames, *size), generator=source)
            for frames in (config.chunk_frames, states)
        )
        return rollout.TrainingClip(content, state if states else None, 0)

    def plan(self, chunks: int, **changes: Any) -> Any:
        plans = self.module("adastate_core.training.plan")
        options = plans.TrainingOptions(
            steps=10, **{"rollout_chunks": chunks, "own_past": 0.0, "seed": 5, **changes}
        )
        return plans.plan_step(options, 0, (chunks,))

    def open(self, clip: Any, body: Any, sigmas: tuple[float, ...] = (1.0, 0.6, 0.0)) -> None:
        import comfy.samplers

        block = self.module("adastate_core.rollout.latent_block").LatentBlock
        blank = block(torch.zeros_like(clip.block(0, self.bound.config).video))
        sampler = comfy.samplers.sampler_object("euler")
        with torch.inference_mode(False), torch.no_grad(), same_rng():
            self.learner.open(self.prompts, sampler, torch.tensor(sigmas), blank, Quiet(), body)

    def rollout(self, clip: Any) -> Any:
        rollout = self.module("adastate_core.training.rollout")
        bound = self.learner.bound
        geometry = bound.traits.geometry(*clip.content.shape[3:])
        return rollout.Rollout(bound.config, geometry, bound.pool.kv_format)

    def gradients(self, clip: Any, plan: Any) -> dict[str, Any]:
        """Return the gradients that one step leaves, from an adapter that says something."""
        adapter = self.learner.adapter
        source = torch.Generator().manual_seed(2)
        with torch.inference_mode(False), torch.no_grad():
            for value in adapter.parameters.values():
                value.copy_(torch.randn(value.shape, generator=source) * 0.05)
        self.open(clip, lambda session: self.rollout(clip).step(clip, plan, session))
        return {name: value.grad for name, value in adapter.parameters.items()}
