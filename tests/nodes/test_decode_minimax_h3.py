"""MiniMax H3 in parts: its pictures to the bit, its sound as far as single precision goes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("comfy.ldm.minimax", reason="this ComfyUI has no MiniMax H3")

from tests.support.tiny_vaes import minimax_h3_sound, minimax_h3_video

TICKS = (29, 28, 28)
"""Sound latents of three chunks of 5 latent frames, which are 85 at 40 a second."""
SAMPLES = 800


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def video() -> Any:
    return minimax_h3_video()


@pytest.fixture(scope="module")
def sound() -> Any:
    return minimax_h3_sound()


@pytest.fixture(scope="module")
def quick() -> Any:
    return minimax_h3_sound(kernels=(3,))


@pytest.fixture(scope="module")
def pictures(pack: Any) -> Any:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.video.decoders")


@pytest.fixture(scope="module")
def sounds(pack: Any) -> Any:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.video.sound_decoders")


def in_parts(decoder: Any, latents: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    decoder.load()
    parts = [decoder.decode(part) for part in latents.split(sizes, dim=2)]
    return [*parts, decoder.flush()]


def ticks() -> Iterator[int]:
    while True:
        yield from TICKS


@pytest.mark.parametrize(
    "sizes",
    [(5,), (5, 5), (5, 5, 5, 5), (10, 5), (15,), (7,), (5, 5, 2), (10, 2), (1,) * 12, (4, 9)],
)
def test_parts_and_the_flush_are_the_whole_video_to_the_bit(
    pictures: Any, video: Any, sizes: tuple[int, ...]
) -> None:
    latents = random(1, 24, sum(sizes), 2, 3)
    decoder = pictures.open_decoder(video, (1, 24, max(sizes), 2, 3))
    parts = in_parts(decoder, latents, sizes)
    whole = video.decode(latents)
    assert decoder.exact
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert parts[0].dtype == whole.dtype
    assert decoder.frames_of(sum(sizes)) == whole.shape[1]
    assert whole.std() > 0.05


@pytest.mark.parametrize("latents", range(1, 18))
def test_the_end_is_filled_as_the_host_fills_it(pictures: Any, video: Any, latents: int) -> None:
    z = random(1, 24, latents, 2, 2)
    decoder = pictures.open_decoder(video, (1, 24, 5, 2, 2))
    parts = in_parts(decoder, z, (5,) * (latents // 5) + ((latents % 5,) if latents % 5 else ()))
    assert torch.equal(torch.cat(parts, dim=1), video.decode(z))


def test_pictures_larger_than_a_tile_are_the_same_too(pictures: Any, video: Any) -> None:
    latents = random(1, 24, 10, 1, 20)
    decoder = pictures.open_decoder(video, (1, 24, 5, 1, 20))
    parts = in_parts(decoder, latents, (5, 5))
    assert torch.equal(torch.cat(parts, dim=1), video.decode(latents))


def test_a_chunk_is_shown_once_the_next_one_is_known(pictures: Any, video: Any) -> None:
    latents = random(1, 24, 17, 2, 2)
    decoder = pictures.open_decoder(video, (1, 24, 5, 2, 2))
    parts = in_parts(decoder, latents, (5, 5, 5, 2))
    assert [part.shape[1] for part in parts] == [0, 17, 17, 17, 5]
    assert parts[0].shape[2:] == parts[1].shape[2:]
    # What is held back is never more than is said.
    shown = [sum(part.shape[1] for part in parts[: n + 1]) for n in range(4)]
    for seen, known in zip(shown, (5, 10, 15, 17), strict=True):
        assert seen >= decoder.frames_of(known - decoder.held_back)


def test_the_control_chunks_decoded_alone_are_not_the_whole(video: Any) -> None:
    latents = random(1, 24, 10, 2, 2)
    whole = video.decode(latents)
    alone = torch.cat([video.decode(part) for part in latents.split(5, dim=2)], dim=1)
    assert alone.shape == whole.shape
    assert (alone - whole).abs().max() > 0.01


def test_one_video_is_not_disturbed_by_another(pictures: Any, video: Any) -> None:
    one, other = random(1, 24, 10, 2, 2, seed=1), random(1, 24, 10, 2, 2, seed=2)
    shape = (1, 24, 5, 2, 2)
    decoders = [pictures.open_decoder(video, shape) for _ in range(2)]
    made: list[list[Tensor]] = [[], []]
    for part in range(2):
        for each, latents in enumerate((one, other)):
            made[each].append(decoders[each].decode(latents[:, :, 5 * part : 5 * part + 5]))
            still = decoders[each].decode_alone(latents[:, :, :1])
            assert torch.equal(still, video.decode(latents[:, :, :1]))
    for each, latents in enumerate((one, other)):
        made[each].append(decoders[each].flush())
        assert torch.equal(torch.cat(made[each], dim=1), video.decode(latents))


def test_a_batch_is_decoded_together(pictures: Any, video: Any) -> None:
    latents = random(2, 24, 10, 2, 2)
    decoder = pictures.open_decoder(video, (2, 24, 5, 2, 2))
    parts = torch.cat(in_parts(decoder, latents, (5, 5)), dim=1)
    torch.testing.assert_close(parts, video.decode(latents), atol=1e-6, rtol=0)


def test_another_thread_may_decode_it(pictures: Any, video: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    latents = random(1, 24, 10, 2, 2)
    decoder = pictures.open_decoder(video, (1, 24, 5, 2, 2))
    decoder.load()
    assert decoder.can_run_in_background
    with ThreadPoolExecutor(1) as worker:
        parts = [worker.submit(decoder.decode, part).result() for part in latents.split(5, dim=2)]
        parts.append(worker.submit(decoder.flush).result())
    assert torch.equal(torch.cat(parts, dim=1), video.decode(latents))


@pytest.mark.parametrize("sizes", [(5, 5, 5, 5), (10, 10)])
def test_chunks_of_a_stream_are_those_of_the_whole_to_the_bit(
    pack: Any, video: Any, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding = importlib.import_module(f"{pack.__name__}.adastate_comfy.video.stream_decoding")
    latents = random(1, 24, sum(sizes), 2, 2)
    whole = video.decode(latents)
    parts = [decoding.LatentPart(at, part) for at, part in enumerate(latents.split(sizes, dim=2))]
    windows: list[int] = []
    module = video.first_stage_model
    decode = module.tiled_decode
    monkeypatch.setattr(module, "tiled_decode", lambda z: windows.append(z.shape[2]) or decode(z))
    chunk = sizes[0] // 5 * 17
    for number in range(len(sizes)):
        windows.clear()
        decoded = decoding.run_decoding(video, decoding.DecodePlan(parts, {number}))
        assert torch.equal(decoded.images, whole[:, number * chunk : (number + 1) * chunk])
        assert decoded.numbers == (number,) * chunk
        # Of the chunks before it only what the first window is blended with is decoded.
        assert sum(windows) <= 7 * (2 * sizes[0] // 5)


def as_host(latents: Tensor) -> Tensor:
    """Turn sound latents as a stream keeps them into those of the host's class."""
    return latents.transpose(2, 3)


def heard(vae: Any, latents: Tensor) -> Tensor:
    with torch.inference_mode():
        return vae.decode(as_host(latents)).movedim(-1, 1)


@pytest.mark.newest
@pytest.mark.parametrize("sizes", [(29, 28, 28, 29), (85, 29), (3,) * 19, (57,)])
def test_sound_in_parts_is_the_whole_sound(sounds: Any, sound: Any, sizes: tuple[int, ...]) -> None:
    latents = random(1, 32, sum(sizes), 2)
    decoder = sounds.open_sound_decoder(sound, (1, 32, max(sizes), 2))
    parts = in_parts(decoder, latents, sizes)
    whole = heard(sound, latents)
    assert decoder.sample_rate == 32000
    assert whole.shape == (1, 2, SAMPLES * sum(sizes))
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, atol=2e-6, rtol=0)
    assert whole.std() > 0.05
    assert not decoder.note


@pytest.mark.newest
def test_sound_of_a_vae_of_the_published_size(sounds: Any) -> None:
    vae = minimax_h3_sound(small=False)
    latents = random(1, 32, 40, 2)
    decoder = sounds.open_sound_decoder(vae, (1, 32, 20, 2))
    parts = in_parts(decoder, latents, (20, 20))
    whole = heard(vae, latents)
    assert whole.std() > 0.02
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, atol=2e-6, rtol=0)


def test_the_control_sound_of_chunks_decoded_alone_clicks(sound: Any) -> None:
    latents = random(1, 32, 57, 2)
    alone = torch.cat([heard(sound, part) for part in latents.split((29, 28), dim=2)], dim=2)
    assert (alone - heard(sound, latents)).abs().max() > 0.01


def test_sound_is_held_back_and_given_in_the_end(sounds: Any, quick: Any) -> None:
    latents = random(1, 32, 57, 2)
    decoder = sounds.open_sound_decoder(quick, (1, 32, 29, 2))
    lengths = [part.shape[2] // SAMPLES for part in in_parts(decoder, latents, (10, 19, 28))]
    assert decoder.held_back == 17
    assert lengths == [0, 12, 28, 17]


@pytest.mark.newest
def test_a_mark_is_heard_in_time_after_60_chunks(sounds: Any, quick: Any) -> None:
    """A tone in one latent of the last chunk; all else is silence, which decodes to silence."""
    sizes = [ticks_of for ticks_of, _ in zip(ticks(), range(60), strict=False)]
    assert sum(sizes) == 20 * 85
    latents = torch.zeros((1, 32, sum(sizes), 2))
    mark = sum(sizes) - 10
    latents[:, :, mark] = random(1, 32, 2)
    decoder = sounds.open_sound_decoder(quick, (1, 32, 29, 2))
    parts = in_parts(decoder, latents, tuple(sizes))
    wave = torch.cat(parts, dim=2)
    assert wave.shape[2] == SAMPLES * sum(sizes)
    # 60 chunks of 17 pictures at 24 a second.
    assert wave.shape[2] / decoder.sample_rate == pytest.approx(60 * 17 / 24, abs=1e-9)
    energy = wave[0].double().square().sum(dim=0)
    centre = float((energy * torch.arange(len(energy))).sum() / energy.sum())
    assert centre / SAMPLES == pytest.approx(mark + 0.5, abs=1)
    # Sample by sample where the tone is if it is decoded alone.
    short = heard(quick, latents[:, :, mark - 20 :])
    torch.testing.assert_close(wave[..., -30 * SAMPLES :], short, atol=2e-6, rtol=0)
    assert energy[: -40 * SAMPLES].max() == 0


def test_one_sound_is_not_disturbed_by_another(sounds: Any, quick: Any) -> None:
    pair = [random(1, 32, 57, 2, seed=seed) for seed in (1, 2)]
    decoders = [sounds.open_sound_decoder(quick, (1, 32, 29, 2)) for _ in pair]
    made: list[list[Tensor]] = [[], []]
    for begin, end in ((0, 29), (29, 57)):
        for parts, decoder, latents in zip(made, decoders, pair, strict=True):
            parts.append(decoder.decode(latents[:, :, begin:end]))
    for parts, decoder, latents in zip(made, decoders, pair, strict=True):
        whole = heard(quick, latents)
        parts.append(decoder.flush())
        torch.testing.assert_close(torch.cat(parts, dim=2), whole, atol=2e-6, rtol=0)


def test_a_vae_at_the_wrong_socket_is_refused(
    pictures: Any, sounds: Any, video: Any, sound: Any
) -> None:
    with pytest.raises(ValueError, match=r"^The VAE at vae makes sound and no pictures"):
        pictures.open_decoder(sound, (1, 24, 5, 2, 2))
    with pytest.raises(ValueError, match=r"^The VAE at audio_vae is none for sound"):
        sounds.open_sound_decoder(video, (1, 32, 29, 2))
    with pytest.raises(ValueError, match=r"^The VAE at audio_vae belongs to another model"):
        sounds.open_sound_decoder(sound, (1, 8, 25, 16))
    with pytest.raises(ValueError, match=r"it has 24 channels, the stream has 16"):
        pictures.open_decoder(video, (1, 16, 5, 2, 2))
