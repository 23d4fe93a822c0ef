"""Decode Stream: parts equal the whole, with the demo models and ComfyUI's real VAE classes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.harness import SMALL, NodeHarness
from tests.support.tiny_models import WAN
from tests.support.tiny_vaes import random_weights, taehv, wan_21, wan_22

TIME_STRIDE = {16: 4, 32: 4, 48: 4, 128: 8}
CLASSES = {
    "wan 2.1": (wan_21, 16),
    "wan 2.2": (wan_22, 48),
    **{f"taehv {channels}": (taehv(channels), channels) for channels in TIME_STRIDE},
}


@pytest.fixture(scope="module", params=CLASSES)
def decoded_at_once(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a VAE, a latent, and the video that is all of it."""
    make, channels = CLASSES[request.param]
    vae = random_weights(make())
    latents = torch.randn((1, channels, 12, 1, 2), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return vae, latents, vae.decode(latents)


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3), (1,) * 12, (5, 1, 6), (2, 3, 7)])
def test_parts_equal_the_whole(core: Any, decoded_at_once: Any, sizes: tuple[int, ...]) -> None:
    decoding = importlib.import_module(f"{core.__name__}.vae.registry")
    vae, latents, whole = decoded_at_once
    decoder = decoding.stream_decoder(vae)
    with torch.inference_mode():
        parts = torch.cat([decoder.decode(part) for part in latents.split(sizes, dim=2)], dim=2)
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=0)
    assert parts.shape[2] == 1 + 11 * TIME_STRIDE[latents.shape[1]]
    assert whole.std() > 0.01


def test_the_host_itself_begins_anew_with_every_part(decoded_at_once: Any) -> None:
    """The control: what the host makes of parts is not the whole."""
    vae, latents, whole = decoded_at_once
    with torch.inference_mode():
        parts = [vae.decode(part) for part in latents.split(6, dim=2)]
    assert sum(part.shape[2] for part in parts) != whole.shape[2]


@pytest.mark.parametrize("channels", [16, 32, 48, 128])
def test_tiny_vaes_as_comfyui_loads_them(pack: Any, channels: int) -> None:
    import comfy.sd

    pictures = importlib.import_module(f"{pack.__name__}.adastate_comfy.video.decoders")
    vae = comfy.sd.VAE(sd=random_weights(taehv(channels)()).state_dict())
    latents = torch.randn((1, channels, 5, 2, 3), generator=torch.Generator().manual_seed(1))
    decoder = pictures.open_decoder(vae, (1, channels, 3, 2, 3))
    decoder.load()
    parts = torch.cat([decoder.decode(part) for part in latents.split((2, 3), dim=2)], dim=1)
    with torch.inference_mode():
        whole = vae.decode(latents)
    assert decoder.exact
    assert not decoder.note
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN, SMALL)


def whole(harness: NodeHarness, vae: Any, state: Any) -> Tensor:
    import nodes

    latent = harness.run("AdaStateRead", state)[2]
    with torch.inference_mode():
        return nodes.VAEDecode().decode(vae, latent)[0]


def test_chunks_are_those_of_the_whole_video(harness: NodeHarness, vae: Any) -> None:
    state, _ = harness.step(harness.fresh(), 4)
    expected = whole(harness, vae, state)
    (all_of_it, _) = harness.run("AdaStateDecode", vae, state, 0, 0, True)
    torch.testing.assert_close(all_of_it, expected, atol=1e-4, rtol=0)
    (later, _) = harness.run("AdaStateDecode", vae, state, 1, 2, True)
    torch.testing.assert_close(later, expected[9:33], atol=1e-4, rtol=0)


def test_the_start_is_part_of_the_video_if_asked_for(harness: NodeHarness, vae: Any) -> None:
    clip = harness.latent(2, seed=5)
    state, latent = harness.step(harness.fresh(start_latent=clip), 2)
    import nodes

    joined = {"samples": torch.cat((clip["samples"], latent["samples"]), dim=2)}
    with torch.inference_mode():
        expected = nodes.VAEDecode().decode(vae, joined)[0]
    (begun, _) = harness.run("AdaStateDecode", vae, state, 0, 0, True)
    torch.testing.assert_close(begun, expected, atol=1e-3, rtol=0)
    (without, _) = harness.run("AdaStateDecode", vae, state, 0, 0, False)
    torch.testing.assert_close(without, whole(harness, vae, state), atol=1e-4, rtol=0)


def test_batches_come_out_one_after_the_other(harness: NodeHarness, vae: Any) -> None:
    state, _ = harness.step(harness.fresh(batch=2), 2)
    (images, _) = harness.run("AdaStateDecode", vae, state, 0, 0, True)
    torch.testing.assert_close(images, whole(harness, vae, state), atol=1e-4, rtol=0)


def test_what_cannot_be_decoded_is_refused(harness: NodeHarness, vae: Any) -> None:
    state, _ = harness.step(harness.fresh(), 2)
    with pytest.raises(ValueError, match=r"^Chunk 5 is not in this stream; it holds .*0 to 1"):
        harness.run("AdaStateDecode", vae, state, 5, 0, True)
    with pytest.raises(ValueError, match=r"^Chunk 0 is not in"):
        harness.run("AdaStateDecode", vae, harness.fresh(), 0, 0, True)

    class Other:
        first_stage_model = nn.Identity()

    with pytest.raises(ValueError, match=r"^Identity decodes single pictures, not video"):
        harness.run("AdaStateDecode", Other(), state, 0, 0, True)


def test_a_latent_is_decoded_in_parts(
    pack: Any, harness: NodeHarness, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nodes

    latent = harness.latent(19, seed=8, batch=2)
    with torch.inference_mode():
        expected = nodes.VAEDecode().decode(vae, latent)[0]
    seen = []
    wan = importlib.import_module(f"{pack.__name__}.adastate_core.vae.wan")
    decode = wan.WanDecoder.decode
    monkeypatch.setattr(
        wan.WanDecoder, "decode", lambda self, z: seen.append(z.shape[2]) or decode(self, z)
    )
    (images, _) = harness.run("AdaStateDecode", vae, None, 0, 0, True, latent)
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=0)
    assert seen == [8, 8, 3]


@pytest.fixture
def sizes_decoded(vae: Any) -> Iterator[list[int]]:
    """Return the latent frames of all parts that the VAE decodes."""
    frames: list[int] = []
    hook = vae.first_stage_model.conv2.register_forward_pre_hook(
        lambda _, args: frames.append(args[0].shape[2])
    )
    yield frames
    hook.remove()


def test_a_start_clip_is_decoded_in_parts(
    harness: NodeHarness, vae: Any, sizes_decoded: list[int]
) -> None:
    clip = harness.latent(19, seed=3)
    state, _ = harness.step(harness.fresh(start_latent=clip), 1)
    (shown, _) = harness.run("AdaStateDecode", vae, state)
    assert sizes_decoded == [8, 8, 3, 3]
    content = harness.run("AdaStateRead", state)[2]["samples"]
    joined = {"samples": torch.cat((clip["samples"], content), 2)}
    (whole, _) = harness.run("AdaStateDecode", vae, latent=joined)
    torch.testing.assert_close(shown, whole, atol=1e-4, rtol=0)


def test_cancel_is_heard_between_the_parts_of_a_start_clip(
    harness: NodeHarness, vae: Any, sizes_decoded: list[int]
) -> None:
    from comfy import model_management

    state = harness.fresh(start_latent=harness.latent(19, seed=3))
    hook = vae.first_stage_model.conv2.register_forward_hook(
        lambda *_: model_management.interrupt_current_processing(True)
    )
    try:
        with pytest.raises(model_management.InterruptProcessingException):
            harness.run("AdaStateDecode", vae, state)
    finally:
        hook.remove()
        model_management.interrupt_current_processing(False)
    assert sizes_decoded == [8]


@pytest.mark.newest
def test_what_is_forgotten_and_may_show_is_said(
    pack: Any, harness: NodeHarness, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = importlib.import_module(f"{pack.__name__}.nodes.decode")
    said: list[str] = []
    monkeypatch.setattr(decode, "write_under", lambda _, text: said.append(text))
    bounded = harness.fresh(history=14)
    for chunks, first, expected in ((14, 0, False), (1, 2, True), (0, 14, False)):
        bounded, _ = harness.step(bounded, chunks) if chunks else (bounded, None)
        said.clear()
        harness.run("AdaStateDecode", vae, bounded, first)
        assert [("no longer keeps" in text) for text in said] == [True] * expected


def test_a_state_or_a_latent_but_not_both(harness: NodeHarness, vae: Any) -> None:
    state, latent = harness.step(harness.fresh(), 1)
    with pytest.raises(ValueError, match="and was given both"):
        harness.run("AdaStateDecode", vae, state, 0, 0, True, latent)
    with pytest.raises(ValueError, match="and was given neither"):
        harness.run("AdaStateDecode", vae)
    for first_chunk, chunks in ((1, 0), (0, 2)):
        with pytest.raises(ValueError, match=r"^A latent has no chunks to choose from"):
            harness.run("AdaStateDecode", vae, None, first_chunk, chunks, True, latent)
    picture = {"samples": torch.zeros((1, 16, *SMALL))}
    with pytest.raises(ValueError, match="is a picture, not a video"):
        harness.run("AdaStateDecode", vae, None, 0, 0, True, picture)


def test_how_parts_are_joined_is_told(
    pack: Any, harness: NodeHarness, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = importlib.import_module(f"{pack.__name__}.nodes.decode")
    pictures = importlib.import_module(f"{pack.__name__}.adastate_comfy.video.decoders")
    texts: list[str] = []
    monkeypatch.setattr(node, "write_under", lambda node_id, text: texts.append(text))
    state, _ = harness.step(harness.fresh(), 4)
    (exact, _) = harness.run("AdaStateDecode", vae, state)
    assert not texts
    # As if ComfyUI's class had another name: the same VAE, joined by overlap.
    monkeypatch.setattr(pictures, "vae_kind", lambda module: None)
    (joined, _) = harness.run("AdaStateDecode", vae, state)
    assert joined.shape == exact.shape
    torch.testing.assert_close(joined[:21], exact[:21], atol=1e-4, rtol=0)
    assert len(texts) == 1
    assert texts[0].startswith("parts are joined by an overlap of 4 latent frames; twice as many")


def test_a_loaded_vae_may_run_in_another_thread(pack: Any, harness: NodeHarness, vae: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    pictures = importlib.import_module(f"{pack.__name__}.adastate_comfy.video.decoders")
    latents = harness.latent(6, seed=9)["samples"]
    decoder = pictures.open_decoder(vae, (1, 16, 3, *SMALL))
    decoder.load()
    assert decoder.exact
    assert decoder.can_run_in_background
    with ThreadPoolExecutor(1) as worker:
        parts = [worker.submit(decoder.decode, part).result() for part in latents.split(3, dim=2)]
    with torch.inference_mode():
        expected = vae.decode(latents)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-4, rtol=0)
    assert not parts[0].requires_grad
    # A module whose weights are brought to the device for every call needs the main thread.
    vae.first_stage_model.conv2.comfy_cast_weights = True
    try:
        assert not decoder.can_run_in_background
    finally:
        del vae.first_stage_model.conv2.comfy_cast_weights
