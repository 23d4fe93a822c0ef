"""Render Stream to Video: the file holds what Decode Stream shows, whatever happens on the way."""

from __future__ import annotations

import gc
import importlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from tests.support.harness import SMALL, NodeHarness, conditioning, pool_of
from tests.support.rendered import luma, luma_of, receipt_lines, receipts
from tests.support.tiny_models import WAN

CHUNK_FRAMES = 12


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN, SMALL)


@pytest.mark.parametrize("apart", [False, True])
def test_a_file_holds_what_decode_shows(
    harness: NodeHarness, vae: Any, render: Any, output: Path, apart: bool
) -> None:
    expected_state, expected = harness.step(harness.fresh(), 4)
    (shown, _) = harness.run("AdaStateDecode", vae, expected_state, 0, 0, True)
    threads = set()
    hook = vae.first_stage_model.conv2.register_forward_pre_hook(
        lambda *_: threads.add(threading.current_thread() is threading.main_thread())
    )
    state, video = render(harness.fresh(), 4, crf=0.0, decode_apart=apart)
    hook.remove()
    assert threads == {not apart}
    path = next(output.glob("*.mp4"))
    torch.testing.assert_close(luma(path), luma_of(shown), atol=0.01, rtol=0)
    torch.testing.assert_close(
        harness.run("AdaStateRead", state)[2]["samples"], expected["samples"], atol=0, rtol=0
    )
    assert video.get_duration() == pytest.approx(len(shown) / 16)
    assert video.get_components().images.shape == shown.shape


@pytest.mark.newest
def test_what_is_held_does_not_grow_with_the_length(harness: NodeHarness, render: Any) -> None:
    def held(history: int, chunks: tuple[int, int]) -> list[int]:
        counts: list[int] = []
        wanted = {2 * chunk for chunk in chunks}  # two forwards each, and a commit
        model = counting(harness.model, {f + f // 2 - 1 for f in wanted}, counts)
        render(harness.fresh(), chunks[1] + 1, model=model, history_chunks=history)
        return counts

    early, late = held(2, (5, 11))
    assert late == early
    early, late = held(0, (5, 11))
    assert late > early


def counting(model: Any, forwards: set[int], counts: list[int]) -> Any:
    """Return a MODEL that notes the bytes of all tensors alive in some of its forwards.

    That is once all that waited is written, so that it does not depend on who is faster.
    """
    count = iter(range(1000))

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        if next(count) in forwards:
            for each in [x for x in gc.get_objects() if type(x).__name__ == "BoundedWorker"]:
                with suppress(RuntimeError):  # one of an earlier render has ended
                    each._thread.submit(int).result()
            gc.collect()
            # By type: what torch.compile has left behind of other tests is no memory.
            tensors = [x for x in gc.get_objects() if type(x) in (Tensor, torch.nn.Parameter)]
            storages = {x.untyped_storage().data_ptr(): x.untyped_storage() for x in tensors}
            counts.append(sum(storage.nbytes() for storage in storages.values()))
        return executor(*args, **kwargs)

    return wrapped(model, wrapper)


def wrapped(model: Any, wrapper: Any) -> Any:
    from comfy.patcher_extension import WrappersMP

    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "watch", wrapper)
    return watched


def test_the_workflow_is_in_the_container_and_receipts_beside_it(
    harness: NodeHarness, render: Any, output: Path
) -> None:
    from comfy_api.latest import io

    prompt, workflow = {"1": {"class_type": "X"}}, {"id": "w"}
    harness.hidden = {io.Hidden.prompt: prompt, io.Hidden.extra_pnginfo: {"workflow": workflow}}
    try:
        render(harness.fresh(), 2, codec="h265")
    finally:
        harness.hidden = {}
    path = next(output.glob("*.mp4"))
    with av.open(str(path)) as container:
        assert json.loads(container.metadata["workflow"]) == workflow
        assert json.loads(container.metadata["prompt"]) == prompt
        assert container.streams.video[0].codec_context.name == "hevc"
    head, *events = receipt_lines(path)
    assert (head["video"], head["codec"], head["first_chunk"]) == (path.name, "h265", 0)
    chunks = [r for r in events if r["event"] == "chunk"]
    assert [(c["chunk"], c["seed"], c["frames"]) for c in chunks] == [
        (0, 0, [0, 8]),
        (1, 0, [9, 20]),
    ]
    assert events[-1] == {"event": "end", "reason": "complete", "frames": 21}


class Stop(Exception):
    """Stands for whatever goes wrong inside the model."""


def failing_at(model: Any, forward: int) -> Any:
    """Return a MODEL that fails in one of its forwards, counted from 0."""
    count = iter(range(1000))

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        if next(count) == forward:
            raise Stop("out of luck")
        return executor(*args, **kwargs)

    return wrapped(model, wrapper)


@pytest.mark.parametrize("apart", [False, True])
def test_a_failure_leaves_a_file_that_plays_and_a_stream_to_go_on_from(
    harness: NodeHarness, vae: Any, render: Any, output: Path, apart: bool
) -> None:
    pool_of(harness.model).clear()  # else fewer commits are needed
    # A chunk has two forwards, and every one but the first a commit: this is in chunk 3.
    broken = failing_at(harness.model, 10)
    with pytest.raises(Stop):
        render(harness.fresh(), 5, model=broken, crf=0.0, decode_apart=apart)
    (path,) = output.glob("*.mp4")
    whole, _ = harness.step(harness.fresh(), 5)
    (shown, _) = harness.run("AdaStateDecode", vae, whole, 0, 0, True)
    torch.testing.assert_close(luma(path), luma_of(shown)[:33], atol=0.01, rtol=0)
    assert receipts(path)[-1] == {"event": "end", "reason": "Stop: out of luck", "frames": 33}
    listed = f"{output.name}/{path.stem}.stopped.adastate.safetensors [output]"
    (saved,) = harness.run("AdaStateLoad", listed)
    render(saved, 2, crf=0.0)
    rest = luma(sorted(output.glob("*.mp4"))[1])
    torch.testing.assert_close(rest, luma_of(shown)[33:], atol=0.01, rtol=0)


def test_a_failure_before_the_first_chunk_leaves_nothing(
    harness: NodeHarness, render: Any, output: Path
) -> None:
    with pytest.raises(Stop):
        render(harness.fresh(), 2, model=failing_at(harness.model, 1))
    assert list(output.iterdir()) == []


@pytest.fixture
def small_files() -> Iterator[Any]:
    """Return a function that limits how large the files of this process can grow."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("apart", [False, True])
def test_a_full_disk_is_said_and_leaves_whole_chunks(
    harness: NodeHarness, render: Any, output: Path, small_files: Any, apart: bool
) -> None:
    render(harness.fresh(), 4, crf=0.0)
    (complete,) = output.glob("*.mp4")
    small_files(complete.stat().st_size - 100)
    with pytest.raises(
        ValueError, match=r"^video_00002_\.mp4 cannot be written \(File too large\)"
    ):
        render(harness.fresh(), 4, crf=0.0, decode_apart=apart)
    cut = sorted(output.glob("*.mp4"))[1]
    torch.testing.assert_close(luma(cut), luma(complete)[:33], atol=0, rtol=0)
    assert receipts(cut)[-1]["frames"] == 33
    # Nothing of the chunk that found no room is left at the end.
    assert cut.stat().st_size < complete.stat().st_size - 100


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def wait_for(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not check():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def fill_disk(receipts: Path) -> None:
    """Let the next line meet a full disk."""
    receipts.unlink()
    receipts.symlink_to("/dev/full")


@needs_full
def test_a_disk_that_fills_with_the_last_chunk_is_said_and_the_stream_kept(
    harness: NodeHarness, render: Any, output: Path
) -> None:
    forwards = iter(range(1000))

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        (path,) = output.glob("*.jsonl")
        if next(forwards) == 6:  # of the last chunk; those before it may still be on their way
            wait_for(lambda: len(path.read_text().splitlines()) == 3)
            fill_disk(path)
        return executor(*args, **kwargs)

    pool_of(harness.model).clear()  # else fewer commits are needed
    with pytest.raises(ValueError, match=r"^video_00001_\.jsonl cannot be written \(No space left"):
        render(harness.fresh(), 3, model=wrapped(harness.model, wrapper))
    listed = f"{output.name}/video_00001_.stopped.adastate.safetensors [output]"
    (saved,) = harness.run("AdaStateLoad", listed)
    with av.open(str(output / "video_00001_.mp4")) as container:
        assert container.streams.video[0].frames == 9 + 12 * (saved.chunk_index - 1)


@needs_full
def test_a_disk_that_fills_at_the_very_end_hides_nothing(
    pack: Any, harness: NodeHarness, vae: Any, tmp_path: Path
) -> None:
    video_file, pictures, recording = (
        importlib.import_module(f"{pack.__name__}.adastate_comfy.video.{name}")
        for name in ("video_file", "decoders", "render_job")
    )
    receipts = importlib.import_module(f"{pack.__name__}.adastate_core.files.receipts")
    page = {"workflow": "{}"}
    video = video_file.VideoFile(tmp_path / "a.mp4", (32, 16), fps=16.0, crf=20.0, metadata=page)
    log = receipts.ReceiptFile(tmp_path / "a.jsonl", {})
    decoder = pictures.open_decoder(vae, (1, 16, 3, *SMALL))
    made = recording.RenderJob(video, log, decoder, lambda *_: None, in_background=False)
    with torch.inference_mode():
        made.begin(harness.fresh(), 3, True)
        made.add(harness.step(harness.fresh())[0])
    fill_disk(log.path)
    with pytest.raises(ValueError, match="No space left"):
        made.finish()
    for _ in range(2):
        told = "in a.stopped.adastate.safetensors: continue with Load State"
        assert made.stop("x").endswith(told)
    with safe_open(tmp_path / "a.stopped.adastate.safetensors", framework="pt") as file:
        assert file.metadata()["workflow"] == page["workflow"]
    with av.open(str(video.path)) as container:
        assert container.streams.video[0].frames == 9


def test_names_too_long_for_the_stream_are_refused_before_work(
    harness: NodeHarness, vae: Any, output: Path
) -> None:
    import comfy.samplers

    inputs = {
        "positive": conditioning(0),
        "cfg": 1.0,
        "seed": 0,
        "chunks": 2,
        "fps": 16.0,
        "sampler": comfy.samplers.sampler_object("lcm"),
        "sigmas": torch.tensor((1.0, 0.0)),
    }
    broken = failing_at(harness.model, 0)
    with pytest.raises(ValueError, match=r"^filename_prefix is too long"):
        harness.run(
            "AdaStateRender",
            broken,
            harness.fresh(),
            vae=vae,
            **inputs,
            filename_prefix=f"{output.name}/{'n' * 240}",
        )
    assert list(output.iterdir()) == []


def test_numbers_that_are_no_json_become_null(
    harness: NodeHarness, render: Any, output: Path
) -> None:
    from comfy_api.latest import io

    prompt = {"1": {"class_type": "X", "is_changed": [float("nan")], "inputs": {"a": float("inf")}}}
    harness.hidden = {io.Hidden.prompt: prompt, io.Hidden.extra_pnginfo: {"b": float("-inf")}}
    try:
        render(harness.fresh(), 1)
    finally:
        harness.hidden = {}
    with av.open(str(next(output.glob("*.mp4")))) as container:
        found = json.loads(container.metadata["prompt"], parse_constant=pytest.fail)
        assert found["1"] == {"class_type": "X", "is_changed": [None], "inputs": {"a": None}}
        assert container.metadata["b"] == "null"


def test_what_cannot_be_rendered_is_refused(
    harness: NodeHarness, render: Any, output: Path
) -> None:
    with pytest.raises(
        ValueError, match=r"^The stream makes 2 videos at once, and a file holds one"
    ):
        render(harness.fresh(batch=2))
    assert not output.exists()
