"""The sound of a clip begins with the first frame that is used, whatever the clip comes from."""

from __future__ import annotations

import importlib
import io
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import NodeHarness
from tests.support.tiny_models import WAN, WAN_VAE

RATE, FPS, FRAMES = 16000, 8, 23
SILENCE = 0.25


@pytest.fixture(scope="module")
def sounds(pack: Any) -> Any:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.video.clip_sound")


def clip_with_sound(audio: dict[str, Any] | None) -> Any:
    from comfy_api.latest import InputImpl, Types

    images = torch.rand((FRAMES, 32, 48, 3), generator=torch.Generator().manual_seed(1))
    parts = Types.VideoComponents(images=images, audio=audio, frame_rate=Fraction(FPS))
    return InputImpl.VideoFromComponents(parts)


def tone() -> dict[str, Any]:
    """Return a tone on two channels that begins after a silence of a quarter of a second."""
    seconds = torch.arange(round(RATE * FRAMES / FPS)) / RATE
    wave = 0.5 * torch.sin(2 * math.pi * 440 * seconds) * (seconds >= SILENCE)
    return {"waveform": wave.expand(1, 2, -1).contiguous(), "sample_rate": RATE}


def begins_at(audio: dict[str, Any]) -> float:
    """Return when the tone begins, in seconds."""
    wave: Tensor = audio["waveform"][0, 0].abs()
    return int((wave > 0.1).nonzero()[0]) / audio["sample_rate"]


def saved(clip: Any, target: Any) -> Any:
    from comfy_api.latest import InputImpl

    clip.save_to(str(target) if isinstance(target, Path) else target)
    return InputImpl.VideoFromFile(str(target) if isinstance(target, Path) else target)


def test_a_file_gives_its_speed_and_its_sound(sounds: Any, tmp_path: Path) -> None:
    found = sounds.read_sound(saved(clip_with_sound(tone()), tmp_path / "clip.mp4"), 0)
    assert found.fps == FPS
    assert found.audio["sample_rate"] == RATE
    assert found.audio["waveform"].shape[:2] == (1, 2)
    assert begins_at(found.audio) == pytest.approx(SILENCE, abs=0.08)  # AAC begins with a pause
    length = found.audio["waveform"].shape[-1] / RATE
    assert length == pytest.approx(FRAMES / FPS, abs=0.1)


def test_it_is_what_the_host_reads(sounds: Any, tmp_path: Path) -> None:
    clip = saved(clip_with_sound(tone()), tmp_path / "clip.mp4")
    theirs = clip.get_components().audio
    ours = sounds.read_sound(clip, 0).audio
    torch.testing.assert_close(ours["waveform"], theirs["waveform"], atol=0, rtol=0)
    assert ours["sample_rate"] == theirs["sample_rate"]


def test_dropped_frames_take_their_sound_along(sounds: Any) -> None:
    found = sounds.read_sound(clip_with_sound(tone()), 1)
    assert begins_at(found.audio) == pytest.approx(SILENCE - 1 / FPS, abs=0.001)
    memory = io.BytesIO()
    found = sounds.read_sound(saved(clip_with_sound(tone()), memory), 1)
    assert begins_at(found.audio) == pytest.approx(SILENCE - 1 / FPS, abs=0.08)


def test_a_trimmed_file_gives_the_sound_of_its_part(sounds: Any, tmp_path: Path) -> None:
    whole = saved(clip_with_sound(tone()), tmp_path / "clip.mp4")
    trimmed = whole.as_trimmed(1.0, 1.0)
    heard = sounds.read_sound(trimmed, 0).audio["waveform"]
    assert heard.shape[-1] == RATE
    everything = sounds.read_sound(whole, 0).audio["waveform"]
    torch.testing.assert_close(heard, everything[..., RATE : 2 * RATE], atol=1e-4, rtol=0)


@pytest.mark.parametrize("in_file", [True, False])
def test_a_silent_clip_has_no_sound(sounds: Any, tmp_path: Path, in_file: bool) -> None:
    clip = clip_with_sound(None)
    found = sounds.read_sound(saved(clip, tmp_path / "clip.mp4") if in_file else clip, 3)
    assert found == sounds.ClipSound(float(FPS), None)


def test_the_node_hands_speed_and_sound_on(
    node_classes: dict[str, Any], tiny_models: Any, tmp_path: Path
) -> None:
    import nodes

    harness = NodeHarness(node_classes, WAN)
    vae = nodes.VAELoader().load_vae(WAN_VAE)[0]
    clip = saved(clip_with_sound(tone()), tmp_path / "clip.mp4")
    _, frames, fps, audio = harness.run("AdaStateEncode", vae, clip, 0, 0)
    assert (frames, fps) == (21, FPS)
    assert begins_at(audio) == pytest.approx(max(SILENCE - 2 / FPS, 0.0), abs=0.08)
    _, _, fps, audio = harness.run("AdaStateEncode", vae, torch.zeros((5, 32, 48, 3)), 0, 0)
    assert (fps, audio) == (16.0, None)
