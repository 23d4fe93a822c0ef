"""The latents of a block, with and without sound."""

from __future__ import annotations

import torch

from adastate_core.rollout.latent_block import LatentBlock

VIDEO, SOUND = torch.ones((1, 2, 3, 4, 5)), torch.ones((1, 6, 7, 2))


def test_every_track_is_changed() -> None:
    both = LatentBlock(VIDEO, SOUND).map(lambda x: 2 * x)
    assert [float(track.sum()) for track in both.tracks] == [240.0, 168.0]
    alone = LatentBlock(VIDEO).map(lambda x: 2 * x)
    assert alone.sound is None
    assert len(alone.tracks) == 1


def test_a_joined_block_lies_in_memory_as_one_that_was_made_in_one_go() -> None:
    whole = torch.randn((1, 2, 4, 3, 5), generator=torch.Generator().manual_seed(0))
    strange = whole.transpose(3, 4).contiguous().transpose(3, 4)
    block = LatentBlock.joined(strange[:, :, :1], strange[:, :, 1:], SOUND)
    assert torch.equal(block.video, whole)
    assert block.video.stride() == whole.stride()
    assert block.sound is SOUND
    assert torch.equal(LatentBlock.joined(None, whole).video, whole)
