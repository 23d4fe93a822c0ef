"""Contact sheets show what the renderer paints, picture by picture."""

import numpy as np
import torch

from training.panorama import sheet
from training.panorama.journey import Journey
from training.panorama.render import render


def test_tiles_are_the_pictures_row_by_row() -> None:
    pictures = torch.arange(3 * 3 * 2 * 5, dtype=torch.uint8).reshape(3, 3, 2, 5)
    image = np.asarray(sheet.tile(pictures, across=2, scale=3))
    assert image.shape == (3 * (2 * (2 + 4) + 4), 3 * (2 * (5 + 4) + 4), 3)
    third = image[3 * 10 : 3 * 12 : 3, 3 * 4 : 3 * 9 : 3]
    assert np.array_equal(third, pictures[2].movedim(0, -1).numpy())


def test_a_view_is_the_first_picture_of_its_journey() -> None:
    drawn = Journey.draw(sheet.EXAMPLE, 4)
    view = sheet.views([drawn.departure], [0.0], [drawn], drawn.salt)
    assert torch.equal(view, render([drawn], torch.zeros(1, 1))[0])
