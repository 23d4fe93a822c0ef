"""Sizes of no whole number of patches: what a stock sampler runs is streamed, else refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.nodes.test_families import CASES, Case, step
from tests.support.harness import NodeHarness

SIZES = ((4, 6), (5, 6), (4, 7), (5, 7))
# The host fills up, or its patches are single latents; the other families fail on these sizes.
ANY_SIZE = {
    name for name in CASES if name.startswith(("wan", "cosmos", "ltxv", "hunyuan video 1.5"))
}


def runs_in_a_stock_sampler(harness: NodeHarness, case: Case, size: tuple[int, int]) -> bool:
    import comfy.sample
    import comfy.samplers

    frames = 6 if case.image else 3  # of the image that comes with every frame
    x = torch.zeros((1, case.channels, frames, *size))
    sampling = harness.bare.get_model_object("model_sampling")
    try:
        with torch.inference_mode():
            comfy.sample.sample_custom(
                harness.bare,
                x + 1.0,
                1.0,
                comfy.samplers.sampler_object("euler"),
                comfy.samplers.calculate_sigmas(sampling, "simple", 1),
                case.conditioning(0),
                case.conditioning(1),
                x,
                disable_pbar=True,
                seed=0,
            )
    except (RuntimeError, AssertionError):
        return False
    return True


@pytest.mark.parametrize("name", CASES)
def test_what_runs_in_a_stock_sampler_is_streamed_and_the_rest_refused(
    name: str, node_classes: dict[str, Any], tiny_models: Any
) -> None:
    case = CASES[name]
    harness = NodeHarness(node_classes, case.model if isinstance(case.model, str) else case.model())
    for height, width in SIZES:
        runs = runs_in_a_stock_sampler(harness, case, (height, width))
        assert runs == (name in ANY_SIZE or (height, width) == (4, 6))
        latent = {"samples": torch.zeros((1, case.channels, 1, height, width))}
        (state,) = harness.run("AdaStateNewStream", latent, 0)
        if runs:
            after, _ = step(harness, case, state, 2)
            assert after.content().shape[-2:] == (height, width)
            continue
        with pytest.raises(ValueError, match="pixels: width goes in steps of") as refused:
            step(harness, case, state, 2)
        text = str(refused.value)
        assert f"{8 * width} x {8 * height} pixels" in text
        assert "width goes in steps of 16, height in steps of 16. Set width to" in text
        assert ("Set width to 48 or 64" if width == 7 else "Set width to 48 and") in text
        assert ("height to 32 or 48" if height == 5 else "height to 32 on") in text
