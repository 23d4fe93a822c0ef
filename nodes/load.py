"""Load models that stream: any video DiT ComfyUI knows, or the demo models of this pack."""

from __future__ import annotations

import folder_paths
from comfy_api.latest import io

from ..adastate_comfy.model.checkpoint import declared_shift
from ..adastate_comfy.model.demo_models import load_demo_clip, load_demo_model, load_demo_vae
from ..adastate_comfy.model.loading import (
    WEIGHT_OPTIONS,
    WeightDtype,
    load_streaming_model,
    with_shift,
)
from .inputs import CATEGORY


class AdaStateLoadModel(io.ComfyNode):
    """Load a video model for streaming."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateLoadModel",
            display_name="Load Streaming Model",
            category=f"{CATEGORY}/load",
            description="Load a video model, also a Self-Forcing style .pt file.",
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=folder_paths.get_filename_list("diffusion_models"),
                    tooltip="A file in models/diffusion_models. Causal Wan 2.1 models work best.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_OPTIONS),
                    default="default",
                    advanced=True,
                    tooltip="Precision of the weights. fp8 saves memory and costs some quality.",
                ),
                io.Float.Input(
                    "shift",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    advanced=True,
                    tooltip=(
                        "Shift of the noise schedule. 0 takes the value in the file; without one, "
                        "5 for causal models and the usual value for all others."
                    ),
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model. Wire it into Apply AdaState.")],
        )

    @classmethod
    def execute(cls, model_name: str, weight_dtype: WeightDtype, shift: float) -> io.NodeOutput:
        """Load by the host's loader."""
        path = folder_paths.get_full_path_or_raise("diffusion_models", model_name)
        model = load_streaming_model(path, WEIGHT_OPTIONS[weight_dtype])
        return io.NodeOutput(with_shift(model, shift or declared_shift(path)))


class AdaStateLoadDemo(io.ComfyNode):
    """Load the demo models of this pack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateLoadDemo",
            display_name="Load Demo Models",
            category=f"{CATEGORY}/load",
            description=(
                "Load the small models that come with AdaState: shapes moving over scenery at "
                "128 x 128. They run on a laptop, without a download."
            ),
            inputs=[],
            outputs=[
                io.Model.Output(tooltip="A small Wan model, trained with a hidden state."),
                io.Clip.Output(
                    tooltip=(
                        "Its text encoder. It knows prompts such as: red circle moving left, "
                        "camera pans right, blue hills."
                    )
                ),
                io.Vae.Output(tooltip="Its VAE."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """Load by the host's loaders."""
        return io.NodeOutput(load_demo_model(), load_demo_clip(), load_demo_vae())
