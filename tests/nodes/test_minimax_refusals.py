"""What cannot be streamed with sound is refused before any work, in one sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness
from tests.support.sound_streams import (
    HEIGHT,
    WIDTH,
    empty_minimax,
    has_minimax,
    minimax_model,
    minimax_step,
    minimax_text,
    nested,
)
from tests.support.tiny_models import MINIMAX_H3, WAN

pytestmark = pytest.mark.skipif(not has_minimax(), reason="this ComfyUI has no MiniMax H3")


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, MINIMAX_H3)


def fresh(harness: NodeHarness) -> Any:
    return harness.run("AdaStateNewStream", empty_minimax(), 0)[0]


def refusal(harness: NodeHarness, core: Any, model: Any, state: Any, **changes: Any) -> str:
    with pytest.raises(core.AdaStateError) as error:
        minimax_step(harness, model, state, 1, **changes)
    return str(error.value)


def has_slope() -> bool:
    from comfy.ldm.minimax import model

    return hasattr(model, "time_shift_slope")


def test_what_cannot_be_streamed_is_refused_before_work(harness: NodeHarness, core: Any) -> None:
    import comfy.samplers

    model, state = minimax_model(harness), fresh(harness)
    assert refusal(harness, core, minimax_model(harness, chunk_frames=6), state) == (
        "Minimax-h3 makes chunks of 5, 10 or 15 latent frames, and chunk_frames is 6. Set "
        "chunk_frames to 5 or 10 on Apply AdaState."
    )
    # Later ComfyUI versions bring the sound onto the schedule that samplers know.
    spoilt = ("euler_ancestral", "dpmpp_sde") if has_slope() else ()
    for name in spoilt:
        words = refusal(harness, core, model, state, sampler=comfy.samplers.sampler_object(name))
        assert words.lower().startswith(f"{name} adds noise at every step")
        assert words.endswith("Choose euler or lcm on KSamplerSelect, or update ComfyUI.")
    for extra in ("minimax_keyframes", "minimax_refs"):
        text = minimax_text(0)
        text[0][1][extra] = [{"latent": torch.zeros(1)}]
        assert f"({extra})" in refusal(harness, core, model, state, positive=text)
    two = nested(torch.zeros((2, 24, 7, HEIGHT, WIDTH)), torch.zeros((2, 32, 2, 36)))
    (batch,) = harness.run("AdaStateNewStream", two, 0)
    assert "makes one video at a time, and the latent holds 2" in refusal(
        harness, core, model, batch
    )


def test_a_compiled_model_is_refused(harness: NodeHarness, core: Any) -> None:
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model = minimax_model(harness).clone()
    set_torch_compile_wrapper(model=model, backend="eager")
    words = refusal(harness, core, model, fresh(harness))
    assert words.startswith("Minimax-h3 cannot be streamed compiled")


def test_sound_for_a_model_without_is_refused(
    harness: NodeHarness, node_classes: dict[str, Any], core: Any, tiny_models: Any
) -> None:
    wan = NodeHarness(node_classes, WAN)
    latent = nested(torch.zeros((1, 16, 1, 4, 6)), torch.zeros((1, 32, 2, 8)))
    (state,) = wan.run("AdaStateNewStream", latent, 0)
    with pytest.raises(core.AdaStateError, match=r"^This stream has sound, and wan2.1 makes none"):
        wan.step(state)
    odd = nested(torch.zeros((1, 16, 1, 4, 6)), torch.zeros((1, 3, 2, 8)))
    with pytest.raises(core.AdaStateError, match="has sound of a kind that AdaState does not know"):
        wan.run("AdaStateNewStream", odd, 0)
