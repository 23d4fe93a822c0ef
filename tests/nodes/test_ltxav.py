"""LTX-2 on ComfyUI's real class: chunk by chunk is one block-causal forward, picture and sound."""

from __future__ import annotations

import importlib
import inspect
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import NodeHarness
from tests.support.marked_ltx2 import ltx2_harness
from tests.support.sound_streams import HEIGHT, WIDTH, ltx2_text
from tests.support.tiny_models import LTX2, LTX2_INTERLEAVED, LTX23, LTX25

CHUNK, CHUNKS, TOKENS = 3, 3, HEIGHT * WIDTH


@pytest.fixture(scope="module", params=[LTX2, LTX2_INTERLEAVED, LTX23, LTX25])
def harness(request: pytest.FixtureRequest, node_classes: dict[str, Any], tiny_models: Any) -> Any:
    return ltx2_harness(node_classes, request.param)


@pytest.fixture
def exact_angles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the model compute its angles, up to 15,700 radians, in float64."""
    module = importlib.import_module("comfy.ldm.lightricks.model")
    own = module.generate_freqs
    monkeypatch.setattr(
        module, "generate_freqs", lambda i, at, *rest: own(i.double(), at.double(), *rest)
    )


class Direct:
    """Forwards of the model with a view of a block, at one noise level.

    Args:
        harness: The model.
        pack: The pack.
        rate: Video frames per second.
        sound: Whether there is sound.
    """

    def __init__(self, harness: NodeHarness, pack: Any, rate: int = 25, sound: bool = True) -> None:
        import comfy.model_management

        comfy.model_management.load_models_gpu([harness.model])
        binding, self.keys, self.wrappers = (
            importlib.import_module(f"{pack.__name__}.adastate_comfy.model.{name}")
            for name in ("binding", "keys", "wrappers")
        )
        traits = binding.bound_model(harness.model).traits.at(Fraction(rate))
        self.geometry = traits.geometry(HEIGHT, WIDTH, sound=sound)
        self.dit, self.rate = harness.model.get_model_object("diffusion_model"), rate
        # As ComfyUI does once a session.
        width = 96 if self.dit.caption_proj_before_connector else 48
        with torch.inference_mode():
            text = ltx2_text(0, width)[0][0]
            self.text = self.dit.preprocess_text_embeds(text, unprocessed=True)

    def __call__(self, tracks: list[Tensor], sigma: Any, **options: Any) -> list[Tensor]:
        levels = sigma if isinstance(sigma, tuple) else (torch.tensor([sigma]),) * 2
        out = self.dit(tracks, levels, self.text, None, self.rate, options)
        return out if isinstance(out, list) else [out]

    def chunk(self, tracks: list[Tensor], sigma: float, view: Any, **more: Any) -> list[Tensor]:
        wrappers = {"diffusion_model": {"adastate": [self.wrappers.extend_attention]}}
        options = {self.keys.VIEW: view, "cond_or_uncond": [0], "wrappers": wrappers}
        return self(tracks, sigma, **options, **more)

    def block_causal(
        self, tracks: list[Tensor], sigma: Any, chunk_of: dict[str, Tensor]
    ) -> list[Tensor]:
        """Forward all chunks at once with a mask between them, and even steps in time.

        Args:
            tracks: Video, and sound if there is any.
            sigma: Noise level, or those of all tokens.
            chunk_of: The chunk of every unit of each track.
        """
        geometry, count = self.geometry, [0]
        clock = geometry.clock
        even = {"video": clock.place(0) - clock.place(geometry.first_index)}
        if geometry.first_tick is not None:
            even["sound"] = float(clock.sound_at) - geometry.first_tick
        owner = {n: of.repeat_interleave(geometry.tracks[n].tokens) for n, of in chunk_of.items()}

        def moved(x: Tensor, track: str, rope: Any, heads: int) -> Tensor:
            units = len(chunk_of[track])
            offsets = (even[track], *[0.0] * (units - 1))
            return rope.rotate(x.unflatten(-1, (heads, -1)), offsets).flatten(2)

        def causal(func: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, **kwargs: Any) -> Any:
            number = count[0] % geometry.calls.per_block
            count[0] += 1
            call = (*geometry.calls.of_block, None)[number]
            if call is not None:
                (of_q,), (of_k,), rope = call.queries, call.keys, geometry.rope_of(call)
                q, k = moved(q, of_q, rope, heads), moved(k, of_k, rope, heads)
                seen = owner[of_q][:, None] >= owner[of_k][None]
                kwargs["mask"] = seen.float().log()
            return func(q, k, v, heads, **kwargs)

        return self(tracks, sigma, optimized_attention_override=causal)


def cut(direct: Direct) -> list[list[slice]]:
    """Return where each chunk is among the latents of the tracks."""
    ends = [direct.geometry.clock.first_tick(CHUNK * chunk) for chunk in range(CHUNKS + 1)]
    frames = [slice(CHUNK * chunk, CHUNK * (chunk + 1)) for chunk in range(CHUNKS)]
    if direct.geometry.sound is None:
        return [[f] for f in frames]
    return [[f, slice(*ticks)] for f, ticks in zip(frames, pairwise(ends), strict=True)]


def latents(chunks: list[list[slice]], seed: int = 3) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    shapes = [(1, 128, chunks[-1][0].stop, HEIGHT, WIDTH)]
    shapes += [(1, 8, where[1].stop, 16) for where in chunks[-1:] if len(where) > 1]
    return [torch.randn(shape, generator=source) for shape in shapes]


def owners(chunks: list[list[slice]]) -> dict[str, Tensor]:
    names = ("video", "sound")[: len(chunks[0])]
    return {
        name: torch.cat([torch.full((w[i].stop - w[i].start,), c) for c, w in enumerate(chunks)])
        for i, name in enumerate(names)
    }


def part(tracks: list[Tensor], where: list[slice]) -> list[Tensor]:
    return [track[:, :, of] for track, of in zip(tracks, where, strict=True)]


def by_chunks(
    direct: Direct, core: Any, tracks: list[Tensor], chunks: list[list[slice]], sigmas: list[float]
) -> list[list[Tensor]]:
    """Forward chunk by chunk with a cache, each at a noise level of its own."""
    anchors, attention, cache = (
        importlib.import_module(f"{core.__name__}.{name}")
        for name in ("anchors", "attention.commit_attention", "attention.kv_cache")
    )
    size = chunks[0][0].stop
    config = core.StreamConfig(
        anchor="none", chunk_frames=size, window_frames=2 * size, warmup_positions="grow"
    )
    past, out = {0: cache.KVCache.empty()}, []
    for where, sigma in zip(chunks, sigmas, strict=True):
        given = (config, anchors.policy_for(config), past, direct.geometry)
        view = attention.CommitAttention(*given, first_frame=where[0].start)
        out.append(direct.chunk(part(tracks, where), sigma, view))
        past = view.committed()
    return out


def differences(direct: Direct, core: Any) -> tuple[list[float], list[float]]:
    """Return how far chunks are from one forward with a mask, and one without from that."""
    chunks = cut(direct)
    tracks = latents(chunks)
    with torch.inference_mode():
        expected = direct.block_causal(tracks, 0.6, owners(chunks))
        free = direct(tracks, 0.6)
        made = by_chunks(direct, core, tracks, chunks, [0.6] * CHUNKS)
    whole = [torch.cat(of, dim=2) for of in zip(*made, strict=True)]
    pairs = [zip(whole, expected, strict=True), zip(free, expected, strict=True)]
    far, masked = ([float((a - b).abs().max()) for a, b in of] for of in pairs)
    return far, masked


@pytest.mark.parametrize(("rate", "sound"), [(25, True), (25, False), (24, True), (30, True)])
def test_chunk_by_chunk_equals_one_block_causal_forward(
    harness: NodeHarness, core: Any, pack: Any, rate: int, sound: bool, exact_angles: None
) -> None:
    far, masked = differences(Direct(harness, pack, rate, sound), core)
    assert len(far) == 1 + sound
    assert max(far) < 1e-4
    assert min(masked) > 1e-2  # the mask matters: the test can fail


def test_the_same_with_angles_as_the_model_rounds_them(
    harness: NodeHarness, core: Any, pack: Any
) -> None:
    far, masked = differences(Direct(harness, pack), core)
    assert max(far) < 1e-3  # of values up to 7: what is left is the model's own rounding
    assert min(masked) > 1e-2


def test_a_clean_past_is_exact_but_for_gates_and_prompt(
    harness: NodeHarness, core: Any, pack: Any, exact_angles: None, monkeypatch: Any
) -> None:
    """Of those the model takes the highest noise level of a forward, whatever a token has."""
    direct = Direct(harness, pack)
    chunks = cut(direct)
    tracks, owner, newest = latents(chunks), owners(chunks), chunks[-1]
    of_video, of_sound = (
        torch.where(of == CHUNKS - 1, 0.6, 0.0)[None] for of in (owner["video"], owner["sound"])
    )
    levels = (of_video.repeat_interleave(TOKENS, dim=1), of_sound)

    def difference() -> float:
        with torch.inference_mode():
            expected = part(direct.block_causal(tracks, levels, owner), newest)
            made = by_chunks(direct, core, tracks, chunks, [0.0, 0.0, 0.6])[-1]
        return max(float((a - b).abs().max()) for a, b in zip(made, expected, strict=True))

    assert difference() > 1e-3
    for name in (
        "av_ca_a2v_gate_adaln_single",
        "av_ca_v2a_gate_adaln_single",
        "prompt_adaln_single",
        "audio_prompt_adaln_single",
    ):
        one = getattr(direct.dit, name)
        if one is not None:  # one answer for every noise level
            linear = one.linear
            monkeypatch.setattr(linear, "forward", partial(_nothing, linear.out_features))
    assert difference() < 1e-4


def _unbiased(weight: Tensor, x: Tensor) -> Tensor:
    return torch.nn.functional.linear(x, weight)


def _nothing(channels: int, x: Tensor) -> Tensor:
    return x.new_zeros((*x.shape[:-1], channels))


def test_places_do_not_depend_on_the_chunk(harness: NodeHarness, core: Any, pack: Any) -> None:
    """The same memory at chunk 6 and 306: the same chunk to the bit, picture and sound."""
    anchors, attention, cache = (
        importlib.import_module(f"{core.__name__}.{name}")
        for name in ("anchors", "attention.commit_attention", "attention.kv_cache")
    )
    source = torch.Generator().manual_seed(4)
    video = torch.randn((2, 128, 1 + CHUNK, HEIGHT, WIDTH), generator=source)
    sound = torch.randn((2, 8, 25, 16), generator=source)

    def outcome(direct: Direct, first: int, size: int) -> list[Tensor]:
        config = core.StreamConfig(chunk_frames=size, window_frames=size)
        policy, past = anchors.policy_for(config), {0: cache.KVCache.empty()}
        for number, (kind, sigma) in enumerate(
            ((attention.CommitAttention, 0.0), (attention.ChunkAttention, 0.6))
        ):
            frame = size * (first + number)
            view = kind(config, policy, past, direct.geometry, first_frame=frame)
            ticks = direct.geometry.clock.ticks_of(frame, size)
            at = slice(number, number + 1)
            out = direct.chunk([video[at, :, : 1 + size], sound[at, :, :ticks]], sigma, view)
            past = view.committed() if number == 0 else past
        return out

    with torch.inference_mode():
        for rate, size in ((24, 3), (25, 2), (30, 3)):
            direct = Direct(harness, pack, rate)
            early, late = outcome(direct, 6, size), outcome(direct, 306, size)
            assert all(torch.equal(a, b) for a, b in zip(early, late, strict=True))
        # A chunk of two frames at 24 a second has 16 or 17 latents of sound: the test can fail.
        direct = Direct(harness, pack, 24)
        other = [outcome(direct, first, 2)[0] for first in (6, 7)]
        assert not torch.equal(*other)


@pytest.mark.parametrize(
    ("options", "silenced"),
    [
        ({"a2v_cross_attn": False, "v2a_cross_attn": False}, ("video-to-sound", "sound-to-video")),
        ({"a2v_cross_attn": False}, ("video-to-sound",)),
        ({"stg_self_attn_blocks": {1}}, ("video", "sound")),
    ],
)
def test_a_pass_of_guidance_without_some_attention_sees_the_past_in_the_rest(
    harness: NodeHarness,
    core: Any,
    pack: Any,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    silenced: tuple[str, ...],
) -> None:
    """As ComfyUI's modality and spatio-temporal guidance make it, against calls that do nothing."""
    from comfy.ldm.lightricks import av_model

    spared = "stg_self_attn_blocks" in options
    if spared and "stg_self_attn_blocks" not in inspect.getsource(av_model):
        pytest.skip("this ComfyUI has no spatio-temporal guidance")
    anchors, chunks, commits, cache = (
        importlib.import_module(f"{core.__name__}.{name}")
        for name in (
            "anchors",
            "attention.chunk_attention",
            "attention.commit_attention",
            "attention.kv_cache",
        )
    )

    class Doing(chunks.ChunkAttention):
        def attend(self, call: Any) -> Tensor:
            if call.call.name not in silenced or (spared and call.layer != 1):
                return super().attend(call)
            return call.v if spared else torch.zeros_like(call.q)

    direct = Direct(harness, pack)
    for block in direct.dit.transformer_blocks:  # so that nothing comes of an attention to nothing
        for across in (block.audio_to_video_attn, block.video_to_audio_attn):
            linear = across.to_out[0]
            monkeypatch.setattr(linear, "forward", partial(_unbiased, linear.weight))
    parts = cut(direct)
    tracks = latents(parts)
    config = core.StreamConfig(anchor="none", chunk_frames=CHUNK, window_frames=CHUNK)
    given = (config, anchors.policy_for(config))
    with torch.inference_mode():
        view = commits.CommitAttention(*given, {0: cache.KVCache.empty()}, direct.geometry)
        direct.chunk(part(tracks, parts[0]), 0.0, view)
        past, where = view.committed(), parts[1]

        def made(kind: Any, **more: Any) -> list[Tensor]:
            view = kind(*given, past, direct.geometry, first_frame=CHUNK)
            return direct.chunk(part(tracks, where), 0.6, view, **more)

        without, doing = made(chunks.ChunkAttention, **options), made(Doing)
        whole = made(chunks.ChunkAttention)
    for got, expected, plain in zip(without, doing, whole, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
        assert float((got - plain).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("states", "first", "pictures"),
    [(1, 0, 2), (1, 3, 1), (2, 0, 3), (2, 3, 2), (0, 0, 1), (0, 3, 0)],
)
def test_hidden_frames_and_the_first_of_a_stream_are_marked_as_pictures(
    node_classes: dict[str, Any],
    tiny_models: Any,
    core: Any,
    pack: Any,
    states: int,
    first: int,
    pictures: int,
) -> None:
    """What the first block of LTX-2.5 is given, also where another node replaces that block."""
    anchors, attention, cache = (
        importlib.import_module(f"{core.__name__}.{name}")
        for name in ("anchors", "attention.chunk_attention", "attention.kv_cache")
    )
    direct, seen = Direct(ltx2_harness(node_classes, LTX25), pack, sound=False), []

    def first_block(args: dict[str, Any], extra: dict[str, Any]) -> Any:
        seen.append(args["img"][0].clone())
        return extra["original_block"](args)

    anchor = {"anchor": "adaptive", "state_frames": states} if states else {"anchor": "none"}
    config = core.StreamConfig(chunk_frames=CHUNK, window_frames=CHUNK, **anchor)
    given = (config, anchors.policy_for(config), {0: cache.KVCache.empty()}, direct.geometry)
    view = attention.ChunkAttention(*given, first_frame=first)
    source = torch.Generator().manual_seed(6)
    video = torch.randn((1, 128, states + CHUNK, HEIGHT, WIDTH), generator=source)
    with torch.inference_mode():
        patch = {"dit": {("double_block", 0): first_block}}
        direct.chunk([video], 0.6, view, patches_replace=patch)
        plain = direct.dit.patchify_proj(video.flatten(2).transpose(1, 2))
    added = (seen[0] - plain).unflatten(1, (-1, TOKENS))
    mark = direct.dit.keyframes_abs_pos_embedding.expand_as(added[:, :pictures])
    torch.testing.assert_close(added[:, :pictures], mark, atol=1e-5, rtol=0)
    assert (
        float(added[:, pictures:].abs().max()) < 1e-5 < float(mark.abs().max() if pictures else 1)
    )
