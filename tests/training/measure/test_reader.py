"""The reader learns from examples, keeps to its space, and examples say what is true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from training.measure.figures import place_of
from training.measure.lessons import Examples, Lesson, examples_of, join
from training.measure.moments import asked, stream_times
from training.measure.reader import Reader, alike, angle_of
from training.measure.train_reader import errors, fit, shift, wear
from training.panorama.journey import Journey, truth

# Narrow pictures: what is tested does not depend on their width.
WIDTH = 8


def drawn(count: int, seed: int) -> Examples:
    """Chunks in which every fact is written into a channel, the subject as a bright cell."""
    generator = torch.Generator().manual_seed(seed)

    def roll(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    latents = 0.1 * torch.randn(count, 16, 3, 14, WIDTH, generator=generator)
    place, light, there = roll(count) * 2880.0, roll(count), (roll(count) > 0.2).float()
    speed = (roll(count) - 0.5) * 8.0
    row = torch.randint(1, 9, (count,), generator=generator)
    column = torch.randint(1, WIDTH - 1, (count,), generator=generator)
    colour = torch.randint(6, (count,), generator=generator)
    subject = torch.randint(4, (count,), generator=generator)
    facts = [*angle_of(place).unbind(1), speed / 4.0, light * 2.0 - 1.0]
    for channel, fact in enumerate(facts):
        latents[:, channel] += fact[:, None, None, None]
    every = torch.arange(count)
    latents[every, 4, :, row, column] += 3.0 * there[:, None]
    latents[every, 5 + colour, :, row, column] += 2.0 * there[:, None]
    latents[every, 11 + subject, :, row, column] += 2.0 * there[:, None]
    path = torch.stack([column + 0.5, row + 0.5], 1)[:, None].expand(-1, 3, -1) * 8.0
    wanted = {
        "place": angle_of(place),
        "speed": speed,
        "light": light,
        "path": path,
        "present": there,
        "colour": colour,
        "subject": subject,
    }
    return Examples(latents.half(), wanted)


@pytest.fixture(scope="module")
def taught() -> Reader:
    torch.manual_seed(0)
    reader = Reader()
    fit(reader, drawn(1500, 0), seconds=600.0, most=150, batch_size=48)
    return reader


def test_a_reader_reads_examples_it_has_not_seen(taught: Reader) -> None:
    found = errors(taught, drawn(200, 1))
    assert found["place"] < 250.0
    assert found["speed"] < 0.6
    assert found["heading"] > 0.95
    assert found["light"] < 0.15
    assert found["present"] > 0.9
    assert found["position"] < 8.0
    assert found["colour"] > 0.8
    assert found["subject"] > 0.8


def test_features_have_unit_variance_over_what_is_real(taught: Reader) -> None:
    features = taught.read(drawn(1500, 0).latents.transpose(0, 1).flatten(1, 2)[None]).features
    assert features.shape == (1500, 24)
    assert np.abs(features.mean(0)).max() < 0.05
    assert np.abs(features.std(0) - 1.0).max() < 0.05


def test_a_reader_is_kept_with_its_errors_and_its_space(taught: Reader, tmp_path: Path) -> None:
    about: dict[str, object] = {"space": "here", "errors": {"place": 12.5}}
    taught.save(tmp_path / "reader.safetensors", about)
    loaded, told = Reader.load(tmp_path / "reader.safetensors", "here")
    assert told == about
    clip = drawn(4, 2).latents.transpose(0, 1).flatten(1, 2)[None]
    for name in ("place", "colour", "features"):
        assert np.array_equal(getattr(loaded.read(clip), name), getattr(taught.read(clip), name))
    with pytest.raises(ValueError, match="reads the latent space here, expected there"):
        Reader.load(tmp_path / "reader.safetensors", "there")


def test_streams_are_read_chunk_by_chunk(taught: Reader) -> None:
    both = torch.stack([drawn(5, seed).latents.transpose(0, 1).flatten(1, 2) for seed in (3, 4)])
    together = taught.read(both)
    for clip, read in zip(both, together.split(5), strict=True):
        alone = taught.read(clip[None])
        assert np.allclose(read.place, alone.place, atol=1e-5)
        assert np.allclose(read.features, alone.features, atol=1e-4)


def test_what_moves_a_column_is_most_alike_a_column_aside() -> None:
    frame = torch.randn(1, 16, 1, 14, 24, generator=torch.Generator().manual_seed(0))
    moved = torch.cat([frame, frame.roll(-2, dims=-1)], 2)
    maps = alike(moved)[0, :, :, 4:-4].mean((1, 2))
    # Columns are compared from three to the left to three to the right.
    assert int(maps.argmax()) == 1


def test_worn_examples_keep_their_shape_and_some_stay_free_of_noise() -> None:
    latents = torch.randn(400, 16, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    worn = wear(latents, torch.Generator().manual_seed(2))
    assert worn.shape == latents.shape
    off = (worn - latents).flatten(1).std(1)
    assert float(off.quantile(0.1)) < 0.15
    assert float(off.quantile(0.9)) > 0.3


def test_a_shift_moves_subject_and_place_with_the_picture() -> None:
    examples = drawn(64, 5).pick(torch.arange(64))
    moved = shift(examples, torch.Generator().manual_seed(0))
    there = examples.wanted["present"] > 0.5
    columns = [
        part.latents[:, 4].mean(1).sub(0.1).amax(1).argmax(1).float()[there]
        for part in (examples, moved)
    ]
    seen = 8.0 * (columns[1] - columns[0])
    told = (moved.wanted["path"] - examples.wanted["path"])[there, 0, 0]
    # A subject at the rim may be moved out of the picture, and then it cannot be seen there.
    inside = (moved.wanted["path"][there, 0, 0] > 0) & (
        moved.wanted["path"][there, 0, 0] < 8 * WIDTH
    )
    assert torch.equal(seen[inside], told[inside])
    places = [place_of(part.wanted["place"].double().numpy()) for part in (examples, moved)]
    turn = (places[1] - places[0] + 1440.0) % 2880.0 - 1440.0
    assert np.allclose(turn[there.numpy()], -told.double().numpy(), atol=0.1)


def test_examples_say_what_is_true_of_their_moment() -> None:
    lesson = next(one for n in range(100) if (one := Lesson.draw(n)).begin > 50.0)
    clip = torch.zeros(1, 16, 7, 14, 24)
    found = examples_of(clip, [lesson], step=2)
    assert len(found) == 3
    # Of the last run, frames 4 to 6, the middle one shows pictures 17 to 20.
    told = truth([lesson.journey], torch.tensor([[lesson.begin + 18.5]]))
    place = place_of(found.wanted["place"][-1:].double().numpy())[0]
    where = float((told.place[0, 0] + lesson.journey.departure) % 2880.0)
    assert place == pytest.approx(where, abs=0.5)
    assert float(found.wanted["speed"][-1]) == pytest.approx(float(told.speed), abs=1e-5)
    assert float(found.wanted["path"][-1, 1, 0]) == pytest.approx(float(told.x), abs=1e-3)
    assert len(join([found, found])) == 6


def test_lessons_hold_out_prompts_that_training_never_sees() -> None:
    lessons = [Lesson.draw(number) for number in range(200)]
    assert all(one.journey.prompt.unseen is one.held_out for one in lessons)
    assert 0.1 < sum(one.empty for one in lessons) / 200 < 0.15
    assert 0.1 < sum(one.held_out for one in lessons) / 200 < 0.15
    assert not any(one.empty and one.held_out for one in lessons)


def test_the_first_frame_of_a_stream_is_one_picture() -> None:
    journey = Journey.draw(Lesson.draw(0).journey.prompt, 1)
    (told,) = asked([journey], stream_times(1, 2))
    times = torch.tensor([[0.0, 2.5, 6.5, 10.5, 14.5, 18.5]])
    wanted = truth([journey], times)
    assert np.allclose(told.path.reshape(-1, 2)[:, 0], wanted.x[0].double().numpy())
    assert np.allclose(told.travel, wanted.place[0, [1, 4]].double().numpy())
