"""What the moving pictures of a chunk cost: before the next chunk begins, and beside it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.harness import Measured, Row, pack, seconds

_MILLI = 1000.0


@dataclass(frozen=True)
class Pictures:
    """A chunk of 3 latent frames and its images; by default of 832 x 480."""

    size: tuple[int, int] = (60, 104)
    pairs: int = 15

    def measure(self) -> Measured:
        """Return milliseconds on the way of the stream, and in the thread beside it."""
        import comfy.latent_formats

        panel = "adastate_comfy.panel"
        colours = pack().part(f"{panel}.latent_colours").colours_of
        small, tiles = pack().part(f"{panel}.pictures").small_pixels, pack().part(f"{panel}.tiles")
        source = torch.Generator().manual_seed(4)
        height, width = self.size
        latents = torch.randn((1, 16, 4, height, width), generator=source)
        images = torch.rand((12, 8 * height, 8 * width, 3), generator=source)
        form = comfy.latent_formats.Wan21()
        coloured, decoded = small(colours(latents, form)), small(images)

        def files() -> None:
            for widest in (tiles.TILE_WIDTH, tiles.PICTURE_WIDTH):
                tiles.moving(decoded, 0.75, widest)

        cost: dict[str, Any] = {
            "latent_colours": self._milli(lambda: small(colours(latents, form))),
            "images_made_small": self._milli(lambda: small(images)),
            "file_of_latent_colours": self._milli(lambda: tiles.moving(coloured, 0.75, 128)),
            "files_of_images": self._milli(files),
        }
        rows = [
            Row("colours of a chunk's latents", cost["latent_colours"], 10, "ms"),
            Row("decoded images of a chunk made small", cost["images_made_small"], 100, "ms"),
            Row("in the thread: files of colours", cost["file_of_latent_colours"], 50, "ms"),
            Row("in the thread: files of images", cost["files_of_images"], 500, "ms"),
        ]
        return Measured(rows, {**cost, "setting": vars(self)})

    def _milli(self, run: Any) -> float:
        return statistics.median(_MILLI * seconds(run) for _ in range(self.pairs))
