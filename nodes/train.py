"""Train State Adapter: a LoRA with which a model keeps a state as it streams."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.samplers import Sampler
from comfy.sd import VAE
from comfy_api.latest import Input, io, ui
from torch import Tensor

from ..adastate_comfy.training.inputs import TrainingDtype, TrainingInputs
from ..adastate_comfy.training.trainer import train
from ..adastate_core.metrics.chart import as_image, draw_losses
from ..adastate_core.training.plan import MAX_RANK, MAX_STEPS, TrainingOptions
from .inputs import CATEGORY, model_input

LoraModelSocket = io.Custom("LORA_MODEL")
LossMapSocket = io.Custom("LOSS_MAP")


class AdaStateTrainAdapter(io.ComfyNode):
    """Teach a model to keep a state."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateTrainAdapter",
            display_name="Train State Adapter",
            category=f"{CATEGORY}/train",
            description="Train a LoRA on clips, chunk by chunk as the model streams them.",
            search_aliases=["train lora", "fine-tune", "finetune", "anchor"],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                model_input(),
                io.Vae.Input("vae", tooltip="The VAE of the model. It encodes the clips."),
                io.MultiType.Input(
                    "clips",
                    types=[io.Image, io.Video],
                    tooltip=(
                        "What to learn from: images of a clip, or a video. Several clips come as "
                        "a list. Each has to be two chunks long or longer."
                    ),
                ),
                io.Conditioning.Input(
                    "positive",
                    tooltip="What the clips show: one prompt for all of them, or a list of one for "
                    "each.",
                ),
                io.Sampler.Input(
                    "sampler", tooltip="The sampler with which the model will stream."
                ),
                io.Sigmas.Input(
                    "sigmas", tooltip="The noise levels with which the model will stream."
                ),
                io.Int.Input(
                    "steps",
                    default=500,
                    min=1,
                    max=MAX_STEPS,
                    tooltip="How many steps to train for, those of an interrupted run included.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.0001,
                    min=0.0000001,
                    max=1.0,
                    step=0.0000001,
                    round=0.0000001,
                    tooltip="How much a step changes. Lower it if the loss jumps.",
                ),
                io.Int.Input(
                    "rank",
                    default=16,
                    min=1,
                    max=MAX_RANK,
                    tooltip="Size of the adapter. More can learn more, and takes more memory.",
                ),
                io.Int.Input(
                    "rollout_chunks",
                    default=4,
                    min=2,
                    max=64,
                    tooltip=(
                        "How many chunks in a row a step goes through. Longer rollouts teach the "
                        "state to last; a step takes longer, and no more memory."
                    ),
                ),
                io.Float.Input(
                    "horizon_alpha",
                    default=2.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip=(
                        "By how much more the last chunk of a rollout counts than the first. 0 "
                        "counts all alike. The paper found 2 best for short and 4 for long videos."
                    ),
                ),
                io.Float.Input(
                    "own_past",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.01,
                    tooltip=(
                        "Share of the steps, the last ones, in which the model looks back at what "
                        "it makes of the clip itself, errors included. 0 shows it clean clips only."
                    ),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    # Another one after every run would be another run, which could not go on.
                    control_after_generate=False,
                    tooltip="The same seed and inputs train the same adapter.",
                ),
                io.String.Input(
                    "name",
                    default="state adapter",
                    tooltip=(
                        "Name of the adapter. The newest one is always in "
                        "output/loras/adastate, where Load LoRA finds it."
                    ),
                ),
                io.Int.Input(
                    "save_every",
                    default=100,
                    min=1,
                    max=MAX_STEPS,
                    tooltip="Steps after which the run is written to disk. A cancelled one is "
                    "written too.",
                ),
                io.Boolean.Input(
                    "resume",
                    default=True,
                    tooltip=(
                        "Go on with a run of this name that was stopped, or that had fewer steps. "
                        "Off begins again and replaces it."
                    ),
                ),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=16384,
                    advanced=True,
                    tooltip=(
                        "Width to which clips are scaled; they fill it and are cropped in the "
                        "centre. 0 keeps the clip's width, or its proportions if a height is given."
                    ),
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=16384,
                    advanced=True,
                    tooltip=(
                        "Height to which clips are scaled. 0 keeps the clip's height, or its "
                        "proportions if a width is given."
                    ),
                ),
                io.Combo.Input(
                    "training_dtype",
                    options=["bf16", "fp32"],
                    default="bf16",
                    advanced=True,
                    tooltip=(
                        "In which precision the model computes. The adapter itself is always kept "
                        "in fp32. On a CPU fp32 can be faster."
                    ),
                ),
                io.Boolean.Input(
                    "gradient_checkpointing",
                    default=True,
                    advanced=True,
                    tooltip=(
                        "Compute blocks a second time where their gradients need them, in place of "
                        "keeping all they made: less memory, and slower steps."
                    ),
                ),
                LoraModelSocket.Input(
                    "lora",
                    optional=True,
                    tooltip="An adapter to begin with, of this model and rank.",
                ),
            ],
            outputs=[
                LoraModelSocket.Output(
                    "lora",
                    display_name="lora",
                    tooltip="The adapter, for Load LoRA Model or Save LoRA Weights.",
                ),
                LossMapSocket.Output(
                    "loss_map",
                    display_name="loss_map",
                    tooltip="The loss of every step, for Plot Loss Graph.",
                ),
                io.Int.Output(
                    "steps", display_name="steps", tooltip="For how many steps it was trained."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: list[ModelPatcher],
        vae: list[VAE],
        clips: list[Tensor | Input.Video],
        positive: list[list[Any]],
        sampler: list[Sampler],
        sigmas: list[Tensor],
        steps: list[int],
        learning_rate: list[float],
        rank: list[int],
        rollout_chunks: list[int],
        horizon_alpha: list[float],
        own_past: list[float],
        seed: list[int],
        name: list[str],
        save_every: list[int],
        resume: list[bool],
        width: list[int],
        height: list[int],
        training_dtype: list[TrainingDtype],
        gradient_checkpointing: list[bool],
        lora: list[dict[str, Tensor]] | None = None,
    ) -> io.NodeOutput:
        """Train, and show the curve of the loss."""
        options = TrainingOptions(
            steps=steps[0],
            learning_rate=learning_rate[0],
            rank=rank[0],
            rollout_chunks=rollout_chunks[0],
            horizon_alpha=horizon_alpha[0],
            own_past=own_past[0],
            seed=seed[0],
        )
        inputs = TrainingInputs(
            model=model[0],
            vae=vae[0],
            clips=clips,
            positive=positive,
            sampler=sampler[0],
            sigmas=sigmas[0],
            options=options,
            name=name[0],
            width=width[0],
            height=height[0],
            training_dtype=training_dtype[0],
            gradient_checkpointing=gradient_checkpointing[0],
            save_every=save_every[0],
            resume=resume[0],
            lora=lora[0] if lora else None,
        )
        trained = train(inputs, cls.hidden.unique_id)
        curve = as_image(draw_losses(trained.losses))
        loss_map = {"loss": trained.losses}
        return io.NodeOutput(trained.lora, loss_map, trained.steps, ui=ui.PreviewImage(curve))
