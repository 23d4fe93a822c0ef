"""What Train State Adapter is given: checked before any work, and named for a later run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ...adastate_core.digest import tensor_digest, text_digest
from ...adastate_core.errors import ConfigError
from ...adastate_core.stream.conditioning import Conditioning
from ...adastate_core.training.plan import TrainingOptions
from ...adastate_core.training.rollout import TrainingClip
from ..model.binding import BoundModel, bound_model
from ..model.fingerprint import fingerprint_of, weights_digest
from ..model.torch_compile import is_compiled
from ..sampling.checks import check_image, check_sampling, check_text, record_conditions
from ..sampling.model_checks import check_anchor, check_chunk, check_model
from .session import flow_time

TrainingDtype = Literal["bf16", "fp32"]
DTYPES: dict[TrainingDtype, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32}
_REMEDY = "train a model that makes video alone, such as Wan"


@dataclass(frozen=True, slots=True, repr=False)
class TrainingInputs:
    """The inputs of Train State Adapter, by their names.

    Args:
        clips: IMAGE or VIDEO, one or more.
        positive: A CONDITIONING for all clips, or one for each.
    """

    model: ModelPatcher
    vae: VAE
    clips: Sequence[Any]
    positive: Sequence[list[Any]]
    sampler: comfy.samplers.Sampler
    sigmas: Tensor
    options: TrainingOptions
    name: str
    width: int = 0
    height: int = 0
    training_dtype: TrainingDtype = "bf16"
    gradient_checkpointing: bool = True
    save_every: int = 100
    resume: bool = True
    lora: dict[str, Tensor] | None = None

    def checked(self) -> tuple[BoundModel, tuple[Conditioning, ...]]:
        """Return the MODEL and the recorded prompts, if a run can be made of all this.

        Raises:
            AdaStateError: If not.
        """
        bound = bound_model(self.model)
        check_trainable(bound)
        check_sampling(self.sampler, self.sigmas)
        if not self.clips:
            raise ConfigError(
                "clips",
                problem="there is no clip to train on",
                seen="none",
                expected="one or more",
                remedy="connect a clip",
            )
        if len(self.positive) not in (1, len(self.clips)):
            raise ConfigError(
                "positive",
                problem=f"there are {len(self.positive)} prompts for {len(self.clips)} clips",
                seen=len(self.positive),
                expected=f"1 or {len(self.clips)}",
                remedy="connect one prompt for all clips, or one for each",
            )
        for given in self.positive:
            check_text(bound, given, None)
            check_image(bound, given, None)
        recorded = (record_conditions(c, None, False, 1.0).positive for c in self.positive)
        return bound, tuple(recorded)

    def identity(
        self,
        bound: BoundModel,
        prompts: Sequence[Conditioning],
        clips: Sequence[TrainingClip],
    ) -> dict[str, str]:
        """Return what tells this run from others, by the words for it."""
        latents = [
            tensor_digest(part) for c in clips for part in (c.content, c.state) if part is not None
        ]
        begin = [f"{n} {tensor_digest(v)}" for n, v in sorted((self.lora or {}).items())]
        options = self.options
        return {
            "model": fingerprint_of(bound).digest,
            "LoRA on the model": weights_digest(bound),
            "Apply AdaState": bound.config.text,
            "set of clips": text_digest(" ".join(latents))[:32],
            "prompt": text_digest(" ".join(prompt.digest for prompt in prompts))[:32],
            "LoRA to begin with": text_digest(" ".join(begin))[:32] if begin else "none",
            "rank": str(options.rank),
            "rollout_chunks": str(options.rollout_chunks),
            "horizon_alpha": f"{options.horizon_alpha:g}",
            "seed": str(options.seed),
            "training_dtype": self.training_dtype,
        }


def check_trainable(bound: BoundModel) -> None:
    """Refuse a MODEL that no adapter can be trained on.

    Raises:
        AdaStateError: For models that make sound too, that are compiled, that learn no flow, or
            that could not be streamed either.
    """
    model = bound.model
    check_model(model)
    check_anchor(bound)
    check_chunk(bound)
    if bound.traits.sound is not None:
        raise ConfigError(
            "model",
            problem=f"an adapter is trained on video alone, and {bound.traits.family} makes sound "
            "along with it",
            seen=bound.traits.family,
            expected="a model that makes video alone",
            remedy=_REMEDY,
        )
    if bound.config.text_sees == "prefill":
        raise ConfigError(
            "preset",
            problem="a preset that prefills the text cannot be trained",
            seen="text_sees prefill",
            expected="text that is forwarded with every chunk",
            remedy="choose another preset on Apply AdaState",
        )
    if is_compiled(model):
        raise ConfigError(
            "model",
            problem="a compiled model cannot be trained",
            seen="a MODEL from TorchCompileModel",
            expected="the plain model",
            remedy="remove the TorchCompileModel node",
        )
    flow_time(model, 1.0)
