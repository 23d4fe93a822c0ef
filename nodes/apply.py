"""Apply AdaState: choose how the anchor evolves."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..adastate_comfy.model.binding import AttentionChoice, bind
from ..adastate_comfy.model.config_summary import CUSTOM, departure_note, summarize
from ..adastate_comfy.model.kv_pool_patcher import CachePlace
from ..adastate_comfy.progress import write_under
from ..adastate_core.anchors.presets import PRESETS, preset_config
from ..adastate_core.config import (
    MAX_FRAMES,
    MAX_STRENGTH,
    Anchor,
    Precision,
    PromptSwitch,
    StreamConfig,
)
from .inputs import CATEGORY


class AdaStateApply(io.ComfyNode):
    """Make a video model streamable."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateApply",
            display_name="Apply AdaState",
            category=f"{CATEGORY}/load",
            description="Give a video model a memory that evolves with the scene.",
            search_aliases=["anchor", "sink", "self forcing", "infinite video", "streaming"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="A video model, ideally one that was trained to stream."
                ),
                io.Combo.Input(
                    "anchor",
                    options=["adaptive", "frozen", "ema", "dual_ema", "rolling", "none"],
                    default="adaptive",
                    tooltip=(
                        "What every chunk attends to besides the newest frames.\n"
                        "adaptive: a hidden state that is renewed with every chunk.\n"
                        "frozen: always the first frames; steady, but scenes stop moving.\n"
                        "ema: the first frames, slowly blended with the frames that leave the "
                        "window.\n"
                        "dual_ema: the first frames, and a slow and a fast average of the frames "
                        "that leave the window.\n"
                        "rolling: the first frames, forwards and backwards in turn; stays stable "
                        "for long, but repeats itself.\n"
                        "none: nothing else; lively, but the look drifts."
                    ),
                ),
                io.Int.Input(
                    "chunk_frames",
                    default=3,
                    min=1,
                    max=MAX_FRAMES,
                    advanced=True,
                    tooltip=(
                        "Latent frames made per chunk. Use the number the model was trained "
                        "with; 3 latent frames of a Wan model are 12 video frames."
                    ),
                ),
                io.Int.Input(
                    "window_frames",
                    default=3,
                    min=0,
                    max=MAX_FRAMES,
                    advanced=True,
                    tooltip=(
                        "Latent frames of the past that a chunk attends to besides the anchor. "
                        "More gives smoother joins and costs memory and time."
                    ),
                ),
                io.Int.Input(
                    "state_frames",
                    default=1,
                    min=0,
                    max=8,
                    advanced=True,
                    tooltip="Hidden latent frames of the adaptive anchor. 0 turns it off.",
                ),
                io.Int.Input(
                    "anchor_frames",
                    default=3,
                    min=1,
                    max=MAX_FRAMES,
                    advanced=True,
                    tooltip=(
                        "First latent frames that the frozen, ema, dual_ema and rolling anchors "
                        "keep. The rolling anchor needs many, such as 18."
                    ),
                ),
                io.Combo.Input(
                    "preset",
                    optional=True,
                    options=[CUSTOM, *PRESETS],
                    default=CUSTOM,
                    tooltip=(
                        "A published method, for comparison on the same weights, or for weights "
                        "that were trained for it: raven and taomate for MiniMax H3, omniforcing "
                        "for LTX-2. It overrides "
                        "anchor, frame counts and rates; custom uses your own settings. With "
                        "another anchor_strength, cache_precision or prompt_switch it is no longer "
                        "the published method."
                    ),
                ),
                io.Float.Input(
                    "ema_rate",
                    optional=True,
                    default=0.999,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    round=0.0001,
                    advanced=True,
                    tooltip=(
                        "How much of the ema anchor, or of the slow average of dual_ema, stays "
                        "when a frame is blended in. Lower follows the scene faster."
                    ),
                ),
                io.Float.Input(
                    "anchor_strength",
                    optional=True,
                    default=1.0,
                    min=0.0,
                    max=MAX_STRENGTH,
                    step=0.05,
                    round=0.001,
                    advanced=True,
                    tooltip=(
                        "How much weight the anchor gets. 0 hides it. Values "
                        "other than 1 need an attention mask, which the fastest attention "
                        "kernels do not support."
                    ),
                ),
                io.Float.Input(
                    "ema_fast_rate",
                    optional=True,
                    default=0.9,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    round=0.0001,
                    advanced=True,
                    tooltip="The same as ema_rate, for the fast average of dual_ema.",
                ),
                io.Combo.Input(
                    "cache_precision",
                    optional=True,
                    options=["model", "fp8"],
                    default="model",
                    advanced=True,
                    tooltip=(
                        "How keys and values of past frames are stored. fp8 takes half the "
                        "memory of bf16 and changes the video a little."
                    ),
                ),
                io.Combo.Input(
                    "cache_place",
                    optional=True,
                    options=["device", "system memory"],
                    default="device",
                    advanced=True,
                    tooltip=(
                        "Where keys and values of past frames are stored. system memory leaves "
                        "more of the GPU to the model; each layer is copied from there, so that a "
                        "chunk takes longer."
                    ),
                ),
                io.Combo.Input(
                    "prompt_switch",
                    optional=True,
                    options=["preset", "swap", "recache", "flush"],
                    default="preset",
                    advanced=True,
                    tooltip=(
                        "What happens to the memory of past frames when the prompt changes.\n"
                        "preset: what the preset does; for custom, swap.\n"
                        "swap: nothing; the scene changes gradually.\n"
                        "recache: compute anchor and window again under the new prompt.\n"
                        "flush: keep the anchor and the newest frame only."
                    ),
                ),
                io.Combo.Input(
                    "attention",
                    optional=True,
                    options=["as ComfyUI", "fastest"],
                    default="as ComfyUI",
                    advanced=True,
                    tooltip=(
                        "What computes the attention to past frames.\n"
                        "as ComfyUI: what ComfyUI uses for this model.\n"
                        "fastest: tries the equally exact kernels of your device when a chunk is "
                        "first made, and keeps the fastest. The last digits of a video then depend "
                        "on which one won, so it may not come out the same to the bit after a "
                        "restart or on another device. SageAttention and attention nodes of "
                        "other packs are left as you chose them."
                    ),
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, ready for Stream Chunks.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        anchor: Anchor,
        chunk_frames: int,
        window_frames: int,
        state_frames: int,
        anchor_frames: int,
        preset: str = CUSTOM,
        ema_rate: float = 0.999,
        anchor_strength: float = 1.0,
        ema_fast_rate: float = 0.9,
        cache_precision: Precision = "model",
        cache_place: CachePlace = "device",
        prompt_switch: PromptSwitch | Literal["preset"] = "preset",
        attention: AttentionChoice = "as ComfyUI",
    ) -> io.NodeOutput:
        """Bind the choices to a clone of the model."""
        if preset != CUSTOM:
            config = preset_config(preset)
        else:
            config = StreamConfig(
                anchor=anchor,
                chunk_frames=chunk_frames,
                window_frames=window_frames,
                state_frames=state_frames,
                anchor_frames=anchor_frames,
                ema_rate=ema_rate,
                ema_fast_rate=ema_fast_rate,
            )
        if prompt_switch != "preset":
            config = replace(config, prompt_switch=prompt_switch)
        config = replace(config, anchor_strength=anchor_strength, cache_precision=cache_precision)
        note = departure_note(preset, config)
        bound = bind(model, config, cache_place, note, attention)
        write_under(cls.hidden.unique_id, summarize(preset, config, note))
        return io.NodeOutput(bound)
