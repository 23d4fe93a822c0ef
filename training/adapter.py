"""Measures Train State Adapter: an adapter for the demo model, and its loss on clips it never saw.

python -m training.adapter --steps 150                  # clips as the demo model knows them
python -m training.adapter --steps 150 --look negative  # the same in colours that it does not know
python -m training.adapter --steps 150 --anchor frozen  # a layout that it was not trained for

An exported run of the panorama learns a layout that it was not trained for, and the adapter is
kept, to be measured by `training.measure --through-nodes`:

python -m training.adapter --steps 300 --models folder --save adapter.safetensors
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tools.inprocess import Pack, open_comfyui
from training.measure.models import open_models
from training.panorama import prompts as panorama
from training.panorama.journey import Journey
from training.panorama.render import render as render_journeys
from training.prompts import split
from training.world import render

FRAMES, LEVELS = 45, (0.05, 0.25, 0.45, 0.65, 0.85)
"""Four chunks of the demo model; the shares of the schedule at which the loss is measured."""
NAME = "held-out measurement"


Clips = tuple[list[Tensor], list[str]]
"""Clips ``(T, H, W, 3)`` in 0 to 1, and the texts of their prompts."""


def journeys(count: int, *, unseen: bool) -> Clips:
    """Return painted clips of the panorama, from departure on."""
    prompts = panorama.split(unseen=unseen)
    seed = 90_000_000 if unseen else 80_000_000
    drawn = np.random.default_rng(seed).choice(len(prompts), count, replace=False)
    chosen = [prompts[number] for number in drawn]
    times = torch.arange(FRAMES, dtype=torch.float32)[None]
    painted = [render_journeys([Journey.draw(p, seed + i)], times) for i, p in enumerate(chosen)]
    images = [clip[0].permute(0, 2, 3, 1).float() / 255.0 for clip in painted]
    return images, [prompt.text for prompt in chosen]


def clips(count: int, *, unseen: bool, look: str) -> Clips:
    """Return rendered clips of the demo model's world."""
    prompts = list(islice(iter(split(unseen=unseen)[:: 37 if not unseen else 3]), count))
    seed = 90_000_000 if unseen else 80_000_000
    images = [
        torch.from_numpy(render(prompt, seed + i, FRAMES)).float().clamp(0, 1)
        for i, prompt in enumerate(prompts)
    ]
    if look == "negative":
        images = [1.0 - image for image in images]
    return images, [prompt.text for prompt in prompts]


class Measurement:
    """The loss of a model on some clips, at fixed noise, with the past of the clips.

    Args:
        pack: The pack.
        model: A MODEL from Apply AdaState.
        vae: Its VAE.
        images: The clips.
        prompts: A CONDITIONING for each.
    """

    def __init__(
        self, pack: Pack, model: Any, vae: Any, images: list[Tensor], prompts: list[Any]
    ) -> None:
        self._pack, self._prompts = pack, prompts
        self._bound = pack.part("adastate_comfy.model.binding").bound_model(model)
        encode = pack.part("adastate_comfy.training.clips")
        with torch.inference_mode():
            plans = [
                encode.plan_clip(image, i + 1, vae, self._bound, 0, 0)
                for i, image in enumerate(images)
            ]
            self._clips = [
                encode.encode_clip(plan, vae, self._bound, i) for i, plan in enumerate(plans)
            ]

    def losses(self, lora: dict[str, Tensor] | None) -> list[float]:
        """Return the loss on every clip, without an adapter or with one."""
        part, bound = self._pack.part, self._bound
        record = part("adastate_comfy.sampling.checks").record_conditions
        found: list[float] = []
        with torch.inference_mode(False), torch.no_grad():
            learner = part("adastate_comfy.training.learner").Learner.of(
                bound, 16, 0, torch.float32, checkpointing=False, begin=lora
            )
            prompts = tuple(record(p, None, False, 1.0).positive for p in self._prompts)
            blank = part("adastate_core.rollout.latent_block").LatentBlock(
                torch.zeros_like(self._clips[0].block(0, bound.config).video)
            )

            def body(session: Any) -> None:
                for clip in self._clips:
                    found.append(self._of_clip(session, learner.bound, clip))

            learner.open(prompts, *sampling(), blank, Quiet(), body)
        return found

    def _of_clip(self, session: Any, bound: Any, clip: Any) -> float:
        part = self._pack.part
        rollouts, plans = (
            part("adastate_core.training.rollout"),
            part("adastate_core.training.plan"),
        )
        geometry = bound.traits.geometry(*clip.content.shape[3:])
        rollout = rollouts.Rollout(bound.config, geometry, bound.pool.kv_format)
        count, losses = clip.chunks(bound.config), []

        class Watching:
            """A session whose chunks are looked at, and not learned."""

            commit, commit_noised = session.commit, session.commit_noised

            @staticmethod
            def learn(block: Any, noise: Any, level: float, view: Any, weight: float) -> float:
                model = bound.model.get_model_object("model_sampling")
                for at in LEVELS:
                    sigma = float(model.percent_to_sigma(at))
                    seen = session.predict(block, noise, sigma, view)
                    losses.append(float(rollouts.velocity_loss(seen, block.video, sigma)))
                return losses[-1]

        plan = plans.StepPlan(0, 0, (1.0,) * count, (0.5,) * count, (0.0,) * count, False, 7, 8)
        rollout.step(clip, plan, Watching())
        return statistics.fmean(losses)


class Quiet:
    """A place to report to that says nothing."""

    def step(self, step: int, denoised: Tensor) -> None: ...

    def commit(self) -> None: ...


def sampling() -> tuple[Any, Tensor]:
    """Return the SAMPLER and the SIGMAS that the demo model streams with."""
    import comfy.samplers

    levels = [1.0 - i / 12 for i in range(13)]
    shifted = [3.0 * s / (1.0 + 2.0 * s) for s in levels]
    return comfy.samplers.sampler_object("euler"), torch.tensor(shifted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--held-out", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--look", choices=("as trained", "negative"), default="as trained")
    parser.add_argument("--anchor", default="adaptive")
    parser.add_argument("--models", type=Path, help="an exported run of the panorama")
    parser.add_argument("--save", type=Path, help="where to write the adapter")
    given = parser.parse_args()
    open_comfyui()
    pack = Pack()
    bare, clip, vae = open_models(pack, given.models)
    (model,) = pack.run(
        "AdaStateApply",
        model=bare,
        anchor=given.anchor,
        chunk_frames=3,
        window_frames=3,
        state_frames=1,
        anchor_frames=3,
    )
    import nodes

    def encode(text: str) -> Any:
        with torch.inference_mode():
            return nodes.CLIPTextEncode().encode(clip, text)[0]

    if given.models is None:
        images, texts = clips(given.clips, unseen=False, look=given.look)
        others, words = clips(given.held_out, unseen=True, look=given.look)
    else:
        images, texts = journeys(given.clips, unseen=False)
        others, words = journeys(given.held_out, unseen=True)
    held_out = Measurement(pack, model, vae, others, [encode(text) for text in words])
    before = held_out.losses(None)
    begin = time.monotonic()
    sampler, sigmas = sampling()
    inputs: dict[str, Any] = {
        **{"model": model, "vae": vae, "sampler": sampler, "sigmas": sigmas},
        **{"steps": given.steps, "learning_rate": given.rate, "rank": 16, "rollout_chunks": 4},
        **{"horizon_alpha": 2.0, "own_past": 0.0, "seed": 0, "name": NAME, "save_every": 1000},
        **{"resume": False, "width": 0, "height": 0, "training_dtype": "fp32"},
        "gradient_checkpointing": False,
    }
    listed = {key: [value] for key, value in inputs.items()}
    listed |= {"clips": images, "positive": [encode(text) for text in texts]}
    lora, losses, _ = pack.run("AdaStateTrainAdapter", **listed)
    minutes = (time.monotonic() - begin) / 60
    if given.save is not None:
        save_file(lora, given.save)
    after = held_out.losses(lora)
    change = [new / old - 1.0 for old, new in zip(before, after, strict=True)]
    spread = statistics.stdev(change) / math.sqrt(len(change))
    print(
        json.dumps(
            {
                "look": given.look if given.models is None else "panorama",
                "anchor": given.anchor,
                "steps": given.steps,
                "minutes": round(minutes, 2),
                "training_loss_first_and_last_tenth": [
                    round(statistics.fmean(part), 4)
                    for part in (
                        losses["loss"][: max(1, given.steps // 10)],
                        losses["loss"][-max(1, given.steps // 10) :],
                    )
                ],
                "held_out_before": round(statistics.fmean(before), 4),
                "held_out_after": round(statistics.fmean(after), 4),
                "change_percent": round(100 * statistics.fmean(change), 2),
                "standard_error_percent": round(100 * spread, 2),
                "clips_that_improved": f"{sum(c < 0 for c in change)} of {len(change)}",
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
