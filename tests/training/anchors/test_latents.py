"""Clips are drawn as they are meant to, and a row does not depend on how it is made."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.support.tiny_anchors import fill_folder
from training.anchors import latents
from training.anchors.clips import CHUNKS, FRAMES, Clip, picture_times, subject_mask
from training.anchors.latents import (
    LatentSet,
    OpeningSet,
    ShardKind,
    clips_of,
    encode_clips,
    encode_openings,
    shard_path,
)
from training.anchors.train_vae import ENCODED_BY, START
from training.panorama.journey import Journey, truth
from training.panorama.render import render
from training.vae import ClipVAE

CPU = torch.device("cpu")


def test_half_of_the_clips_depart_and_some_arrive() -> None:
    clips = [Clip.draw(number) for number in range(200)]
    told = truth([clip.journey for clip in clips], picture_times(clips))
    departs = [clip.begin == 0 for clip in clips]
    assert sum(departs) == 100
    assert float(told.place[departs, 0].abs().max()) == 0.0
    arrives = [clip.number % 10 == 9 for clip in clips]
    others = [not (a or d) for a, d in zip(arrives, departs, strict=True)]
    assert float(told.speed[others].abs().min()) > 0.0
    assert (told.speed[arrives][:, -1] == 0.0).float().mean() > 0.7
    assert (told.speed[arrives][:, 0] != 0.0).float().mean() > 0.6
    assert not any(clip.prompt.unseen for clip in clips)
    assert [Clip.draw(clip.number) for clip in clips] == clips


def test_the_mask_is_where_the_subject_is() -> None:
    """Compare with what changes when the subject alone is of another colour."""
    from dataclasses import replace

    clip = next(c for c in map(Clip.draw, range(40)) if c.prompt.colour == "red" and c.begin == 0)
    other = replace(clip.prompt, colour="blue")
    twin = replace(
        Journey.draw(other, 0),
        **{
            name: getattr(clip.journey, name)
            for name in ("pattern", "accent", "phase", "period", "centre", "reach", "salt")
        },
    )
    times = torch.tensor([[8.0, 20.0, 32.0]])
    a, b = (render([journey], times).float() for journey in (clip.journey, twin))
    changed = (a - b).abs().amax(2)[0] > 24.0
    cells = changed.unflatten(1, (-1, 8)).unflatten(3, (-1, 8)).float().mean((2, 4))
    mask = subject_mask([clip])[0, :3, 0]
    assert mask.shape == (3, 14, 24)
    # Most of what is coloured is under it, and it is little more than that.
    assert float((cells * mask).sum() / cells.sum()) > 0.95
    assert 0.03 < float(mask.float().mean()) < 0.2


def test_no_shard_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADASTATE_TRAIN_DIR", str(tmp_path))

    def encode(job: tuple[Path, int, ShardKind]) -> int:
        save_file({"content": torch.randn(1, 16, 3, 2, 2)}, shard_path(*job))
        return job[1]

    monkeypatch.setattr(latents, "encode_job", encode)
    monkeypatch.setattr(latents, "ProcessPoolExecutor", lambda n, _: ThreadPoolExecutor(n))
    assert latents.make_latents(tmp_path, 1.0, 2, CPU, most=5) == 5
    # None was trained here: the VAE is the one that the kept base knows.
    assert (tmp_path / ENCODED_BY).read_bytes() == START.read_bytes()
    shard_path(tmp_path, 3).unlink()
    assert latents.make_latents(tmp_path, 0.0, 2, CPU, most=7) == 6


def test_rows_do_not_depend_on_their_company() -> None:
    vae = ClipVAE(dim=4).eval()
    clips = [Clip.draw(number) for number in (0, 1)]
    together = encode_clips(vae, clips, CPU)
    assert {name: tuple(value.shape) for name, value in together.items()} == {
        "content": (2, 16, 3 * CHUNKS, 14, 24),
        "state": (2, 16, CHUNKS, 14, 24),
        "origin": (2, 16, 3, 14, 24),
    }
    alone = encode_clips(vae, clips[1:], CPU)
    for name, value in alone.items():
        torch.testing.assert_close(together[name][1:], value, atol=2e-3, rtol=2e-3)
    # A clip that departs begins with its first chunk; the other one's is far behind it.
    assert torch.equal(together["origin"][0], together["content"][0, :, :3])
    assert not torch.equal(together["origin"][1], together["content"][1, :, :3])
    last = render([clips[0].journey], torch.tensor([[FRAMES - 1.0, FRAMES - 1.0]]))
    video = last[:, :1].transpose(1, 2).float() / 127.5 - 1.0
    with torch.no_grad():
        state = vae.encode(video)[0][0, :, 0]
    torch.testing.assert_close(together["state"][0, :, -1].float(), state, atol=2e-3, rtol=2e-3)


def test_batches_are_normalised_blocks(tmp_path: Path) -> None:
    fill_folder(tmp_path, shards=2)
    data = LatentSet.load(tmp_path, CPU)
    assert len(data) == 16
    assert data.rows(departs=True) == list(range(0, 16, 2))
    batch = data.batch([1, 3])
    assert not batch.departs
    assert batch.blocks.shape == (2, CHUNKS, 16, 4, 14, 24)
    assert torch.equal(batch.blocks[0, 2, :, 0], data.state[1, :, 2].float())
    assert torch.equal(batch.blocks[0, 2, :, 1:], data.content[1, :, 6:9].float())
    assert data.batch([0, 2]).departs


def test_an_opening_is_the_first_chunk_of_a_journey_of_its_own(tmp_path: Path) -> None:
    vae = ClipVAE(dim=4).eval()
    openings = clips_of("opening", 0)[:2]
    assert [clip.begin for clip in openings] == [0, 0]
    drawn = {clip.number for index in range(100) for clip in clips_of("shard", index)}
    assert not drawn & {clip.number for clip in openings}
    whole, alone = encode_clips(vae, openings, CPU), encode_openings(vae, openings, CPU)
    for name, frames in (("content", 3), ("state", 1)):
        assert torch.allclose(alone[name], whole[name][:, :, :frames], atol=2e-3, rtol=2e-3)

    fill_folder(tmp_path, shards=2)
    data = OpeningSet.load(tmp_path, CPU)
    assert len(data) == 64
    batch = data.batch([1, 40])
    assert batch.departs
    assert batch.blocks.shape == (2, 1, 16, 4, 14, 24)
    assert torch.equal(batch.blocks[1, 0, :, 0], data.state[40, :, 0].float())
    assert torch.equal(batch.blocks[1, 0, :, 1:], data.content[40].float())
    assert batch.mask.shape == (2, 1, 4, 14, 24)


def test_a_shard_behind_a_gap_is_left_out(tmp_path: Path) -> None:
    fill_folder(tmp_path)
    shutil.copyfile(shard_path(tmp_path, 0), shard_path(tmp_path, 2))
    assert len(LatentSet.load(tmp_path, CPU)) == 8
    with pytest.raises(FileNotFoundError, match="holds no latents"):
        LatentSet.load(tmp_path / "nowhere", CPU)
