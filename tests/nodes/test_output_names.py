"""Names of files: as *Save Video* would name them, and never the same for two processes."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.forked import run_forked
from tests.support.harness import NodeHarness
from tests.support.tiny_models import WAN

SUFFIX = ".adastate.safetensors"


@pytest.fixture
def names(pack: ModuleType, base_dir: Path) -> Any:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.output_names")


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


@pytest.fixture
def save(harness: NodeHarness) -> Callable[..., Path]:
    def run(prefix: str, state: Any = None, **hidden: Any) -> Path:
        from comfy_api.latest import io

        harness.hidden = {io.Hidden[name]: value for name, value in hidden.items()}
        try:
            return Path(harness.run("AdaStateSave", state or harness.fresh(), prefix)[0])
        finally:
            harness.hidden = {}

    return run


PROMPT = {
    "3": {"class_type": "AdaStateStream", "inputs": {"seed": 7, "cfg": 1.0, "model": ["1", 0]}},
    "4": {"class_type": "AdaStateStream", "inputs": {"seed": 8}},
    "5": {
        "class_type": "PrimitiveString",
        "inputs": {"value": 'a/b?"c"', "flag": True, "none": None, "half": 0.5},
        "_meta": {"title": "My words"},
    },
    "9:2": {"class_type": "Inner", "inputs": {"name": "deep"}},
}
WORKFLOW = {
    "nodes": [
        {"id": 4, "type": "AdaStateStream", "properties": {"Node name for S&R": "second"}},
        {"id": 3, "type": "AdaStateStream", "properties": {"Node name for S&R": "AdaStateStream"}},
        {"id": 5, "type": "PrimitiveString", "title": "Renamed", "properties": {}},
        {"id": 9, "type": "part"},
    ],
    "definitions": {"subgraphs": [{"id": "part", "nodes": [{"id": 2, "type": "Inner"}]}]},
}


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("%AdaStateStream.seed%", "7"),
        ("%second.seed%", "8"),
        ("%AdaStateStream.cfg%", "1"),
        ("%Renamed.value%", "a_b__c_"),
        ("%PrimitiveString.flag%_%PrimitiveString.none%_%PrimitiveString.half%", "true__0.5"),
        ("%Inner.name%", "deep"),
        ("a/%AdaStateStream.seed%/b", "a/7/b"),
        # What is not there, linked or no token stays, as on ComfyUI's page.
        ("%Nothing.seed%", "%Nothing.seed%"),
        ("%AdaStateStream.model%", "%AdaStateStream.model%"),
        ("100% of %year%", "100% of %year%"),
        ("%width%x%height%", "%width%x%height%"),
    ],
)
def test_values_of_widgets_are_filled_in(names: Any, prefix: str, expected: str) -> None:
    assert names.filled_in(prefix, PROMPT, {"workflow": WORKFLOW}) == expected


def test_a_prompt_without_a_workflow_names_its_nodes(names: Any) -> None:
    assert names.filled_in("%AdaStateStream.seed%", PROMPT, {}) == "7"
    assert names.filled_in("%My words.value%", PROMPT, {}) == "a_b__c_"


def test_dates_are_written_as_the_page_writes_them(names: Any) -> None:
    before = datetime.now()
    found = names.filled_in(
        "%date:yyyy-MM-dd hh.%|%date:yyyy-MM-dd_hh,mm,ss%|%date:yy d M%", {}, {}
    )
    after = datetime.now()
    ways = [f"{now:%Y-%m-%d_%H,%M,%S}|{now:%y} {now.day} {now.month}" for now in (before, after)]
    # A dot makes it the name of a node and a widget.
    assert found.split("|", 1)[0] == "%date:yyyy-MM-dd hh.%"
    assert found.split("|", 1)[1] in ways


def test_a_state_is_named_as_a_video_of_its_size(
    harness: NodeHarness, save: Any, base_dir: Path
) -> None:
    year = datetime.now().year
    state, _ = harness.step(harness.fresh())
    path = save("names/%year%/%width%x%height%", state)
    assert path == base_dir / "output" / "names" / str(year) / f"48x32_00001{SUFFIX}"
    path = save("names/%AdaStateStream.seed%", prompt=PROMPT, extra_pnginfo={"workflow": WORKFLOW})
    assert path.name == f"7_00001{SUFFIX}"


def test_a_linked_folder_inside_the_output_folder_is_followed(save: Any, base_dir: Path) -> None:
    (base_dir / "output" / "real").mkdir()
    (base_dir / "output" / "linked").symlink_to("real", target_is_directory=True)
    path = save("linked/state")
    assert path == base_dir / "output" / "linked" / f"state_00001{SUFFIX}"
    assert (base_dir / "output" / "real" / path.name).is_file()


@pytest.mark.parametrize("prefix", ["../out", "", ".", "a/..", "/elsewhere/out"])
def test_a_name_outside_the_output_folder_is_refused(save: Any, prefix: str) -> None:
    said = f'^filename_prefix "{re.escape(prefix)}" leads out of the output folder'
    with pytest.raises(ValueError, match=said):
        save(prefix)


def test_numbers_go_on(save: Any) -> None:
    first, second = save("count/state"), save("count/state")
    assert (first.name, second.name) == (f"state_00001{SUFFIX}", f"state_00002{SUFFIX}")
    first.unlink()
    assert save("count/state").name == f"state_00003{SUFFIX}"


def test_names_that_do_not_fit_are_refused_first(save: Any, base_dir: Path) -> None:
    for name in ("n" * 230, "\xfc" * 115):
        with pytest.raises(
            ValueError, match=r"^filename_prefix is too long for this disk by \d+ bytes"
        ):
            save(f"long/{name}")
    assert list((base_dir / "output" / "long").iterdir()) == []
    longest = 255 - len(f"_00001{SUFFIX}") - len("..4194304.partial")
    assert save(f"long/{'n' * longest}").is_file()


def test_a_number_is_free_for_all_files_that_have_it(names: Any, tmp_path: Path) -> None:
    (tmp_path / "v_00001_.mp4").touch()
    (tmp_path / "v_00002_.jsonl").touch()
    place = names.OutputTarget(tmp_path, "v", 1, "")
    assert place.claim("_{:05}_", (".mp4", ".jsonl")).name == "v_00003_.mp4"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "v_00001_.mp4",
        "v_00002_.jsonl",
        "v_00003_.mp4",
    ]


def test_two_processes_never_write_one_file(save: Callable[..., Path], base_dir: Path) -> None:
    told = run_forked(lambda: [str(save("both/state")) for _ in range(10)], copies=2)
    paths = sorted(told[0] + told[1])
    assert paths == sorted(map(str, (base_dir / "output" / "both").iterdir()))
    assert [Path(path).name for path in paths] == [f"state_{n:05}{SUFFIX}" for n in range(1, 21)]


def test_a_name_that_is_only_taken_is_not_listed(
    node_classes: dict[str, Any], base_dir: Path
) -> None:
    folder = base_dir / "output" / "taken"
    folder.mkdir()
    (folder / f"state_00001{SUFFIX}").touch()
    options = node_classes["AdaStateLoad"].define_schema().inputs[0].options
    assert not [name for name in options if name.startswith("taken/")]
