"""The video file: fragmented while it grows, indexed in place when it is finished."""

from __future__ import annotations

import importlib
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import pytest
import torch

PARTS = (9, 12, 12)
FRAMES = sum(PARTS)
FPS = 23.976


@pytest.fixture
def files(pack: ModuleType) -> Any:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.video.video_file")


@pytest.fixture
def encoders(pack: ModuleType) -> Any:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.video.encoders")


@pytest.fixture
def index(pack: ModuleType) -> Any:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.video.mp4_index")


@pytest.fixture(params=["h264", "h265", "h264_nvenc", "hevc_nvenc"])
def video(request: pytest.FixtureRequest, files: Any, encoders: Any, tmp_path: Path) -> Any:
    """Return a video that is not finished; encoders of cards are tried where there is one."""
    if not opens(encoders, request.param):
        pytest.skip(f"no {request.param} here")
    return grown(files, tmp_path / "a.mp4", codec=request.param, metadata={"prompt": "{}"})


def opens(encoders: Any, codec: str) -> bool:
    try:
        encoders.require_encoder(codec)
    except ValueError:
        return False
    return True


def grown(files: Any, path: Path, **options: Any) -> Any:
    video = files.VideoFile(path, (160, 96), fps=FPS, crf=20.0, **options)
    source = torch.Generator().manual_seed(0)
    for count in PARTS:
        video.add(torch.rand((count, 96, 160, 3), generator=source))
    return video


def pictures(data: bytes) -> list[bytes]:
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]


def packets(data: bytes) -> list[tuple[int, int, bool]]:
    """Return time, length and whether one can seek there."""
    with av.open(io.BytesIO(data)) as container:
        found = [p for p in container.demux(video=0) if p.size]
        return [(p.pts, p.duration, p.is_keyframe) for p in found]


def kinds(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[str, int]]:
    """Yield kind and start of the boxes of an MP4."""
    end = len(data) if end is None else end
    while start < end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
        yield kind.decode(), start
        start += size
    assert start == end, "the last box is not whole"


def test_a_finished_file_says_what_is_in_it(video: Any) -> None:
    growing = video.path.read_bytes()
    assert [kind for kind, _ in kinds(growing)].count("moof") == len(PARTS)
    video.close()
    data = video.path.read_bytes()
    assert [kind for kind, _ in kinds(data)] == ["ftyp", "free", "moov", "free", "mdat"]
    moov = dict(kinds(data))["moov"]
    (children,) = (dict(kinds(data, moov + 8, moov + 8 + 108)),)  # mvhd comes first
    scale, duration = struct.unpack_from(">II", data, children["mvhd"] + 20)
    assert duration / scale == pytest.approx(FRAMES / FPS, abs=0.001)
    with av.open(str(video.path)) as container:
        stream = container.streams.video[0]
        assert stream.frames == FRAMES
        assert float(stream.duration * stream.time_base) == pytest.approx(FRAMES / FPS)
        assert container.metadata["prompt"] == "{}"
    assert pictures(data) == pictures(growing)
    assert packets(data) == packets(growing)


def test_without_room_in_front_the_index_is_at_the_end(
    files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "room_for_index", lambda *_: struct.pack(">I4s", 8, b"free"))
    video = grown(files, tmp_path / "a.mp4")
    growing = video.path.read_bytes()
    video.close()
    data = video.path.read_bytes()
    assert [kind for kind, _ in kinds(data)] == ["ftyp", "mdat", "moov"]
    assert pictures(data) == pictures(growing)


@pytest.mark.parametrize("room", [True, False])
def test_a_kill_while_the_index_is_written_leaves_all_frames(
    files: Any, index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    if not room:
        monkeypatch.setattr(files, "room_for_index", lambda *_: struct.pack(">I4s", 8, b"free"))
    growing = grown(files, tmp_path / "a.mp4").path.read_bytes()
    expected = pictures(growing)
    (offset, header), last = index.index_writes(io.BytesIO(growing))
    assert len(last[1]) <= 16
    assert last[0] // 512 == (last[0] + len(last[1]) - 1) // 512, "not in one sector"
    for cut in (0, 1, 7, 8, 9, len(header) // 2, len(header) - 1, len(header)):
        data = bytearray(growing)
        data[offset : offset + cut] = header[:cut]
        assert pictures(bytes(data)) == expected
    data[last[0] : last[0] + len(last[1])] = last[1]
    assert pictures(bytes(data)) == expected


def test_long_files_have_64_bit_numbers(files: Any, index: Any, tmp_path: Path) -> None:
    """The last part lies behind 4 GiB, in a hole of the file."""
    video = grown(files, tmp_path / "a.mp4")
    growing = video.path.read_bytes()
    begin = [start for kind, start in kinds(growing) if kind == "moof"][-1]
    hole = (1 << 32) + 1000
    with video.path.open("r+b") as file:
        file.seek(begin)
        file.write(struct.pack(">I4sQ", 1, b"free", hole))
        file.seek(begin + hole)
        file.write(growing[begin:])
    index.add_index(video.path)
    with av.open(str(video.path)) as container:
        stream = container.streams.video[0]
        assert stream.frames == FRAMES
        assert sum(packet.size > 0 for packet in container.demux(stream)) == FRAMES


def test_h265_is_tagged_for_all_players(files: Any, tmp_path: Path) -> None:
    video = grown(files, tmp_path / "a.mp4", codec="h265")
    with av.open(str(video.path)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"
    video.close()
    with av.open(str(video.path)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"
    # Their pictures need no parameters but those of the header.
    assert len(pictures(video.path.read_bytes())) == FRAMES


def test_closing_again_does_nothing(video: Any) -> None:
    video.close()
    data = video.path.read_bytes()
    video.close()
    assert video.path.read_bytes() == data


def test_a_file_that_holds_something_is_left_alone(files: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"something")
    with pytest.raises(ValueError, match=r"a\.mp4 cannot be written \(File exists\)"):
        grown(files, path)
    assert path.read_bytes() == b"something"


def test_software_codecs_open_everywhere(encoders: Any) -> None:
    assert opens(encoders, "h264")
    assert opens(encoders, "h265")
    with pytest.raises(
        ValueError, match=r"^There is no codec 'vp9'\. Choose another codec on Render"
    ):
        encoders.require_encoder("vp9")


@pytest.mark.parametrize(("codec", "plain"), [("h264_nvenc", "h264"), ("hevc_nvenc", "h265")])
def test_encoders_of_cards_are_refused_where_there_is_none(
    files: Any, encoders: Any, tmp_path: Path, codec: str, plain: str
) -> None:
    """This PyAV knows them: it is the driver that does not open them."""
    assert av.codec.Codec(codec, "w").is_encoder
    if opens(encoders, codec):
        pytest.skip("there is one")
    told = (
        rf"^The codec {codec} cannot be opened: it needs an NVIDIA card with a video encoder\. "
        rf"Choose {plain}, which is encoded by the processor\.$"
    )
    with pytest.raises(ValueError, match=told):
        encoders.require_encoder(codec)
    with pytest.raises(ValueError, match=rf"cannot write videos of 64 x 96 .* Choose {plain}, "):
        files.VideoFile(tmp_path / "a.mp4", (64, 96), fps=FPS, crf=20.0, codec=codec)
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_holds_frames_back_is_told(
    files: Any, encoders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With frames that wait for later ones, as x264 has by default."""
    monkeypatch.setattr(encoders, "encoder_options", lambda *_: {"crf": "20"})
    video = files.VideoFile(tmp_path / "a.mp4", (160, 96), fps=FPS, crf=20.0)
    with pytest.raises(ValueError, match=r"^The codec h264 holds frames back"):
        video.add(torch.rand((9, 96, 160, 3)))
    assert video.frames == 0
