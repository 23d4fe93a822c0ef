"""When torch compiles a MODEL again, and which modes of other packs' nodes can be streamed."""

from __future__ import annotations

import importlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor

from tests.support.harness import NodeHarness
from tests.support.kernels import Clock
from tests.support.tiny_models import WAN

COMPILER = shutil.which("g++") or shutil.which("clang++")


pytestmark = pytest.mark.usefixtures("nothing_compiled")


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Path) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


class Graphs:
    """A backend that runs graphs as they are and counts them and their runs."""

    def __init__(self) -> None:
        self.made = self.runs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        self.made += 1

        def run(*args: Any) -> Any:
            self.runs += 1
            return graph.forward(*args)

        return run


@pytest.fixture
def graphs() -> Graphs:
    return Graphs()


def compiled(harness: NodeHarness, backend: Any, **options: Any) -> Any:
    """Compile as ComfyUI's node does, with any backend."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from comfy_extras.nodes_torch_compile import skip_torch_compile_dict

    model = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3, **options)[0]
    model = model.clone(disable_dynamic=True)
    guards = {"guard_filter_fn": skip_torch_compile_dict}
    set_torch_compile_wrapper(model=model, backend=backend, options=guards)
    return model


def in_mode(harness: NodeHarness, mode: str, backend: Any = "inductor", *, blocks: bool) -> Any:
    """Compile as nodes of other packs do that offer modes: these exclude options."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)[0].clone()
    keys = [f"diffusion_model.blocks.{i}" for i in range(2)] if blocks else ["diffusion_model"]
    set_torch_compile_wrapper(
        model=model, keys=keys, backend=backend, mode=mode, dynamic=None, fullgraph=False
    )
    return model


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    import comfy.model_management

    # The host raises where it is asked whether the user has cancelled.
    asked = iter(range(1000))

    def ask() -> None:
        if next(asked) == step:
            raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", ask)


def test_no_chunk_is_compiled_again(
    harness: NodeHarness, graphs: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with more to attend to, after a cancel in a step, after a rewind, in another stream."""
    import comfy.model_management

    model = compiled(harness, graphs)
    state = harness.fresh()
    for chunk in range(3):  # nothing, the anchor and a window, all of both
        before = graphs.runs
        state, _ = harness.step(state, 1, model=model)
        # Two steps, and the commit of the chunk before; the very first forward runs uncompiled.
        assert graphs.runs - before == (1, 3, 3)[chunk]
        assert graphs.made == 1
    for step in (0, 0, 1):  # after the commit, which is kept; after the first step, the second
        with monkeypatch.context() as patch:
            interrupt_at(patch, step)
            with pytest.raises(comfy.model_management.InterruptProcessingException):
                harness.step(state, 1, model=model, seed=step + 1)
    state, _ = harness.step(state, 1, model=model)
    assert graphs.made == 1
    close(state.content(), harness.step(harness.fresh(), 4)[0].content())
    (back,) = harness.run("AdaStateRewind", state, 1)
    again, _ = harness.step(back, 1, model=model, seed=9)
    other, _ = harness.step(harness.fresh(), 1, model=model, prompt=4, seed=5)
    assert graphs.made == 1
    close(again.newest_content(), harness.step(back, 1, seed=9)[0].newest_content())
    close(other.content(), harness.step(harness.fresh(), 1, prompt=4, seed=5)[0].content())


@pytest.mark.newest
def test_guidance_is_a_graph_of_its_own_and_only_once(harness: NodeHarness, graphs: Graphs) -> None:
    """Its forwards have two conditionings in a batch, its commits one."""
    model = compiled(harness, graphs)
    guided = {"negative": 3, "cfg": 3.0}
    state, _ = harness.step(harness.fresh(), 2, model=model)
    assert graphs.made == 1
    for options in (guided, {}, guided, {}):
        state, _ = harness.step(state, 1, model=model, **options)
        assert graphs.made == 2
    expected, _ = harness.step(harness.fresh(), 2)
    for options in (guided, {}, guided, {}):
        expected, _ = harness.step(expected, 1, **options)
    close(state.content(), expected.content())


@pytest.mark.newest
def test_the_fastest_attention_is_chosen_outside_the_graph(
    harness: NodeHarness, graphs: Graphs, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock().install(monkeypatch, pack)
    model = compiled(harness, graphs, attention="fastest")
    state, _ = harness.step(harness.fresh(), 3, model=model)
    close(state.content(), harness.step(harness.fresh(), 3)[0].content())
    chosen = model.get_attachment("adastate").kernels.choices
    assert [each.name for each in chosen] == ["PyTorch"] * 2  # alone, and with a past
    assert graphs.made == 1


@pytest.mark.newest
@pytest.mark.parametrize("blocks", [True, False])
def test_guards_that_other_packs_leave_in(
    harness: NodeHarness, graphs: Graphs, blocks: bool
) -> None:
    """Then what is in the options is guarded too, which the host's node has torch forget."""
    model = in_mode(harness, "default", graphs, blocks=blocks)
    state, _ = harness.step(harness.fresh(), 2, model=model)
    made = graphs.made
    # For blocks as without a stream, however many there are; else a commit has its own schedule.
    assert made <= 2
    state, _ = harness.step(state, 2, model=model)
    assert graphs.made == made
    close(state.content(), harness.step(harness.fresh(), 4)[0].content())


@pytest.mark.newest
@pytest.mark.skipif(not COMPILER, reason="inductor builds C++ for the CPU")
def test_a_mode_that_tries_kernels_and_records_nothing(harness: NodeHarness) -> None:
    model = in_mode(harness, "max-autotune-no-cudagraphs", blocks=True)
    state, _ = harness.step(harness.fresh(), 3, model=model)
    close(state.content(), harness.step(harness.fresh(), 3)[0].content())


OTHER_MODE = 'Choose the mode "max-autotune-no-cudagraphs" on the node that compiles the model.'


@pytest.mark.parametrize(
    ("how", "seen", "remedy"),
    [
        ({"mode": "max-autotune"}, "max-autotune", OTHER_MODE),
        ({"mode": "reduce-overhead"}, "reduce-overhead", OTHER_MODE),
        ({"options": {"triton.cudagraphs": True}}, "triton.cudagraphs", "Turn it off"),
        ({"backend": "cudagraphs"}, "cudagraphs", "Choose the backend inductor"),
    ],
)
def test_recorded_graphs_are_refused_with_what_to_choose(
    harness: NodeHarness, how: dict[str, Any], seen: str, remedy: str
) -> None:
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model = harness.model.clone()
    set_torch_compile_wrapper(model=model, **{"backend": "inductor", **how})
    words = re.escape(f'A stream cannot use "{seen}" of torch.compile, which records CUDA graphs. ')
    with pytest.raises(ValueError, match=f"^{words}{re.escape(remedy)}"):
        harness.step(harness.fresh(), model=model)


def test_options_that_turn_the_graphs_off_are_served(harness: NodeHarness, pack: Any) -> None:
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    name = f"{pack.__name__}.adastate_comfy.model.torch_compile"
    model = harness.model.clone()
    options = {"max_autotune": True, "triton.cudagraphs": False}
    set_torch_compile_wrapper(model=model, backend="inductor", options=options)
    importlib.import_module(name).check_compiled(model)
