"""A tiny model of every family, and steps of a stream with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from tests.support import tiny_models
from tests.support.harness import NodeHarness

HEIGHT, WIDTH, VIDEO = 4, 6, 6


@dataclass(frozen=True)
class Case:
    """A tiny model, by file or built, and what its forward takes besides the video."""

    model: str | Callable[[], Any]
    channels: int
    text_width: int
    extras: dict[str, int] = field(default_factory=dict)
    tolerance: float = 1e-5
    attention_mask: bool = False
    image: bool = False
    vision: dict[str, tuple[int, int]] = field(default_factory=dict)

    def conditioning(self, seed: int) -> list[Any]:
        source = torch.Generator().manual_seed(seed)
        extras = {n: torch.randn((1, size), generator=source) for n, size in self.extras.items()}
        if self.attention_mask:
            extras["attention_mask"] = torch.ones((1, 8), dtype=torch.long)
        if self.image:  # another one for every frame, of which only the first is given
            shape = (1, self.channels, VIDEO, HEIGHT, WIDTH)
            extras["concat_latent_image"] = torch.randn(shape, generator=source)
            extras["concat_mask"] = torch.ones((1, 1, VIDEO, HEIGHT, WIDTH))
            extras["concat_mask"][:, :, 0] = 0.0
        if self.vision:
            from comfy.clip_vision import Output

            extras["clip_vision_output"] = Output()
            for name, size in self.vision.items():
                extras["clip_vision_output"][name] = torch.randn((1, *size), generator=source)
        return [[torch.randn((1, 8, self.text_width), generator=source), extras]]


CASES = {
    "wan 2.1": Case(tiny_models.WAN, 16, 4096),
    "wan 2.1 causal": Case(tiny_models.WAN_CAUSAL, 16, 4096),
    "wan 2.2 5B": Case(tiny_models.WAN_22_5B, 48, 4096),
    "wan 2.1 i2v": Case(
        tiny_models.WAN_I2V,
        16,
        4096,
        image=True,
        vision={"penultimate_hidden_states": (257, 1280), "last_hidden_state": (257, 1280)},
    ),
    "wan 2.2 i2v": Case(tiny_models.WAN_22_I2V, 16, 4096, image=True),
    "hunyuan video 1.5": Case(tiny_models.HUNYUAN_15, 32, 64, {"pooled_output": 768}),
    "hunyuan video 1.5 i2v": Case(
        tiny_models.HUNYUAN_15,
        32,
        64,
        {"pooled_output": 768},
        image=True,
        vision={"last_hidden_state": (9, 1152)},
    ),
    "cosmos predict2": Case(tiny_models.COSMOS, 16, 1024),
    "kandinsky 5": Case(tiny_models.KANDINSKY, 16, 3584, {"pooled_output": 768}),
    "hunyuan video": Case(tiny_models.HUNYUAN, 16, 64, {"pooled_output": 768}),
    "ltxv": Case(tiny_models.LTXV, 128, 64, tolerance=1e-4, attention_mask=True),
    "ltxv causal": Case(tiny_models.LTXV_CAUSAL, 128, 64, tolerance=1e-4, attention_mask=True),
    "mochi": Case(lambda: tiny_models.mochi_patcher(9), 12, 64, attention_mask=True),
}


def fresh(harness: NodeHarness, case: Case) -> Any:
    latent = {"samples": torch.zeros((1, case.channels, 1, HEIGHT, WIDTH))}
    return harness.run("AdaStateNewStream", latent, 0)[0]


def step(harness: NodeHarness, case: Case, state: Any, chunks: int, **changes: Any) -> Any:
    import comfy.samplers

    model = changes.pop("model", harness.model)
    sampling = model.get_model_object("model_sampling")
    inputs = {
        "positive": case.conditioning(0),
        "cfg": 1.0,
        "seed": 3,
        "chunks": chunks,
        "sampler": comfy.samplers.sampler_object("euler"),
        "sigmas": comfy.samplers.calculate_sigmas(sampling, "simple", 2),
    }
    return harness.run("AdaStateStream", model, state, **{**inputs, **changes})
