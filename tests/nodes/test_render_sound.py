"""The sound of a render: decoded in parts, in time, and going on where another video ended."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.sound_streams import has_minimax
from tests.support.sounding import played
from tests.support.tiny_vaes import ltx_2_sound, minimax_h3_sound


@dataclass(frozen=True)
class Model:
    """What a test has to know of a model: its VAE of sound, its clock, and its chunks."""

    load: Callable[[], Any]
    clock: tuple[tuple[Fraction, ...], Fraction]
    rate: int
    shape: tuple[int, int]
    chunk: int
    pictures: Callable[[int], int]


MODELS = {
    "MiniMax H3": Model(
        lambda: minimax_h3_sound(kernels=(3,)),
        ((Fraction(0), *(Fraction(5, 3) * at for at in (1, 5, 9, 13))), Fraction(85, 3)),
        32000,
        (32, 2),
        5,
        lambda frames: frames * 17 // 5,
    ),
    "LTX-2": Model(
        lambda: ltx_2_sound(channels=8, vocoder=32),
        ((Fraction(0),), Fraction(25, 3)),
        24000,
        (8, 16),
        3,
        lambda frames: max(0, 8 * frames - 7),
    ),
}
FPS = 24.0
SIZE = (64, 32)


@pytest.fixture(scope="module")
def loaded() -> dict[str, Any]:
    return {}


@pytest.fixture(params=list(MODELS.values()), ids=list(MODELS))
def model(request: pytest.FixtureRequest) -> Model:
    return request.param


@pytest.fixture
def audio_vae(model: Model, loaded: dict[str, Any]) -> Any:
    name = next(name for name, each in MODELS.items() if each is model)
    if name == "MiniMax H3" and not has_minimax():
        pytest.skip("this ComfyUI has no MiniMax H3")
    if name not in loaded:
        loaded[name] = model.load()
    return loaded[name]


@pytest.fixture
def clock(core: Any, model: Model) -> Any:
    return importlib.import_module(f"{core.__name__}.clock").StreamClock(*model.clock)


@pytest.fixture
def files(pack: Any) -> Any:
    path = f"{pack.__name__}.adastate_comfy.video"
    names = ("video_file", "sound_track", "render_sound", "sound_decoders")
    return SimpleNamespace(**{name: importlib.import_module(f"{path}.{name}") for name in names})


@pytest.fixture
def opened(files: Any, model: Model, clock: Any, audio_vae: Any, tmp_path: Path) -> Any:
    """Return a function that makes the sound of a video which begins at a latent frame."""

    def make(first: int = 0) -> Any:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.mp4"
        form = files.sound_track.SoundFormat(model.rate, 2, model.pictures(first))
        video = files.video_file.VideoFile(path, SIZE, fps=FPS, crf=30.0, sound=form)
        path.touch()

        def decoder() -> Any:
            shape = (1, model.shape[0], 60, model.shape[1])
            return files.sound_decoders.open_sound_decoder(audio_vae, shape)

        sound = files.render_sound.RenderSound(decoder(), decoder, clock, video, model.pictures)
        sound.decoder.load()
        return video, sound

    return make


def latents(model: Model, clock: Any, chunks: int) -> list[Tensor]:
    """Return the sound of each chunk."""
    ends = [clock.first_tick(model.chunk * count) for count in range(chunks + 1)]
    channels, rows = model.shape
    source = torch.Generator().manual_seed(3)
    # What sounds changes slowly, so that it is heard whether it goes on.
    whole = torch.randn((1, channels, ends[-1], rows), generator=source) * 0.3 + 1.0
    whole = torch.nn.functional.avg_pool2d(whole, (5, 1), 1, (2, 0))
    return [whole[:, :, a:b] for a, b in pairwise(ends)]


def whole_sound(model: Model, audio_vae: Any, parts: list[Tensor]) -> Tensor:
    """Return all of it, decoded at once, (2, samples)."""
    host = torch.cat(parts, dim=2)
    host = host.transpose(2, 3) if model.rate == 32000 else host
    return audio_vae.decode(host)[0].detach().movedim(-1, 0)


def rendered(
    model: Model,
    opened: Any,
    parts: list[Tensor],
    first: int = 0,
    *,
    frames: Callable[[int], int] | None = None,
) -> tuple[Any, Tensor, Any]:
    """Render chunks from one on; return the file, what it was given, and its sound."""
    video, sound = opened(first * model.chunk)
    back = parts[:first][-3:]
    heard = [sound.begin(back, first * model.chunk)()]
    shown = 0
    for chunk in range(first, len(parts)):
        frame = chunk * model.chunk if frames is None else frames(chunk)
        heard.append(sound.decode_later(parts[chunk], frame, shown)())
        end = model.pictures((chunk + 1) * model.chunk) - model.pictures(first * model.chunk)
        video.add(torch.zeros(end - shown, SIZE[1], SIZE[0], 3), torch.cat(heard[-1:], dim=1))
        shown = end
    heard.append(sound.flush_later()())
    video.add(torch.zeros(0, SIZE[1], SIZE[0], 3), heard[-1])
    video.close()
    return video, torch.cat(heard, dim=1), sound


def test_in_parts_it_is_what_it_is_at_once(
    model: Model, clock: Any, audio_vae: Any, opened: Any
) -> None:
    parts = latents(model, clock, 8)
    expected = whole_sound(model, audio_vae, parts)
    assert expected.std() > 0.005
    video, heard, _ = rendered(model, opened, parts)
    torch.testing.assert_close(heard, expected, atol=2e-6, rtol=0)
    length = min(video.samples(video.frames), heard.shape[1])
    assert played(video.path.read_bytes()).shape == (2, length)


def test_a_second_file_goes_on_without_a_click(
    model: Model, clock: Any, audio_vae: Any, opened: Any
) -> None:
    """The end of the first one is made without what follows; the second one leads on from it."""
    parts, at = latents(model, clock, 9), 5
    whole = whole_sound(model, audio_vae, parts)
    first, before, _ = rendered(model, opened, parts[:at])
    _, after, _ = rendered(model, opened, parts, at)
    end = first.samples(first.frames)
    assert end == played(first.path.read_bytes()).shape[1]
    joined = torch.cat((before[:, :end], after), dim=1)
    assert joined.shape == whole.shape
    fade, error = round(0.01 * model.rate), (joined - whole).abs()
    reach = 17 * 800 if model.rate == 32000 else 0  # of the decoder, in what follows
    assert error[:, : end - reach].max() < 2e-6
    assert error[:, end + fade :].max() < 2e-6
    # From the last sample of one to the first of the other it is as far as in one go.
    step, expected = (each[:, end] - each[:, end - 1] for each in (joined, whole))
    torch.testing.assert_close(step, expected, atol=2e-6, rtol=0)
    if reach:
        assert error[:, end - 1].max() > 0.001, "nothing had to be joined"


@pytest.mark.parametrize("model", [MODELS["MiniMax H3"]], indirect=True)
def test_a_stream_that_begins_anew_stays_in_step(model: Model, clock: Any, opened: Any) -> None:
    """Its latents begin anew as well: without a correction they would be ahead more and more."""
    video, sound = opened()
    channels, rows = model.shape
    ticks = clock.ticks_of(0, model.chunk)
    latents = torch.ones((1, channels, ticks, rows))
    sound.begin([], 0)()
    heard, shown, chunks = 0, 0, 12
    pictures = model.pictures(2 * model.chunk) - model.pictures(model.chunk)
    stride = sound.decoder.samples_of(2) - sound.decoder.samples_of(1)
    for _ in range(chunks):
        heard += sound.decode_later(latents, 0, shown)().shape[1]
        shown += pictures
    heard += sound.flush_later()().shape[1]
    begins = sound.decoder.samples_of(chunks * ticks)  # as long as it would be
    assert abs(begins - video.samples(shown)) > 2 * stride
    assert abs(heard - video.samples(shown)) <= 1.5 * stride


@pytest.mark.parametrize("first", [0, 2])
def test_a_stream_whose_beginning_is_silent_sounds_in_time(
    model: Model, clock: Any, audio_vae: Any, opened: Any, first: int
) -> None:
    """In a video that shows the beginning, and in one that does not."""
    parts = latents(model, clock, 5)[2:]
    video, sound = opened(first * model.chunk)
    heard = [sound.begin([], 2 * model.chunk)()]
    begin = model.pictures(2 * model.chunk) - model.pictures(first * model.chunk)
    for number, part in enumerate(parts):
        frame = (2 + number) * model.chunk
        shown = begin + model.pictures(frame) - model.pictures(2 * model.chunk)
        heard.append(sound.decode_later(part, frame, shown)())
    heard.append(sound.flush_later()())
    found, expected = torch.cat(heard, dim=1), whole_sound(model, audio_vae, parts)
    silent = found.shape[1] - expected.shape[1]
    torch.testing.assert_close(found[:, max(0, silent) :], expected[:, max(0, -silent) :])
    assert not found[:, : max(0, silent)].any()
    # Within what the first latent of a sound lacks.
    ticks = sound.decoder.samples_of(clock.first_tick(2 * model.chunk))
    assert 0 <= silent - (ticks - start_of(video)) < 800


def start_of(video: Any) -> int:
    """Return the sample of the stream at which a video begins."""
    return int(video.sound.begins * video.sound.rate / video.rate)


def test_chunks_without_sound_are_silent(
    model: Model, clock: Any, audio_vae: Any, opened: Any
) -> None:
    parts = latents(model, clock, 4)
    _, sound = opened()
    heard = [sound.begin([], 0)()]
    for chunk in (0, 1, 3):
        frame = chunk * model.chunk
        heard.append(sound.decode_later(parts[chunk], frame, model.pictures(frame))())
    heard.append(sound.flush_later()())
    found = torch.cat(heard, dim=1)
    expected = whole_sound(model, audio_vae, [*parts[:2], parts[3]])
    gap = parts[2].shape[2] * (sound.decoder.samples_of(2) - sound.decoder.samples_of(1))
    at = sound.decoder.samples_of(parts[0].shape[2] + parts[1].shape[2])
    # A picture begins at a rounded sample, and so does the sound after a gap.
    assert abs(found.shape[1] - expected.shape[1] - gap) <= 1
    gap = found.shape[1] - expected.shape[1]
    assert not found[:, at : at + gap].any()
    torch.testing.assert_close(found[:, :at], expected[:, :at], atol=2e-6, rtol=0)
    torch.testing.assert_close(found[:, at + gap :], expected[:, at:], atol=2e-6, rtol=0)
