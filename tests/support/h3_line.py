"""MiniMax H3 chunk by chunk with what it attends to written out by hand, to compare with.

Nothing of the pack is used: blocks of ComfyUI's class are called one by one on the rows of a chunk,
at the positions that the model's own layout of a whole clip gives them, and keys and values of past
chunks are kept as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

VIDEO, TEXT, SOUND = 0, 1, 2
Rows = list[tuple[Tensor, Tensor]]  # keys and values of some rows, layer by layer


@dataclass
class Chunk:
    """Where a chunk is in its clip: latent frames and latents of sound."""

    frames: slice
    ticks: slice


def cut(chunks: int, frames: int) -> list[Chunk]:
    """Cut a clip: five latent frames are 85/3 latents of sound."""
    ends = [-(-85 * k * frames // 15) for k in range(chunks + 1)]
    return [
        Chunk(slice(k * frames, (k + 1) * frames), slice(*part))
        for k, part in enumerate(pairwise(ends))
    ]


class H3Line:
    """A MiniMax H3 whose rows see what they are told to see."""

    def __init__(self, dit: Any, text: Tensor, parts: list[Chunk], size: tuple[int, int]) -> None:
        from comfy.ldm.minimax.model import PackedLayout

        self.dit, self.text = dit, dit.preprocess_text_embeds(text)[0]
        length, self.total, self.size = len(self.text), parts[-1].ticks.stop, size
        clip = PackedLayout(length, parts[-1].frames.stop, *size, self.total)
        self.text_at = clip.position_ids[:length]
        self.sound_at = clip.position_ids[length : length + 2 * self.total].unflatten(0, (2, -1))
        self.video_at = clip.position_ids[length + 2 * self.total :].unflatten(
            0, (parts[-1].frames.stop, -1)
        )

    def prefill(self, t: float) -> Rows:
        """Return what the text makes of itself alone."""
        return self._run(self.text.clone(), self.text_at, [(len(self.text), t, TEXT)], [], 0)[1]

    def velocity(
        self,
        part: Chunk,
        video: Tensor,
        sound: Tensor,
        times: tuple[float, float],
        past: list[Rows],
        *,
        with_text: bool = False,
    ) -> tuple[Tensor, Tensor, Rows]:
        """Return the direction towards clean video and sound, and the keys and values written.

        Args:
            part: Where the chunk is.
            video: Its latents.
            sound: Those of its sound, as the model has them.
            times: 1 less the noise of video and of sound.
            past: What it attends to besides itself.
            with_text: Whether text stands in front of it, at the time of the video.
        """
        from comfy.ldm.minimax.model import (
            pack_audio,
            patchify_video,
            unpack_audio,
            unpatchify_video,
        )

        h = torch.cat(
            (
                self.dit.audio_patch_proj(pack_audio(sound)),
                self.dit.video_patch_proj(patchify_video(video, self.dit.patch_size)),
            )
        )
        at = torch.cat(
            (
                self.sound_at[:, part.ticks].flatten(0, 1),
                self.video_at[part.frames].flatten(0, 1),
            )
        )
        ticks = 2 * sound.shape[-1]
        kinds = [(ticks, times[1], SOUND), (len(h) - ticks, times[0], VIDEO)]
        if with_text:
            h, at = torch.cat((self.text, h)), torch.cat((self.text_at, at))
            kinds.insert(0, (len(self.text), times[0], TEXT))
        left = len(self.text) if with_text else 0
        h, written = self._run(h, at, kinds, past, left)
        clean_sound, clean_video = left + ticks, len(h)
        level = sorted({t for _, t, _ in kinds})
        v, a = self.dit.final_layer(
            h,
            self._embedded(level),
            (clean_sound, clean_video, level.index(times[0])),
            (left, clean_sound, level.index(times[1])),
        )
        rows, columns = self.size[0] // 2, self.size[1] // 2
        moving = unpatchify_video(
            v, video.shape[2], rows, columns, self.dit.latents_dim, self.dit.patch_size
        )
        return moving, unpack_audio(a), written

    def _embedded(self, level: list[float]) -> Tensor:
        times = torch.tensor(level, dtype=torch.float32)
        if not self.dit.use_adaln_curves:
            embedded: Tensor = self.dit.time_embedder(times)
            return embedded
        table = self.dit.adaln_t_table
        at = times.clamp(0.0, 1.0) * (table.shape[0] - 1)
        low = at.floor().long().clamp(max=table.shape[0] - 2)
        return torch.lerp(table[low], table[low + 1], (at - low).unsqueeze(1))

    def _run(
        self,
        h: Tensor,
        at: Tensor,
        kinds: list[tuple[int, float, int]],
        past: list[Rows],
        left: int,
    ) -> tuple[Tensor, Rows]:
        from comfy.ldm.minimax.model import rope_rotation_table

        level, spans, start = sorted({t for _, t, _ in kinds}), [], 0
        for count, t, kind in kinds:
            spans.append((start, start + count, 3 * level.index(t) + kind))
            start += count
        table = rope_rotation_table(self.dit.rope_freqs(at, "cpu"), h.dtype)
        written: Rows = []

        def attention(func: Any, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Any:
            layer = len(written)
            written.append((k[:, :, left:].clone(), v[:, :, left:].clone()))
            seen = [rows[layer] for rows in past]
            k, v = (torch.cat([*(x[i] for x in seen), o], 2) for i, o in enumerate((k, v)))
            return func(q, k, v, *args, **kwargs)

        options = {"optimized_attention_override": attention}
        embedded = self._embedded(level)
        for block in self.dit.blocks:
            h = block(h, embedded, spans, table, transformer_options=options)
        return h, written
