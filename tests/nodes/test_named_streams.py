"""Named streams through the nodes, as ComfyUI's executor would run them."""

from __future__ import annotations

import importlib
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness
from tests.support.tiny_models import WAN


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


@pytest.fixture
def streams(base_dir: Path) -> Iterator[Path]:
    """Return the folder of all streams, which does not exist yet."""
    folder = base_dir / "output" / "adastate" / "streams"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def opened(harness: NodeHarness, name: str = "walk") -> tuple[Any, int]:
    return harness.run("AdaStateOpenStream", name, harness.fresh())  # type: ignore[return-value]


def committed(harness: NodeHarness, state: Any) -> tuple[Any, int]:
    return harness.run("AdaStateCommitStream", [state])  # type: ignore[return-value]


def test_a_relay_equals_one_run(harness: NodeHarness, streams: Path) -> None:
    for revision in range(4):
        state, seen = opened(harness)
        assert seen == revision
        assert streams.exists() == (revision > 0)
        (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
        state, _ = harness.step(state, model=model, seed=4)
        _, seen = committed(harness, state)
        assert seen == revision + 1
    together, _ = harness.step(harness.fresh(), 4, seed=4)
    assert torch.equal(opened(harness)[0].content(), together.content())


def test_opened_while_warm_it_replays_nothing(harness: NodeHarness, streams: Path) -> None:
    import comfy.patcher_extension

    calls = []

    def count(executor: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return executor(*args, **kwargs)

    model = harness.model.clone()
    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    model.add_wrapper_with_key(kind, "count", count)
    for revision in range(3):
        calls.clear()
        state, _ = harness.step(opened(harness)[0], model=model)
        committed(harness, state)
        assert len(calls) == (3 if revision else 2)  # the two steps, and the commit of the last


def test_every_edit_keeps_the_origin(harness: NodeHarness, streams: Path) -> None:
    state, _ = harness.step(opened(harness)[0], 2)
    other, _ = harness.step(harness.fresh(), 1, seed=8)
    clip = {"samples": torch.zeros((1, 16, 3, 4, 6))}
    edited = [
        harness.run("AdaStateHold", state, 2)[0],
        harness.run("AdaStateReset", state, "all", clip)[0],
        harness.run("AdaStateRewind", state, 0)[0],
        harness.run("AdaStateBlend", state, other, 0.5)[0],
    ]
    for changed in edited:
        assert changed.origin == state.origin
    state, _ = committed(harness, edited[1])
    state, revision = committed(harness, harness.step(state)[0])  # two commits of one prompt
    assert revision == 2
    assert opened(harness)[0].origin == state.origin


def test_conflicts_and_strangers_are_refused(harness: NodeHarness, streams: Path) -> None:
    state, _ = opened(harness)
    committed(harness, state)
    with pytest.raises(ValueError, match=r'^Another run has begun the stream "walk" first'):
        committed(harness, state)
    with pytest.raises(ValueError, match=r"This stream has no name. Begin it with Open Stream"):
        committed(harness, harness.fresh())
    with pytest.raises(ValueError, match=r"^Commit Stream was given 2 streams; it keeps one"):
        harness.run("AdaStateCommitStream", [state, state])


def test_a_refused_state_can_be_loaded(
    harness: NodeHarness, node_classes: dict[str, Any], streams: Path
) -> None:
    state, _ = opened(harness)
    committed(harness, harness.step(state)[0])
    late, _ = harness.step(state, 2, seed=8)
    for number in (1, 2):
        with pytest.raises(ValueError, match=r'^Another run has begun the stream "walk"') as error:
            committed(harness, late)
        name = f"walk.refused_{number:05d}.adastate.safetensors"
        assert str(streams / name) in str(error.value)
        listed = f"adastate/streams/{name} [output]"
        assert listed in node_classes["AdaStateLoad"].GET_SCHEMA().inputs[0].options
        (kept,) = harness.run("AdaStateLoad", listed)
        assert torch.equal(kept.content(), late.content())
    assert opened(harness)[1] == 1
    shutil.rmtree(streams / "walk")
    (streams / "walk").write_text("in the way")
    with pytest.raises(ValueError, match=r"in place of its folder.*walk.refused_00003"):
        committed(harness, late)
    shutil.rmtree(streams)
    streams.write_text("in the way")
    try:
        with pytest.raises(ValueError, match=r"walk.refused_00001") as error:
            committed(harness, late)
        (kept_path,) = streams.parents[1].glob("*.safetensors")
        assert str(kept_path) in str(error.value)
        kept_path.unlink()
    finally:
        streams.unlink()


def test_a_saved_state_is_free_of_its_stream(harness: NodeHarness, streams: Path) -> None:
    state, _ = harness.step(opened(harness)[0])
    (path,) = harness.run("AdaStateSave", state, "adastate/taken out")
    (loaded,) = harness.run("AdaStateLoad", f"adastate/{Path(path).name} [output]")
    assert loaded.origin is None
    again, revision = harness.run("AdaStateOpenStream", "of a file", loaded)
    assert revision == 0
    assert torch.equal(committed(harness, again)[0].content(), state.content())


def test_the_fingerprint_follows_the_commits(
    harness: NodeHarness, node_classes: dict[str, Any], streams: Path
) -> None:
    node = node_classes["AdaStateOpenStream"]
    first, again = (node.fingerprint_inputs(name="walk", start=None) for _ in range(2))
    assert math.isnan(first)
    assert first is not again  # one object would count as unchanged
    committed(harness, opened(harness)[0])
    one, same = (node.fingerprint_inputs(name="walk", start=None) for _ in range(2))
    assert one == same
    committed(harness, opened(harness)[0])
    assert node.fingerprint_inputs(name="walk") != one
    commit = node_classes["AdaStateCommitStream"]
    first, again = (commit.fingerprint_inputs(state=None, after=None) for _ in range(2))
    assert math.isnan(first)
    assert first is not again


def test_names_are_checked_before_anything_runs(
    node_classes: dict[str, Any], streams: Path
) -> None:
    node = node_classes["AdaStateOpenStream"]
    assert node.validate_inputs(name="walk") is True
    for name in ("", "../up", "CON", "a/b", None):
        answer = node.validate_inputs(name=name)
        assert "on Open Stream." in answer
        assert "\n" not in answer
    (item,) = (i for i in node.GET_SCHEMA().inputs if i.id == "name")
    assert item.as_dict()["socketless"] is True
    streams.mkdir(parents=True)
    (streams / "out").symlink_to(streams.parent, target_is_directory=True)
    assert "leads out of the streams folder" in node.validate_inputs(name="out")


@pytest.fixture
def said(pack: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the two nodes write under themselves."""
    words: list[str] = []
    module = importlib.import_module(f"{pack.__name__}.nodes.named_streams")
    monkeypatch.setattr(module, "write_under", lambda _, text: words.append(text))
    return words


@pytest.fixture
def shown(harness: NodeHarness) -> Iterator[NodeHarness]:
    """Return nodes that have a place on the page, and so a panel."""
    from comfy_api.latest import io

    harness.hidden = {io.Hidden.unique_id: "7"}
    yield harness
    harness.hidden = {}


def test_open_says_what_comes_before_anything_is_made(
    shown: NodeHarness, streams: Path, said: list[str]
) -> None:
    opened(shown, "told")
    committed(shown, shown.step(opened(shown, "told")[0], 2)[0])
    opened(shown, "told")
    assert said == [
        "new stream",
        "new stream",
        # 3 latent frames each: 9 and 12 frames at 16 a second.
        "told: revision 1, 2 chunks, 1.3 s",
        "continuing: 2 chunks",
    ]
    said.clear()
    (other,) = shown.run("AdaStateNewStream", {"samples": torch.zeros(1, 16, 5, 8, 4)}, 0)
    state, _ = shown.run("AdaStateOpenStream", "told", other)
    assert said == ["continuing: 2 chunks of 48 x 32; start is 32 x 64, and not used"]
    assert state.latent_shape[2:] == (4, 6)
    shutil.rmtree(streams / "told")
    opened(shown, "told")
    assert said[1:] == ["new stream: the one of 2 chunks that was here has gone"]


def test_a_length_that_no_panel_knows_is_not_guessed(
    harness: NodeHarness, streams: Path, said: list[str]
) -> None:
    committed(harness, harness.step(opened(harness, "quiet")[0], seed=99)[0])
    assert said[-1] == "quiet: revision 1, 1 chunk"
