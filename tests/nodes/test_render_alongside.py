"""A chunk is made while the one before it is encoded: in order, in little memory, failing early."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import SMALL, NodeHarness, pool_of
from tests.support.rendered import luma, luma_of, receipts
from tests.support.tiny_models import WAN
from tests.support.tiny_vaes import random_weights, taehv

LONG = 60.0
"""Seconds after which something that should have happened has not."""


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN, SMALL)


def on_chunk(harness: NodeHarness, call: Callable[[int], None]) -> Any:
    """Return a MODEL that calls before the first forward of each chunk, with the chunk's number."""
    from comfy.patcher_extension import WrappersMP

    pool_of(harness.model).clear()  # else fewer commits are needed
    count = iter(range(1000))

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        # A chunk has two forwards, and every one but the first a commit before them.
        number = next(count)
        if number == 0 or number % 3 == 2:
            call((number + 1) // 3)
        return executor(*args, **kwargs)

    watched = harness.model.clone()
    watched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "watch", wrapper)
    return watched


@pytest.fixture
def before_writing(video: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that has something called before each part of a video, with its number."""

    def watch(call: Callable[[int], None]) -> None:
        add, count = video.video_file.VideoFile.add, iter(range(1000))

        def added(self: Any, images: Tensor, sound: Any = None) -> None:
            call(next(count))
            add(self, images, sound)

        monkeypatch.setattr(video.video_file.VideoFile, "add", added)

    return watch


@pytest.mark.parametrize("apart", [False, True])
def test_the_next_chunk_is_made_while_one_is_encoded(
    harness: NodeHarness, render: Any, output: Path, before_writing: Any, apart: bool
) -> None:
    begun, threads = [threading.Event() for _ in range(4)], []

    def write(part: int) -> None:
        threads.append(threading.current_thread().name)
        # Nothing is written of a chunk before the next one is being made.
        assert begun[min(part + 1, 3)].wait(LONG)

    before_writing(write)
    model = on_chunk(harness, lambda chunk: begun[chunk].set())
    render(harness.fresh(), 4, model=model, decode_apart=apart)
    assert threads == ["adastate-write_0"] * 4
    (path,) = output.glob("*.mp4")
    chunks = [r["chunk"] for r in receipts(path) if r["event"] == "chunk"]
    assert chunks == [0, 1, 2, 3]


def test_chunks_wait_where_encoding_is_slow(
    harness: NodeHarness, render: Any, before_writing: Any
) -> None:
    made: list[int] = []
    ahead: list[int] = []

    def write(part: int) -> None:
        deadline = time.monotonic() + LONG
        while made[-1] < min(part + 2, 7):
            assert time.monotonic() < deadline, "the stream does not go on"
            time.sleep(0.01)
        time.sleep(0.3)  # in which many more chunks would be made
        ahead.append(made[-1] - part)

    before_writing(write)
    render(harness.fresh(), 8, model=on_chunk(harness, made.append))
    assert len(ahead) == 8
    assert max(ahead) == 2, "one is written, one waits, and one is made"


def test_a_failure_to_write_ends_the_stream_before_long(
    harness: NodeHarness, vae: Any, render: Any, output: Path, before_writing: Any
) -> None:
    made: list[int] = []

    def write(part: int) -> None:
        if part == 2:
            raise OSError("the disk is gone")

    before_writing(write)
    with pytest.raises(OSError, match="the disk is gone"):
        render(harness.fresh(), 50, model=on_chunk(harness, made.append), crf=0.0)
    assert 2 <= made[-1] <= 5
    (path,) = output.glob("*.mp4")
    assert receipts(path)[-1] == {
        "event": "end",
        "reason": "OSError: the disk is gone",
        "frames": 21,
    }
    listed = f"{output.name}/{path.stem}.stopped.adastate.safetensors [output]"
    (saved,) = harness.run("AdaStateLoad", listed)
    assert saved.chunk_index == 2
    (shown, _) = harness.run("AdaStateDecode", vae, saved)
    torch.testing.assert_close(luma(path), luma_of(shown), atol=0.01, rtol=0)


@pytest.mark.parametrize("apart", [False, True])
def test_the_file_is_that_of_a_straight_line(
    harness: NodeHarness, vae: Any, video: Any, render: Any, output: Path, apart: bool
) -> None:
    """To the byte: as if each chunk were decoded and written before the next one is made."""
    state = harness.fresh()
    expected = video.video_file.VideoFile(
        output.parent / f"{output.name}.mp4", (32, 16), fps=16.0, crf=20.0, expected=(48, 4)
    )
    decoder = video.decoders.open_decoder(vae, (1, 16, 3, *SMALL))
    decoder.load()
    latents = harness.run("AdaStateRead", harness.step(state, 4)[0])[2]["samples"]
    for part in latents.split(3, dim=2):
        expected.add(decoder.decode(part)[0])
    expected.close()
    render(state, 4, decode_apart=apart)
    (path,) = output.glob("*.mp4")
    assert path.read_bytes() == expected.path.read_bytes()


@pytest.mark.parametrize("apart", [False, True])
def test_a_tiny_vae_renders_the_frames_that_it_decodes(
    harness: NodeHarness, render: Any, output: Path, apart: bool
) -> None:
    import comfy.sd

    tiny = comfy.sd.VAE(sd=random_weights(taehv(16)()).state_dict())
    state, _ = render(harness.fresh(), 3, vae=tiny, crf=0.0, decode_apart=apart)
    (shown, _) = harness.run("AdaStateDecode", tiny, state)
    assert shown.std() > 0.01
    (path,) = output.glob("*.mp4")
    torch.testing.assert_close(luma(path), luma_of(shown.clamp(0, 1)), atol=0.01, rtol=0)


def test_a_codec_that_cannot_be_opened_is_refused_before_work(
    harness: NodeHarness, node_classes: dict[str, Any], render: Any, output: Path
) -> None:
    node = node_classes["AdaStateRender"]
    assert node.validate_inputs(positive=None, codec="h265") is True
    assert node.validate_inputs(positive=None, codec=None) is True  # is connected
    assert "There is no codec" in node.validate_inputs(positive=None, codec="vp9")
    told = node.validate_inputs(positive=None, codec="h264_nvenc")
    if told is True:
        pytest.skip("this machine has such an encoder")
    assert told.startswith("The codec h264_nvenc cannot be opened")
    made: list[int] = []
    with pytest.raises(
        ValueError, match=r"^The codec h264_nvenc cannot be opened: .* Choose h264, "
    ):
        render(harness.fresh(), 2, model=on_chunk(harness, made.append), codec="h264_nvenc")
    assert not made
    assert not output.exists()


def test_a_vae_that_is_there_is_not_loaded_again(
    video: Any, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management as management

    management.unload_all_models()
    decoder = video.decoders.open_decoder(vae, (1, 16, 3, *SMALL))
    for _ in range(3):
        decoder.load()
    assert decoder.loads == 1
    management.unload_all_models()
    decoder.load()
    decoder.load()
    assert decoder.loads == 2
    # Where others have taken the room that decoding needs, ComfyUI has to make some.
    monkeypatch.setattr(vae.patcher, "get_free_memory", lambda device: 0)
    decoder.load()
    assert decoder.loads == 3
    # Under Dynamic VRAM weights come when they are first used; fewer than before means that some
    # were sent away, and are asked for again.
    monkeypatch.undo()
    monkeypatch.setattr(vae.patcher, "is_dynamic", lambda: True)
    for size, loads in ((0, 3), (70, 3), (90, 3), (90, 3), (80, 4), (10, 4), (80, 4), (79, 5)):
        monkeypatch.setattr(vae.patcher, "loaded_size", lambda size=size: size)
        decoder.load()
        assert decoder.loads == loads


@pytest.fixture
def said(pack: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is written under the node."""
    progress = importlib.import_module(f"{pack.__name__}.adastate_comfy.progress")
    texts: list[str] = []
    monkeypatch.setattr(progress, "write_under", lambda node, text: texts.append(text))
    return texts


def test_dynamic_weights_are_moved_in_one_thread_alone(
    harness: NodeHarness, vae: Any, render: Any, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor nothing is dynamic; a VAE that says so is loaded already."""
    import comfy.model_management as management

    management.load_models_gpu([vae.patcher])
    monkeypatch.setattr(vae.patcher, "is_dynamic", lambda: True)
    threads, loaded = set(), []
    hook = vae.first_stage_model.conv2.register_forward_pre_hook(
        lambda *_: threads.add(threading.current_thread() is threading.main_thread())
    )
    load = management.load_models_gpu
    monkeypatch.setattr(
        management, "load_models_gpu", lambda m, *a, **k: (loaded.extend(m), load(m, *a, **k))[1]
    )
    render(harness.fresh(), 2, decode_apart=True)
    hook.remove()
    assert threads == {True}
    assert "since Dynamic VRAM moves its weights in one thread alone" in said[-1]
    assert loaded, "the model is"
    assert not any(vae.patcher.is_clone(each) for each in loaded)


def test_a_vae_without_room_beside_the_model_is_told(
    harness: NodeHarness,
    vae: Any,
    video: Any,
    render: Any,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    render(harness.fresh(), 3)
    assert "had to be loaded" not in said[-1]
    monkeypatch.setattr(vae.patcher, "get_free_memory", lambda device: 0)
    other = property(lambda decoder: torch.device("meta"))  # the words are for cards alone
    monkeypatch.setattr(video.decoders.ChunkDecoder, "device", other)
    render(harness.fresh(), 3)
    told = "the VAE had to be loaded 4 times, since it finds no room beside the model: a tiny VAE"
    assert told in said[-1]


def test_a_worker_does_all_in_order_and_lets_few_wait(video: Any) -> None:
    worker = video.bounded_worker.BoundedWorker("test", waiting=1)
    gate, done, given = threading.Event(), [], []

    def give() -> None:
        for number in range(5):
            worker.submit(lambda n=number: (gate.wait(LONG), done.append(n)))
            given.append(number)

    giver = threading.Thread(target=give)
    giver.start()
    deadline = time.monotonic() + LONG
    while len(given) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert given == [0, 1]
    gate.set()
    giver.join(LONG)
    worker.drain()
    worker.close()
    assert done == given == [0, 1, 2, 3, 4]


def test_a_worker_does_nothing_after_a_failure_and_tells_it(video: Any) -> None:
    worker = video.bounded_worker.BoundedWorker("test", waiting=1)
    gate, done = threading.Event(), []

    def fail() -> None:
        gate.wait(LONG)
        raise OSError("full")

    worker.submit(fail)
    worker.submit(lambda: done.append(1))
    worker.check()
    gate.set()
    for call in (worker.drain, worker.drain, worker.check, lambda: worker.submit(done.clear)):
        with pytest.raises(OSError, match="full"):
            call()
    worker.close()
    assert not done
