"""The sound of a video file: in time, in every fragment, and in the index."""

from __future__ import annotations

import importlib
import io
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.sounding import (
    by_ffmpeg,
    chord,
    heard,
    loudest_near,
    packets,
    played,
    with_clicks,
)

SIZE = (160, 96)
PARTS = 6
PICTURES = 17
BACK = 0.43
"""Seconds by which sound comes later than its pictures."""
CLOCKS = [(32000, 24.0), (48000, 24.0), (24000, 30.0), (48000, 25.0), (48000, 23.976)]
"""Samples and pictures a second."""


@pytest.fixture
def files(pack: ModuleType) -> Any:
    path = f"{pack.__name__}.adastate_comfy.video"
    names = ("video_file", "sound_track", "mp4_index", "encoders")
    return SimpleNamespace(**{name: importlib.import_module(f"{path}.{name}") for name in names})


def samples_of(pictures: int, rate: int, fps: float) -> int:
    return int(pictures * rate / Fraction(str(fps)))


def opened(files: Any, path: Path, rate: int, fps: float, **options: Any) -> Any:
    form = files.sound_track.SoundFormat(rate, options.pop("channels", 2), options.pop("begins", 0))
    path.unlink(missing_ok=True)
    return files.video_file.VideoFile(path, SIZE, fps=fps, crf=20.0, sound=form, **options)


def pictures(count: int) -> Tensor:
    width, height = SIZE
    return torch.rand((count, height, width, 3), generator=torch.Generator().manual_seed(count))


def cut(sound: Tensor, ends: Sequence[int]) -> list[Tensor]:
    begins = [0, *ends[:-1]]
    return [sound[:, begin:end] for begin, end in zip(begins, ends, strict=True)]


def ends_of(rate: int, fps: float, back: float = BACK) -> list[int]:
    """Return how much of the sound is there after each part; all of it after the last one."""
    whole = [samples_of(PICTURES * (part + 1), rate, fps) for part in range(PARTS)]
    return [max(0, end - round(back * rate)) for end in whole[:-1]] + [whole[-1]]


def grown(files: Any, path: Path, sound: Tensor, rate: int, fps: float, **options: Any) -> Any:
    video = opened(files, path, rate, fps, channels=len(sound), **options)
    for part in cut(sound, ends_of(rate, fps)):
        video.add(pictures(PICTURES), part)
    return video


def fragments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each fragment of a growing file begins and ends."""
    start, begin = 0, 0
    while start < len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        if kind == b"moof":
            begin = start
        if kind == b"mdat":
            yield begin, start + size
        start += size
    assert start == len(data)


@pytest.mark.newest
@pytest.mark.parametrize(("rate", "fps"), CLOCKS)
def test_a_click_is_heard_where_it_was_laid(
    files: Any, tmp_path: Path, rate: int, fps: float
) -> None:
    """To the sample, with PyAV's FFmpeg and with that of this computer."""
    total = samples_of(PICTURES * PARTS, rate, fps)
    clicks = [100, rate, 2 * rate + 777, total - 700]
    video = grown(files, tmp_path / "a.mp4", with_clicks(total, clicks), rate, fps)
    begins, sound = heard(video.path.read_bytes())
    assert [loudest_near(sound, at - begins) + begins for at in clicks[:3]] == clicks[:3]
    video.close()
    begins, sound = heard(video.path.read_bytes())
    assert begins == 0
    assert [loudest_near(sound, at) for at in clicks] == clicks
    assert [loudest_near(by_ffmpeg(video.path), at) for at in clicks] == clicks
    assert played(video.path.read_bytes()).shape == (2, total)


@pytest.mark.newest
@pytest.mark.parametrize("codec", ["h264", "h265", "h264_nvenc", "hevc_nvenc"])
def test_the_index_lists_what_the_fragments_hold(
    files: Any, tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        files.encoders.require_encoder(codec)
    except ValueError:
        pytest.skip(f"no {codec} here")
    total = samples_of(PICTURES * PARTS, 32000, 24.0)
    sound = chord(total, 32000)
    video = grown(files, tmp_path / "a.mp4", sound, 32000, 24.0, codec=codec)
    growing = video.path.read_bytes()
    # What is in the last fragment comes when it is closed.
    monkeypatch.setattr(files.video_file, "add_index", lambda path: None)
    video.close()
    complete = video.path.read_bytes()
    assert complete[: len(growing)] == growing
    files.mp4_index.add_index(video.path)
    data = video.path.read_bytes()
    assert len(data) == len(complete), "the index is in the room in front"
    for kind in ("video", "audio"):
        assert packets(data, kind) == packets(complete, kind)
    with av.open(io.BytesIO(data)) as container:
        seen, listened = container.streams
        assert (seen.type, listened.type) == ("video", "audio")
        assert seen.frames == PICTURES * PARTS
        assert listened.duration == total
        assert listened.codec_context.name == "aac"
        assert (listened.sample_rate, listened.channels) == (32000, 2)
        assert abs(container.duration / 1e6 - PICTURES * PARTS / 24) < 1e-4
    assert all(begins for _, _, _, begins in packets(data, "audio"))
    assert sum(length for _, length, _, _ in packets(data, "audio")) == total + 1024


def test_without_room_in_front_the_index_of_both_is_at_the_end(
    files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = samples_of(PICTURES * PARTS, 48000, 25.0)
    sound = chord(total, 48000)
    video = grown(files, tmp_path / "a.mp4", sound, 48000, 25.0)
    video.close()
    none = struct.pack(">I4s", 8, b"free")
    monkeypatch.setattr(files.video_file, "room_for_index", lambda *_: none)
    other = grown(files, tmp_path / "b.mp4", sound, 48000, 25.0)
    other.close()
    one, two = video.path.read_bytes(), other.path.read_bytes()
    assert two.rindex(b"moov") > len(two) // 2 > one.rindex(b"moov")
    for kind in ("video", "audio"):
        assert packets(one, kind) == packets(two, kind)
    assert np.array_equal(played(one), played(two))


@pytest.mark.newest
@pytest.mark.parametrize("back", [BACK, 0.0, -0.5, 2.0])
def test_a_kill_after_any_fragment_leaves_what_plays(
    files: Any, tmp_path: Path, back: float
) -> None:
    """Sound that is late by so many seconds, or early."""
    rate, fps = 32000, 24.0
    total = samples_of(PICTURES * PARTS, rate, fps)
    sound = chord(total + rate, rate)  # more than there are pictures
    ends = ends_of(rate, fps, back)
    video = opened(files, tmp_path / "a.mp4", rate, fps)
    there = []
    for part in cut(sound, ends):
        video.add(pictures(PICTURES), part)
        there.append(min(samples_of(video.frames, rate, fps), video._track.length))
        # What waits is the sound that is ahead, no more.
        assert len(video._track._waiting) * 1024 <= max(0, -back * rate) + 2048
    growing = video.path.read_bytes()
    video.close()
    whole = played(video.path.read_bytes())
    assert whole.shape == (2, total)
    for number, (_, end) in enumerate(fragments(growing)):
        data = growing[:end]
        with av.open(io.BytesIO(data)) as container:
            assert sum(1 for _ in container.decode(video=0)) == PICTURES * (number + 1)
        if there[number] < 3 * 1024:
            continue
        begins, sounds = heard(data)
        length = begins + sounds.shape[1]
        # What is there but for the piece that is not full, and two that the encoder keeps.
        assert there[number] - 3 * 1024 < length <= there[number]
        assert np.array_equal(sounds[:, max(-begins, 0) :], whole[:, max(begins, 0) : length])


@pytest.mark.newest
def test_sound_that_comes_in_other_parts_is_the_same(files: Any, tmp_path: Path) -> None:
    """One piece after the other, and all that is left when it is closed."""
    rate, fps = 48000, 23.976
    total = samples_of(PICTURES * PARTS, rate, fps)
    sound = chord(total, rate)
    heard_whole = []
    for back in (0.0, BACK, -0.2, 1.0):
        video = opened(files, tmp_path / "a.mp4", rate, fps)
        for part in cut(sound, ends_of(rate, fps, back)):
            video.add(pictures(PICTURES), part[:, :1])
            video.add(pictures(0), part[:, 1:])
        video.close()
        heard_whole.append(played(video.path.read_bytes()))
        assert len(packets(video.path.read_bytes(), "video")) == PICTURES * PARTS
    assert all(np.array_equal(each, heard_whole[0]) for each in heard_whole)
    error = np.abs(heard_whole[0][:, 1000:-1000] - sound.numpy()[:, 1000:-1000]).max()
    assert error < 0.02


@pytest.mark.newest
@pytest.mark.parametrize(("rate", "fps"), CLOCKS[:3])
def test_two_files_one_after_the_other_sound_as_one(
    files: Any, tmp_path: Path, rate: int, fps: float
) -> None:
    """Over the join as in one go, as far as the codec is exact: the sound goes up to 0.6."""
    half, whole = 68, samples_of(136, rate, fps)
    end, sound = samples_of(half, rate, fps), chord(whole, rate)

    def written(name: str, first: int, count: int) -> Any:
        video = opened(files, tmp_path / name, rate, fps, begins=first)
        begin = samples_of(first, rate, fps)
        if begin:
            video.run_up(sound[:, :begin])
        # The decoder has a little more of it than the pictures are long.
        video.add(pictures(count), sound[:, begin : samples_of(first + count, rate, fps) + 300])
        video.close()
        return played(video.path.read_bytes())

    one = written("one.mp4", 0, 2 * half)
    first, second = written("a.mp4", 0, half), written("b.mp4", half, half)
    assert (first.shape[1], second.shape[1]) == (end, whole - end)
    joined = np.concatenate((first, second), axis=1)
    around = slice(end - 2048, end + 2048)
    assert np.abs(joined - one)[:, around].max() < 0.01
    steps = np.abs(np.diff(joined[:, end - 2 : end + 2], axis=1)).max()
    assert steps < 1.3 * np.abs(np.diff(one, axis=1)).max()


def test_sound_that_ends_early_ends_its_track(files: Any, tmp_path: Path) -> None:
    rate, fps = 32000, 24.0
    video = opened(files, tmp_path / "a.mp4", rate, fps)
    video.add(pictures(48), chord(rate, rate))
    video.close()
    data = video.path.read_bytes()
    assert played(data).shape == (2, rate)
    assert len(packets(data, "video")) == 48


def test_a_moment_that_is_not_made_yet_is_no_silence(files: Any, tmp_path: Path) -> None:
    """The latent of sound that lies over the end belongs to the next chunk."""
    video = opened(files, tmp_path / "a.mp4", 32000, 24.0)
    sound = chord(32000, 32000)[:, :-600]
    video.add(pictures(24), sound)
    video.close()
    end = torch.from_numpy(played(video.path.read_bytes()))[:, -600:]
    torch.testing.assert_close(end, sound.flip(1)[:, :600], atol=0.02, rtol=0)


def test_a_file_that_got_no_sound_is_silent(files: Any, tmp_path: Path) -> None:
    for sound in (None, torch.zeros(2, 0)):
        video = opened(files, tmp_path / "a.mp4", 32000, 24.0)
        video.add(pictures(5), sound)
        video.close()
        with av.open(str(video.path)) as container:
            assert [stream.type for stream in container.streams] == ["video"]
            assert sum(1 for _ in container.decode(video=0)) == 5


def test_what_is_no_sound_is_silent(files: Any, tmp_path: Path) -> None:
    """Values that no encoder takes, as a model that went wrong may give them."""
    video = opened(files, tmp_path / "a.mp4", 32000, 24.0)
    sound = torch.tensor((float("nan"), float("inf"), 40.0)).repeat(2, 32000 // 3)
    video.add(pictures(24), sound)
    video.close()
    assert np.isfinite(played(video.path.read_bytes())).all()


class Repeated:
    """One encoded picture again and again: to encode an hour of them takes minutes."""

    def __init__(self, video: Any) -> None:
        (packet,) = video._encode(torch.zeros((SIZE[1], SIZE[0], 3), dtype=torch.uint8))
        self._data, self._count = bytes(packet), 0
        self._base = packet.time_base

    def __call__(self, pixels: Tensor) -> list[av.Packet]:
        packet = av.Packet(self._data)
        packet.pts = packet.dts = self._count
        packet.duration, packet.time_base, packet.is_keyframe = 1, self._base, True
        self._count += 1
        return [packet]


@pytest.mark.newest
def test_an_hour_later_sound_and_picture_are_in_step(
    files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MiniMax H3 makes them: 17 pictures and 28 or 29 latents of 800 samples, ten at a time."""
    rate, fps, shown, parts = 32000, 24.0, 170, 3600 * 24 // 170 + 1
    video = opened(files, tmp_path / "a.mp4", rate, fps, channels=1, expected=(86400, parts))
    repeated = Repeated(video)
    monkeypatch.setattr(video, "_encode", repeated)
    at = samples_of(shown * (parts - 2), rate, fps)
    for part in range(parts):
        begin, end = (-(-850 * p // 3) * 800 for p in (part, part + 1))
        sound = torch.zeros(1, end - begin)
        if begin <= at < end:
            sound[:, at - begin] = 0.9
        monkeypatch.setattr(video, "_encoded", shown * (part + 1))
        video.add(torch.zeros(shown, 2, 2, 3), sound)
    video.close()
    with av.open(str(video.path)) as container:
        seen = container.streams.video[0]
        assert seen.frames == shown * parts > 86400
        base = seen.time_base
        assert container.streams.audio[0].duration == samples_of(shown * parts, rate, fps)
        container.seek(3580 * 1_000_000)
        frames = list(container.decode(audio=0))
        sound = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
        clicked = round(frames[0].pts * frames[0].time_base * rate) + int(np.abs(sound).argmax())
    assert clicked == at
    begins = packets(video.path.read_bytes(), "video")[shown * (parts - 2)][0] * base
    assert abs(begins - Fraction(clicked, rate)) < Fraction(1, rate)


def test_a_silent_video_is_what_it_was_before_there_was_sound(files: Any, tmp_path: Path) -> None:
    """To the byte: muxed here part by part, as one track alone."""
    path = tmp_path / "a.mp4"
    video = files.video_file.VideoFile(path, SIZE, fps=24.0, crf=20.0, metadata={"a": "b"})
    for count in (9, 12):
        video.add(pictures(count))
    other = files.video_file.VideoFile(tmp_path / "b.mp4", SIZE, fps=24.0, crf=20.0)
    data, count = b"", 0
    flags = "empty_moov+frag_custom+default_base_moof+frag_discont+use_metadata_tags"
    for number, shown in enumerate((9, 12)):
        target = io.BytesIO()
        options = {"movflags": flags, "use_editlist": "0", "avoid_negative_ts": "make_non_negative"}
        options["fragment_index"] = str(number + 1)
        with av.open(target, "w", format="mp4", options=options) as container:
            container.metadata["a"] = "b"
            stream = container.add_stream_from_template(other._stream)
            for picture in pictures(shown):
                frame = av.VideoFrame.from_ndarray(
                    picture.mul(255).round().byte().numpy(), format="rgb24"
                )
                frame = frame.reformat(format="yuv420p", dst_colorspace=1)
                frame.pts, frame.time_base = count, Fraction(1, 24)
                count += 1
                for packet in other._stream.codec_context.encode(frame):
                    packet.stream = stream
                    container.mux(packet)
        muxed = target.getvalue()
        begin = muxed.index(b"moof") - 4
        end = muxed.rindex(b"mfra") - 4
        if not data:
            data = muxed[:begin] + files.mp4_index.room_for_index(muxed[:begin], 8192, 1024)
        data += muxed[begin:end]
    assert path.read_bytes() == data
