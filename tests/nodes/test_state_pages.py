"""What ComfyUI's page opens of a state file: the workflow that it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from tests.support.harness import NodeHarness
from tests.support.tiny_models import WAN

PROMPT = {"3": {"class_type": "AdaStateSave", "inputs": {"half": float("nan")}}}
WORKFLOW = {"id": "5d0a", "nodes": [{"id": 3, "type": "AdaStateSave", "title": "\u72b6\u614b"}]}


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


@pytest.fixture(autouse=True)
def _queued(harness: NodeHarness) -> Iterator[None]:
    """Let nodes see the prompt and the workflow of the page."""
    from comfy_api.latest import io

    harness.hidden = {io.Hidden.prompt: PROMPT, io.Hidden.extra_pnginfo: {"workflow": WORKFLOW}}
    yield
    harness.hidden = {}


def page_of(path: Path) -> dict[str, Any]:
    """Return what the page finds in a file, beside what the pack itself reads."""
    with safe_open(path, framework="pt") as file:
        found = file.metadata()
    return {key: json.loads(found[key]) for key in found.keys() - {"adastate", "sha256"}}


def test_a_saved_state_opens_its_workflow(harness: NodeHarness) -> None:
    (path,) = harness.run("AdaStateSave", harness.fresh(), "pages/state")
    prompt = {"3": {"class_type": "AdaStateSave", "inputs": {"half": None}}}
    assert page_of(Path(path)) == {"workflow": WORKFLOW, "prompt": prompt}
    (loaded,) = harness.run("AdaStateLoad", f"pages/{Path(path).name} [output]")
    assert loaded == harness.fresh()


@pytest.mark.parametrize("twice", [".adastate (1)", ".adastate(2)"])
def test_a_file_that_was_numbered_on_its_way_is_found(
    harness: NodeHarness, node_classes: dict[str, Any], base_dir: Path, twice: str
) -> None:
    (path,) = harness.run("AdaStateSave", harness.fresh(), "pages/state")
    name = Path(path).name.replace(".adastate", twice)
    (base_dir / "input" / name).write_bytes(Path(path).read_bytes())
    (file,) = node_classes["AdaStateLoad"].define_schema().inputs
    assert f"{name} [input]" in file.options
    (loaded,) = harness.run("AdaStateLoad", f"{name} [input]")
    assert loaded == harness.fresh()


def test_it_holds_none_where_comfyui_may_write_none(
    harness: NodeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comfy.cli_args import args

    monkeypatch.setattr(args, "disable_metadata", True)
    (path,) = harness.run("AdaStateSave", harness.fresh(), "pages/bare")
    assert page_of(Path(path)) == {}


def test_a_refused_commit_opens_its_workflow(harness: NodeHarness, base_dir: Path) -> None:
    state, _ = harness.run("AdaStateOpenStream", "pages", harness.fresh())
    harness.run("AdaStateCommitStream", [state])
    with pytest.raises(ValueError, match=r"pages\.refused_00001"):
        harness.run("AdaStateCommitStream", [state])
    (kept,) = (base_dir / "output/adastate/streams").glob("pages.refused_*.safetensors")
    assert page_of(kept)["workflow"] == WORKFLOW
