"""Cancel and failures while chunks are made: answered at once, and finished chunks are kept."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness
from tests.support.tiny_models import WAN_CAUSAL

STEPS = 2
"""Forwards of a chunk; one more commits it before the next one."""


class DynamicPrompt:
    """A prompt whose nodes are parts of the one before the full stop."""

    def get_display_node_id(self, node_id: str) -> str:
        return node_id.split(".")[0]

    def get_node(self, node_id: str) -> dict[str, Any]:
        return {"class_type": "AdaStateStream", "inputs": {}}


@pytest.fixture
def harness(node_classes: dict[str, Any], tiny_models: Any) -> Iterator[NodeHarness]:
    import comfy.model_management
    from comfy_api.latest import io

    harness = NodeHarness(node_classes, WAN_CAUSAL)
    harness.hidden = {io.Hidden.unique_id: "7", io.Hidden.dynprompt: DynamicPrompt()}
    yield harness
    comfy.model_management.interrupt_current_processing(False)


@pytest.fixture
def said(pack: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    words: list[str] = []
    for name in ("kept_chunks", "progress", "video.live_pictures"):
        module = importlib.import_module(f"{pack.__name__}.adastate_comfy.{name}")
        monkeypatch.setattr(module, "write_under", lambda _, text: words.append(text))
    return words


@pytest.fixture
def folder(base_dir: Path) -> Path:
    folder = base_dir / "output" / "adastate"
    for path in folder.glob("stopped_*"):
        path.unlink()
    return folder


class Stopping:
    """A model that is cancelled, or fails, in a forward of it.

    Args:
        model: The MODEL.
        forward: Number of that forward, from 1.
        error: What it fails with; None cancels.
    """

    def __init__(self, model: Any, forward: int, error: Exception | None = None) -> None:
        from comfy.patcher_extension import WrappersMP

        self.begun = self.ended = 0
        self._at, self._error = forward, error
        self.model = model.clone()
        self.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "stopping", self._forward)

    def _forward(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        import comfy.model_management

        self.begun += 1
        if self.begun == self._at:
            if self._error is not None:
                raise self._error
            comfy.model_management.interrupt_current_processing()
        out = executor(*args, **kwargs)
        self.ended += 1
        return out


def cancelled() -> Any:
    import comfy.model_management

    return pytest.raises(comfy.model_management.InterruptProcessingException)


@pytest.mark.parametrize("forward", [1, 2, 3, 4])
def test_cancel_is_answered_within_the_forward_that_runs(
    harness: NodeHarness, forward: int
) -> None:
    """Sampler steps, the commit between two chunks (3), and the first step after it."""
    stopping = Stopping(harness.model, forward)
    with cancelled():
        harness.step(harness.fresh(), 3, model=stopping.model)
    assert (stopping.begun, stopping.ended) == (forward, forward - 1)


def test_cancel_is_answered_in_the_layout_check(harness: NodeHarness) -> None:
    (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    binding = model.get_attachment("adastate")
    import comfy.model_management

    comfy.model_management.interrupt_current_processing()
    with cancelled():
        harness.step(harness.fresh(), 1, model=model)
    assert not binding.layout_checked
    harness.step(harness.fresh(), 1, model=model)
    assert binding.layout_checked


def test_cancel_is_answered_in_the_replay_of_a_long_stream(harness: NodeHarness) -> None:
    state, _ = harness.step(harness.fresh(), 5)
    (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    stopping = Stopping(model, 3)
    with cancelled():
        harness.step(state, 1, model=stopping.model)
    # Commits of the first chunks: a chunk is reached only after five of them.
    assert (stopping.begun, stopping.ended) == (3, 2)


def test_cancel_is_answered_in_the_rehearsal(harness: NodeHarness) -> None:
    """The first forward of a model with a block of another node is one."""
    model = harness.model.clone()
    model.set_model_patch_replace(
        lambda args, extra: extra["original_block"](args), "dit", "double_block", 0
    )
    stopping = Stopping(model, 1)
    with cancelled():
        harness.step(harness.fresh(), 1, model=stopping.model)
    assert (stopping.begun, stopping.ended) == (1, 0)
    assert not model.get_attachment("adastate").rehearsed


def test_a_cancelled_run_leaves_its_finished_chunks_in_a_file(
    harness: NodeHarness, said: list[str], folder: Path, pack: Any
) -> None:
    whole, _ = harness.step(harness.fresh(), 4)
    stopping = Stopping(harness.model, 2 * (STEPS + 1) + 1)
    with cancelled():
        harness.step(harness.fresh(), 4, model=stopping.model)
    words = "stopped: 2 of 4 chunks are in adastate/stopped_00001, continue with Load State"
    assert said[-1] == words
    (path,) = folder.glob("stopped_*")
    (kept,) = harness.run("AdaStateLoad", f"adastate/{path.name} [output]")
    assert kept.chunk_index == 2
    panels = importlib.import_module(f"{pack.__name__}.adastate_comfy.panel.panels")
    document = panels.PANELS.feed("", "7").document()
    assert (document["state"], document["text"]) == ("stopped", words)
    continued, _ = harness.step(kept, 2)
    torch.testing.assert_close(continued.content(), whole.content(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("error", [RuntimeError("broken"), MemoryError("full")])
def test_a_failed_run_leaves_them_too_and_its_own_error(
    harness: NodeHarness, said: list[str], folder: Path, error: Exception
) -> None:
    stopping = Stopping(harness.model, STEPS + 1, error)
    with pytest.raises(type(error), match=str(error)):
        harness.step(harness.fresh(), 3, model=stopping.model)
    assert said[-1].startswith("stopped: 1 of 3 chunks are in adastate/stopped_00001")
    assert len(list(folder.glob("stopped_*"))) == 1


def test_chunks_that_cannot_be_saved_do_not_hide_the_error(
    harness: NodeHarness,
    said: list[str],
    folder: Path,
    pack: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = importlib.import_module(f"{pack.__name__}.adastate_comfy.kept_chunks")

    def full(*args: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr(kept, "save_numbered", full)
    stopping = Stopping(harness.model, STEPS + 1, RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        harness.step(harness.fresh(), 3, model=stopping.model)
    assert "could not be saved: no space" in caplog.text
    assert said[-1] == "broken"


def test_nothing_is_saved_before_the_first_chunk_is_finished(
    harness: NodeHarness, said: list[str], folder: Path
) -> None:
    with cancelled():
        harness.step(harness.fresh(), 3, model=Stopping(harness.model, 2).model)
    assert said[-1] == "stopped"
    assert not list(folder.glob("stopped_*"))


def test_nothing_is_saved_of_a_part_of_a_timeline(
    harness: NodeHarness, said: list[str], folder: Path
) -> None:
    from comfy_api.latest import io
    from comfy_execution.utils import CurrentNodeContext

    state = harness.fresh()
    for chunk in range(2):
        harness.hidden[io.Hidden.unique_id] = f"7.0.chunk{chunk}"
        stopping = Stopping(harness.model, STEPS if chunk else 100)
        with CurrentNodeContext("a run", "7"):
            if chunk:
                with cancelled():
                    harness.step(state, 1, model=stopping.model)
            else:
                state, _ = harness.step(state, 1, model=stopping.model)
    assert said[-1] == "stopped: queue again to go on, the chunks so far are kept"
    assert not list(folder.glob("stopped_*"))


def test_a_cancel_waits_for_one_layer_and_not_for_the_forward(harness: NodeHarness) -> None:
    state, _ = harness.step(harness.fresh(), 2)
    calls = []

    def cancel(func: Any, *args: Any, **kwargs: Any) -> Any:
        import comfy.model_management

        calls.append(1)
        comfy.model_management.interrupt_current_processing()
        return func(*args, **kwargs)

    model = harness.model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = cancel
    with cancelled():
        harness.step(state, 1, model=model)
    assert len(calls) == 1  # the second layer was not computed
    assert harness.step(state)[0].chunk_index == 3
