"""States and named streams that version 0.1.0 wrote open, and go on as they did then.

`tests/data/v1_nodes` holds them and, for each, the next chunk that version 0.1.0 made of it.
"""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.harness import NodeHarness
from tests.support.tiny_models import WAN, WAN_LOW

DATA = Path(__file__).parents[1] / "data" / "v1_nodes"
EXPECTED = load_file(DATA / "expected.safetensors")
PAIR_SIGMAS = (1.0, 0.9, 0.6, 0.3, 0.0)
TOLERANCE = 1e-4  # other processors than the one it was made on round otherwise


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Path) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


def text(seed: int) -> list[Any]:
    source = torch.Generator().manual_seed(seed)
    return [[torch.randn((1, 2, 4096), generator=source), {}]]


def load(core: ModuleType, name: str) -> Any:
    storage = importlib.import_module(f"{core.__name__}.files.state_file")
    return storage.load_state(DATA / f"{name}.adastate.safetensors")


def next_chunk(harness: NodeHarness, state: Any, **changes: Any) -> Any:
    import comfy.samplers

    inputs = {
        "model": harness.model,
        "state": state,
        "positive": text(0),
        "cfg": 1.0,
        "seed": 5,
        "sampler": comfy.samplers.sampler_object("lcm"),
        "sigmas": torch.tensor((1.0, 0.6, 0.0)),
        "chunks": 1,
    }
    return harness.run("AdaStateStream", **{**inputs, **changes})[0]


def assert_as_before(state: Any, name: str) -> None:
    torch.testing.assert_close(
        state.newest_content(), EXPECTED[name], atol=TOLERANCE, rtol=TOLERANCE
    )


def test_a_bounded_stream_with_a_hold_and_a_recache_goes_on(
    harness: NodeHarness, core: ModuleType
) -> None:
    state = load(core, "adaptive")
    assert state.chunk_index == 4
    assert_as_before(next_chunk(harness, state, positive=text(1)), "adaptive")


def test_a_guided_stream_of_a_preset_with_a_start_clip_goes_on(
    harness: NodeHarness, core: ModuleType
) -> None:
    import comfy.samplers

    (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3, preset="longlive")
    after = next_chunk(
        harness,
        load(core, "guided"),
        model=model,
        negative=text(9),
        cfg=3.0,
        sampler=comfy.samplers.sampler_object("euler"),
    )
    assert_as_before(after, "guided")


def test_a_stream_of_a_pair_goes_on(
    harness: NodeHarness, node_classes: dict[str, Any], core: ModuleType
) -> None:
    low = NodeHarness(node_classes, WAN_LOW)
    after = next_chunk(
        harness, load(core, "pair"), sigmas=torch.tensor(PAIR_SIGMAS), model_low_noise=low.model
    )
    assert_as_before(after, "pair")


def test_a_named_stream_goes_on_and_takes_new_commits(harness: NodeHarness, base_dir: Path) -> None:
    streams = base_dir / "output" / "adastate" / "streams"
    shutil.copytree(DATA / "streams", streams)
    try:
        state, revision = harness.run("AdaStateOpenStream", "long story", harness.fresh())
        assert (revision, state.chunk_index) == (3, 3)
        after = next_chunk(harness, state)
        assert_as_before(after, "named")
        _, revision = harness.run("AdaStateCommitStream", [after])
        assert revision == 4
        again, revision = harness.run("AdaStateOpenStream", "long story", harness.fresh())
        assert (revision, again.chunk_index) == (4, 4)
        assert torch.equal(again.content(), after.content())
    finally:
        shutil.rmtree(streams)
