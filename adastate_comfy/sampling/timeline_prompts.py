"""The prompts of a run along a timeline: each is encoded once, before work starts.

What a chunk is made under is what the nodes of *Stream Timeline* would give it: ComfyUI's own nodes
encode and average, and the stream is edited as *Prepare Transition* does.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field, replace
from typing import Any

from comfy.sd import CLIP

from ...adastate_core.errors import ConfigError
from ...adastate_core.stream.conditioning import Conditioning
from ...adastate_core.stream.events import Conditions
from ...adastate_core.stream.pace import Pace
from ...adastate_core.stream.state import StreamState
from ...adastate_core.stream.timeline import PromptPlan, parse_timeline
from ..panel.prompt_text import PromptText
from ..sockets.conditioning import record


@dataclass(frozen=True, slots=True, repr=False)
class TimelinePrompts:
    """The prompt of every chunk of a run, and what is done to the stream before it.

    Args:
        plan: The timeline.
        encoded: CONDITIONING of every text that is used.
    """

    plan: PromptPlan
    encoded: dict[str, list[Any]]
    _recorded: dict[str, Conditioning] = field(default_factory=dict)

    @classmethod
    def encode(
        cls, clip: CLIP, timeline: str, pace: Pace, first: int, chunks: int
    ) -> TimelinePrompts:
        """Encode what the chunks of a run are made under.

        Args:
            clip: The text encoder.
            timeline: The prompts as text.
            pace: How long chunks are.
            first: Absolute number of the first chunk.
            chunks: How many.

        Raises:
            ConfigError: If the timeline cannot be read, or has no prompt for the first chunk.
        """
        plan = PromptPlan.of(parse_timeline(timeline), pace, first)
        texts = plan.texts(first, chunks)
        return cls(plan, {text: run_node("CLIPTextEncode", clip=clip, text=text) for text in texts})

    def positive(self, chunk: int) -> list[Any]:
        """Return the CONDITIONING of a chunk."""
        prompt = self.plan.at(chunk)
        if prompt.before is None:
            return self.encoded[prompt.text]
        return run_node(
            "ConditioningAverage",
            conditioning_to=self.encoded[prompt.text],
            conditioning_from=self.encoded[prompt.before],
            conditioning_to_strength=prompt.share,
        )

    def conditions(self, chunk: int, others: Conditions) -> Conditions:
        """Return the conditionings of a chunk: its own positive one, and the others as given."""
        prompt = self.plan.at(chunk)
        if prompt.before is not None:
            return replace(others, positive=record(self.positive(chunk)))
        if prompt.text not in self._recorded:
            self._recorded[prompt.text] = record(self.encoded[prompt.text])
        return replace(others, positive=self._recorded[prompt.text])

    def caption(self, chunk: int) -> PromptText:
        """Return the text of a chunk, as it is shown."""
        prompt = self.plan.at(chunk)
        return PromptText(prompt.text, blended=prompt.before is not None)

    def edit(self, state: StreamState) -> StreamState:
        """Return the stream, prepared for the prompt of its next chunk."""
        prompt = self.plan.at(state.chunk_index)
        if prompt.transition == "recache":
            return state.recache()
        if prompt.transition == "flush":
            return state.flush(prompt.count)
        return state

    def receipt(self, chunk: int) -> dict[str, Any]:
        """Return how the stream came to the prompt of a chunk, as JSON values."""
        prompt = self.plan.at(chunk)
        made: dict[str, Any] = {}
        if prompt.before is not None:
            made |= {"blended_from": prompt.before, "share": round(prompt.share, 4)}
        if prompt.transition != "swap":
            made["transition"] = prompt.transition
        return made


def check_prompts(timeline: str, *, has_positive: bool, has_clip: bool) -> None:
    """Refuse a render without a prompt, or with a timeline that cannot be used.

    Args:
        timeline: The prompts as text; empty for none.
        has_positive: Whether `positive` is connected.
        has_clip: Whether `clip` is connected.

    Raises:
        ConfigError: Naming what is missing, or the lines that cannot be read.
    """
    if not timeline.strip():
        if not has_positive:
            raise ConfigError(
                "positive",
                problem="there is no prompt",
                seen="neither a prompt nor a timeline",
                expected="one of them",
                remedy="connect a prompt to positive, or write a timeline and connect clip",
            )
        return
    parse_timeline(timeline)
    if not has_clip:
        raise ConfigError(
            "clip",
            problem="the timeline has no text encoder",
            seen="a timeline without clip",
            expected="a text encoder",
            remedy="connect the text encoder of the model to clip",
        )


def resolve_prompts(
    positive: list[Any] | None,
    clip: CLIP | None,
    timeline: str,
    pace: Pace,
    first: int,
    chunks: int,
) -> tuple[list[Any], TimelinePrompts | None]:
    """Return the CONDITIONING of the first chunk, and the prompts of all if there is a timeline.

    Args:
        positive: The prompt of a run without a timeline.
        clip: The text encoder of a run with one.
        timeline: The prompts as text; empty for none.
        pace: How long chunks are.
        first: Absolute number of the first chunk.
        chunks: How many.

    Raises:
        ConfigError: As `check_prompts` and `TimelinePrompts.encode` do.
    """
    check_prompts(timeline, has_positive=positive is not None, has_clip=clip is not None)
    if timeline.strip():
        assert clip is not None  # it was checked
        prompts = TimelinePrompts.encode(clip, timeline, pace, first, chunks)
        return prompts.positive(first), prompts
    assert positive is not None  # it was checked
    return positive, None


def run_node(node_id: str, **inputs: Any) -> list[Any]:
    """Run one of ComfyUI's own nodes and return its first output."""
    # By name: a plain import would say the same of ComfyUI's `nodes.py` and of this pack's folder.
    node = importlib.import_module("nodes").NODE_CLASS_MAPPINGS[node_id]
    result: list[Any] = getattr(node(), node.FUNCTION)(**inputs)[0]
    return result
