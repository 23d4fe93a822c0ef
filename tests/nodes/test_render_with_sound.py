"""Render Stream to Video with sound, of MiniMax H3: in the file is what Decode Stream gives."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from comfy_api.latest import InputImpl
from torch import Tensor

from tests.support.harness import NodeHarness
from tests.support.rendered import luma, luma_of, receipt_lines, receipts
from tests.support.sound_streams import empty_minimax, has_minimax, minimax_model, minimax_text
from tests.support.sounding import played
from tests.support.tiny_models import MINIMAX_H3
from tests.support.tiny_vaes import minimax_h3_sound, minimax_h3_video

pytestmark = pytest.mark.skipif(not has_minimax(), reason="this ComfyUI has no MiniMax H3")

RATE, FPS = 32000, 24


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, MINIMAX_H3)


@pytest.fixture(scope="module")
def model(harness: NodeHarness) -> Any:
    return minimax_model(harness)


@pytest.fixture(scope="module")
def vaes() -> dict[str, Any]:
    return {"vae": minimax_h3_video(), "audio_vae": minimax_h3_sound(kernels=(3,))}


@pytest.fixture
def said(pack: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is written under the node."""
    progress = importlib.import_module(f"{pack.__name__}.adastate_comfy.progress")
    texts: list[str] = []
    monkeypatch.setattr(progress, "write_under", lambda node, text: texts.append(text))
    return texts


@pytest.fixture
def render(harness: NodeHarness, model: Any, vaes: Any, output: Path) -> Callable[..., Any]:
    import comfy.samplers

    def run(state: Any, chunks: int, **options: Any) -> Any:
        sampling = model.get_model_object("model_sampling")
        inputs = {
            "model": model,
            "positive": minimax_text(0),
            "cfg": 1.0,
            "seed": 3,
            "fps": float(FPS),
            "sampler": comfy.samplers.sampler_object("euler"),
            "sigmas": comfy.samplers.calculate_sigmas(sampling, "simple", 2),
            "filename_prefix": f"{output.name}/video",
            "crf": 0.0,
            **vaes,
        }
        return harness.run("AdaStateRender", state=state, chunks=chunks, **{**inputs, **options})[0]

    return run


def fresh(harness: NodeHarness, **options: Any) -> Any:
    return harness.run("AdaStateNewStream", empty_minimax(**options), 0)[0]


def decoded(harness: NodeHarness, vaes: Any, state: Any, *wanted: Any) -> tuple[Tensor, Tensor]:
    """Return the images and the sound, (2, samples), that Decode Stream gives."""
    images, audio = harness.run(
        "AdaStateDecode", vaes["vae"], state, *wanted, audio_vae=vaes["audio_vae"]
    )
    assert audio["sample_rate"] == RATE
    return images, audio["waveform"][0]


def sound_of(path: Path) -> Tensor:
    return torch.from_numpy(played(path.read_bytes()))


def alike(heard: Tensor, expected: Tensor) -> float:
    """Return how much of a sound another one is; AAC keeps a random VAE's noise roughly."""
    assert heard.shape == expected.shape
    return float(torch.nn.functional.cosine_similarity(heard.flatten(), expected.flatten(), dim=0))


@pytest.mark.parametrize("apart", [False, True])
def test_a_file_holds_what_decode_gives(
    harness: NodeHarness, vaes: Any, render: Any, output: Path, apart: bool
) -> None:
    state = render(fresh(harness), 4, decode_apart=apart)
    images, sound = decoded(harness, vaes, state)
    assert len(images) == 4 * 17
    (path,) = output.glob("*.mp4")
    torch.testing.assert_close(luma(path), luma_of(images), atol=0.012, rtol=0)
    heard = sound_of(path)
    assert heard.shape[1] == 4 * 17 * RATE // FPS
    assert alike(heard, sound[:, : heard.shape[1]]) > 0.9
    audio = InputImpl.VideoFromFile(str(path)).get_components().audio
    assert audio["sample_rate"] == RATE
    # ComfyUI does not cut the last piece.
    assert torch.equal(audio["waveform"][0, :, : heard.shape[1]], heard)
    head, *events = receipt_lines(path)
    assert (head["sound_rate"], head["sound_channels"]) == (RATE, 2)
    shown = [event["frames"] for event in events if event["event"] == "chunk"]
    assert shown == [[0, 16], [17, 33], [34, 50], [51, 67]]
    assert events[-1] == {"event": "end", "reason": "complete", "frames": 68}


@pytest.mark.newest
def test_a_second_file_goes_on_where_the_first_ended(
    harness: NodeHarness, vaes: Any, render: Any, output: Path
) -> None:
    state = render(fresh(harness), 5, history_chunks=13)
    after = render(state, 3)
    images, sound = decoded(harness, vaes, after)
    first, second = sorted(output.glob("*.mp4"))
    # The newest 5 pictures of a file are made without what follows.
    torch.testing.assert_close(luma(first)[:-5], luma_of(images)[:80], atol=0.012, rtol=0)
    torch.testing.assert_close(luma(second), luma_of(images)[85:], atol=0.012, rtol=0)
    joined = torch.cat((sound_of(first), sound_of(second)), dim=1)
    assert joined.shape[1] == 8 * 17 * RATE // FPS
    # As far as the decoder looks, a tenth of a second apart, and from the fade on.
    end, back, fade = 85 * RATE // FPS, 17 * 800, RATE // 100
    heard = sound[:, : joined.shape[1]]
    assert alike(joined[:, : end - back], heard[:, : end - back]) > 0.9
    assert alike(joined[:, end + fade :], heard[:, end + fade :]) > 0.9
    assert receipts(second)[0]["frames"] == [0, 16]


class Stop(Exception):
    """Stands for whatever goes wrong inside the model."""


def failing_in(model: Any, chunk: int) -> Any:
    """Return a MODEL that fails before the first forward of a chunk, without a cache to go on."""
    from comfy.patcher_extension import WrappersMP

    from tests.support.harness import pool_of

    pool_of(model).clear()
    count = iter(range(1000))

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        # Two forwards of each chunk, and before each but the first one a commit.
        if next(count) == max(0, 3 * chunk - 1):
            raise Stop("out of luck")
        return executor(*args, **kwargs)

    broken = model.clone()
    broken.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "break", wrapper)
    return broken


@pytest.mark.newest
@pytest.mark.parametrize("apart", [False, True])
def test_a_failure_leaves_whole_chunks_with_their_sound(
    harness: NodeHarness, model: Any, vaes: Any, render: Any, output: Path, apart: bool
) -> None:
    with pytest.raises(Stop):
        render(fresh(harness), 6, model=failing_in(model, 4), decode_apart=apart)
    (path,) = output.glob("*.mp4")
    assert len(luma(path)) == 4 * 17
    assert sound_of(path).shape[1] == 4 * 17 * RATE // FPS
    events = receipts(path)
    assert [event["event"] for event in events] == ["chunk"] * 4 + ["end"]
    assert events[-1] == {"event": "end", "reason": "Stop: out of luck", "frames": 68}
    listed = f"{output.name}/{path.stem}.stopped.adastate.safetensors [output]"
    (saved,) = harness.run("AdaStateLoad", listed)
    assert saved.chunk_index == 4
    after = render(saved, 2)
    images, sound = decoded(harness, vaes, after)
    rest = max(output.glob("*.mp4"))
    torch.testing.assert_close(luma(rest), luma_of(images)[68:], atol=0.012, rtol=0)
    begin, fade, heard = 68 * RATE // FPS, RATE // 100, sound_of(rest)
    assert alike(heard[:, fade:], sound[:, begin + fade :][:, : heard.shape[1] - fade]) > 0.9


@pytest.mark.newest
def test_a_full_disk_leaves_whole_chunks_with_their_sound(
    harness: NodeHarness, render: Any, output: Path
) -> None:
    """What is decoded of a chunk that found no room is not in the file, and is made once more."""
    resource = pytest.importorskip("resource")
    render(fresh(harness), 5)
    (complete,) = output.glob("*.mp4")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (complete.stat().st_size * 3 // 5, before[1]))
    try:
        with pytest.raises(ValueError, match=r"cannot be written \(File too large\)"):
            render(fresh(harness), 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    cut = max(output.glob("*.mp4"))
    listed = f"{output.name}/{cut.stem}.stopped.adastate.safetensors [output]"
    (saved,) = harness.run("AdaStateLoad", listed)
    shown = 17 * saved.chunk_index
    assert 17 <= shown < 85
    assert torch.equal(luma(cut), luma(complete)[:shown])
    assert receipts(cut)[-1]["frames"] == shown
    heard, whole = sound_of(cut), sound_of(complete)
    assert shown * RATE // FPS - 2048 < heard.shape[1] <= shown * RATE // FPS
    assert torch.equal(heard[:, :-2048], whole[:, : heard.shape[1] - 2048])


def test_every_fragment_has_the_sound_of_its_pictures(
    harness: NodeHarness, render: Any, output: Path, video: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a computer that is switched off leaves both."""
    sizes: list[int] = []
    write = video.video_file.VideoFile._append

    def append(self: Any, data: bytes) -> None:
        write(self, data)
        sizes.append(self.path.stat().st_size)

    monkeypatch.setattr(video.video_file.VideoFile, "_append", append)
    monkeypatch.setattr(video.video_file, "add_index", lambda path: None)
    render(fresh(harness), 4)
    (path,) = output.glob("*.mp4")
    data, left = path.read_bytes(), output / "left.mp4"
    for number, size in enumerate(sizes[:4]):
        left.write_bytes(data[:size])
        shown = 17 * (number + 1)
        assert len(luma(left)) == shown
        with av.open(str(left)) as container:
            pieces = [p for p in container.demux(audio=0) if p.size]
        assert 0 <= shown * RATE // FPS - (pieces[-1].pts + 1024) < 2 * 1024


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("include_start", [True, False])
def test_a_clip_is_continued(
    harness: NodeHarness, vaes: Any, render: Any, output: Path, include_start: bool, heard: bool
) -> None:
    """With sound, and without: then it is silent, and the sound of the chunks comes in time."""
    from tests.support.sound_streams import HEIGHT, WIDTH, nested

    source = torch.Generator().manual_seed(5)
    frames = torch.randn((1, 24, 5, HEIGHT, WIDTH), generator=source)
    ticks = torch.randn((1, 32, 2, 29), generator=source)
    clip = nested(frames, ticks) if heard else {"samples": frames}
    (state,) = harness.run("AdaStateNewStream", empty_minimax(), 0, start_latent=clip)
    after = render(state, 2, include_start=include_start)
    images, sound = decoded(harness, vaes, after, 0, 0, True)
    assert len(images) == 3 * 17
    (path,) = output.glob("*.mp4")
    begin = 0 if include_start else 17
    torch.testing.assert_close(luma(path), luma_of(images)[begin:], atol=0.012, rtol=0)
    found = sound_of(path)
    assert found.shape[1] == 51 * RATE // FPS - begin * RATE // FPS
    # The sound of chunk 0 begins with the 30th latent, the pictures a little before that.
    if not heard:
        silent = torch.zeros(2, 29 * 800)
        sound = torch.cat((silent, decoded(harness, vaes, after, 0, 0, False)[1]), dim=1)
        ends = 29 * 800 - begin * RATE // FPS - 1024
        assert ends < 0 or found[:, :ends].abs().max() < 0.01
    assert alike(found, sound[:, begin * RATE // FPS :][:, : found.shape[1]]) > 0.9


def test_pictures_apart_from_their_sound_are_refused(
    harness: NodeHarness, model: Any, vaes: Any, render: Any, output: Path
) -> None:
    """Before anything is made."""
    told = (
        r"^The sound of this stream goes with 24 frames a second, and fps is 16\. Set fps to 24 on "
        r"Render Stream to Video\.$"
    )
    broken = failing_in(model, 0)
    with pytest.raises(ValueError, match=told):
        render(fresh(harness), 2, model=broken, fps=16.0)
    with pytest.raises(ValueError, match="The VAE at audio_vae is none for sound"):
        render(fresh(harness), 2, model=broken, audio_vae=vaes["vae"])
    assert not output.exists()


def test_a_silent_video_is_said(
    harness: NodeHarness, render: Any, output: Path, said: list[str]
) -> None:
    render(fresh(harness), 1, audio_vae=None, fps=16.0)
    assert "the video is silent: connect audio_vae for the sound of this stream" in said[-1]
    for path in output.glob("*.mp4"):
        with av.open(str(path)) as container:
            assert [stream.type for stream in container.streams] == ["video"]
    render(fresh(harness), 1)
    assert "silent" not in said[-1]


@pytest.mark.newest
def test_what_is_held_does_not_grow_with_the_length(
    harness: NodeHarness, model: Any, render: Any
) -> None:
    """Neither pictures nor sound nor what is encoded of it."""
    counts: list[int] = []
    watched = counting(model, counts)
    render(fresh(harness), 13, model=watched, history_chunks=2)
    assert len(counts) == 13
    # A chunk is 1.3 MB of pictures and 0.2 of sound, of which less than a piece may wait or not.
    assert max(counts[6:]) - min(counts[6:]) < 50_000


def counting(model: Any, counts: list[int]) -> Any:
    """Return a MODEL that notes the bytes of all tensors alive before the commit of each chunk.

    That is once all that waited is written, so that it does not depend on who is faster.
    """
    import gc
    from contextlib import suppress

    from comfy.patcher_extension import WrappersMP

    from tests.support.harness import pool_of

    pool_of(model).clear()
    count = iter(range(1000))

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        if next(count) % 3 == 0:
            for each in [x for x in gc.get_objects() if type(x).__name__ == "BoundedWorker"]:
                with suppress(RuntimeError):  # one of an earlier render has ended
                    each._thread.submit(int).result()
            gc.collect()
            tensors = [x for x in gc.get_objects() if type(x) in (Tensor, torch.nn.Parameter)]
            storages = {x.untyped_storage().data_ptr(): x.untyped_storage() for x in tensors}
            counts.append(sum(storage.nbytes() for storage in storages.values()))
        return executor(*args, **kwargs)

    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "watch", wrapper)
    return watched
