"""A training run from beginning to end: encode, plan, learn step by step, keep what was learned."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...adastate_core.errors import NonFiniteError
from ...adastate_core.rollout.latent_block import LatentBlock
from ...adastate_core.stream.conditioning import Conditioning
from ...adastate_core.training.checkpoint import TrainingCheckpoint
from ...adastate_core.training.optimizer import AdapterOptimizer
from ...adastate_core.training.plan import plan_step
from ...adastate_core.training.rollout import Rollout, TrainingClip
from ..model.binding import BoundModel
from ..model.kv_pool_patcher import pool_patcher_of
from .adapter import StateAdapter
from .clips import encode_clip, plan_clip
from .files import TrainingFiles
from .inputs import DTYPES, TrainingInputs
from .learner import Learner
from .memory_plan import plan_memory, require_room
from .progress import TrainingProgress
from .session import LearningSession


@dataclass(frozen=True, slots=True, repr=False)
class TrainingResult:
    """A trained adapter.

    Args:
        lora: The adapter, as the host's nodes take a LORA_MODEL.
        losses: The loss of every step.
        steps: Steps that it was trained for.
    """

    lora: dict[str, Tensor]
    losses: list[float]
    steps: int


def train(inputs: TrainingInputs, node: str | None = None) -> TrainingResult:
    """Train an adapter, or go on with one.

    Args:
        inputs: What the node is given.
        node: Id of the node.

    Raises:
        AdaStateError: For what cannot be trained, before work starts.
    """
    bound, prompts = inputs.checked()
    files = TrainingFiles.named(inputs.name)
    plans = [
        plan_clip(clip, number, inputs.vae, bound, inputs.width, inputs.height)
        for number, clip in enumerate(inputs.clips, 1)
    ]
    blank = _blank(bound, max((p.latent_size for p in plans), key=math.prod))
    dtype, device = DTYPES[inputs.training_dtype], bound.model.load_device
    memory = plan_memory(bound, blank, inputs.options.rank, dtype)
    said = require_room(memory, device, checkpointing=inputs.gradient_checkpointing)
    clips = [
        encode_clip(plan, inputs.vae, bound, number if len(prompts) > 1 else 0)
        for number, plan in enumerate(plans)
    ]
    identity = inputs.identity(bound, prompts, clips)
    found = files.found(identity) if inputs.resume else None
    # The host runs nodes in inference mode, whose tensors cannot be learned from.
    with torch.inference_mode(False), torch.no_grad():
        run = _Run(inputs, files, clips, prompts, identity, found)
        progress = TrainingProgress(node, inputs.options.steps, run.step)
        progress.say(f"goes on from step {run.step}" if run.step else said)
        if run.step < inputs.options.steps:
            checkpointing, options = inputs.gradient_checkpointing, inputs.options
            learner = Learner.of(
                bound,
                options.rank,
                options.seed,
                dtype,
                checkpointing=checkpointing,
                begin=inputs.lora,
            )
            apart = memory.total(checkpointing=checkpointing) - memory.weights
            pool_patcher_of(learner.bound.model).announce(apart, memory.caches)
            run.train(learner, blank, progress)
        return run.result()


@dataclass(slots=True)
class _Run:
    """A run while it lasts."""

    inputs: TrainingInputs
    files: TrainingFiles
    clips: list[TrainingClip]
    prompts: tuple[Conditioning, ...]
    identity: dict[str, str]
    newest: TrainingCheckpoint | None
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.losses = [] if self.newest is None else list(self.newest.losses)

    @property
    def step(self) -> int:
        """Return how many steps are done."""
        return len(self.losses)

    def result(self) -> TrainingResult:
        """Return what was trained."""
        assert self.newest is not None  # the last step is always kept
        return TrainingResult(dict(self.newest.adapter), self.losses, self.step)

    def train(self, learner: Learner, blank: LatentBlock, progress: TrainingProgress) -> None:
        """Make the steps that are left."""
        if self.newest is not None:
            learner.adapter.load(self.newest.adapter)

        def learn(session: LearningSession) -> None:
            optimizer = AdapterOptimizer(learner.adapter.parameters, self.inputs.options)
            if self.newest is not None:
                optimizer.load(self.newest.optimizer)
            self._learn(session, learner, optimizer, progress)

        learner.open(self.prompts, self.inputs.sampler, self.inputs.sigmas, blank, progress, learn)

    def _learn(
        self,
        session: LearningSession,
        learner: Learner,
        optimizer: AdapterOptimizer,
        progress: TrainingProgress,
    ) -> None:
        options, bound, adapter = self.inputs.options, learner.bound, learner.adapter
        chunks = tuple(clip.chunks(bound.config) for clip in self.clips)
        rollouts = [_rollout(clip, bound) for clip in self.clips]
        try:
            while self.step < options.steps:
                plan = plan_step(options, self.step, chunks)
                loss = rollouts[plan.clip].step(self.clips[plan.clip], plan, session)
                _require_number(loss, self.step)
                optimizer.step(self.step)
                self.losses.append(loss)
                if self.step % self.inputs.save_every == 0 or self.step == options.steps:
                    self._keep(adapter, optimizer)
                progress.learned(self.losses, own_past=plan.own_past)
        except BaseException:
            optimizer.forget()
            self._keep(adapter, optimizer)
            if self.newest is not None:
                progress.say(
                    f"stopped after step {self.newest.step}, kept in {self.files.shown}; "
                    "queue it again to go on"
                )
            raise

    def _keep(self, adapter: StateAdapter, optimizer: AdapterOptimizer) -> None:
        """Write what is new since the newest checkpoint."""
        if self.step == (0 if self.newest is None else self.newest.step):
            return
        self.newest = TrainingCheckpoint(
            self.step, self.identity, adapter.tensors(), optimizer.tensors(), tuple(self.losses)
        )
        self.files.write(self.newest)


def _rollout(clip: TrainingClip, bound: BoundModel) -> Rollout:
    geometry = bound.traits.geometry(*clip.content.shape[3:])
    return Rollout(bound.config, geometry, bound.pool.kv_format)


def _blank(bound: BoundModel, size: tuple[int, int]) -> LatentBlock:
    frames = bound.policy.state_frames(bound.config) + bound.config.chunk_frames
    return LatentBlock(torch.zeros(()).expand(1, bound.traits.latent_channels, frames, *size))


def _require_number(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise NonFiniteError(
            f"step {step + 1} of training",
            problem=f"training broke down at step {step + 1}: its loss is not a number",
            seen=loss,
            expected="a finite loss",
            remedy="lower learning_rate, or set training_dtype to fp32",
        )
