"""What one batch of pictures is painted on, and what every brush needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.panorama import palette
from training.panorama.journey import HEIGHT, WIDTH

# Where the flat of the land and of the sea ends.
HORIZON = 70.0


@dataclass(frozen=True, slots=True)
class Canvas:
    """P pictures ``(P, 3, H, W)`` that are painted over from back to front, with their facts."""

    image: Tensor
    camera: Tensor
    light: Tensor
    dawn: Tensor
    time: Tensor
    salt: Tensor
    here: Tensor
    sky: Tensor
    ambient: Tensor
    beam: Tensor
    side: Tensor

    @classmethod
    def stretch(
        cls, camera: Tensor, light: Tensor, dawn: Tensor, time: Tensor, salt: Tensor
    ) -> Canvas:
        """Prepare pictures of a camera at places ``(P,)`` under lights ``(P,)``.

        Where ``dawn`` is 1 and not 0, the sun rises.
        """
        here = torch.stack(palette.presence(camera, 260.0), 1)
        return cls(
            image=torch.empty(len(camera), 3, HEIGHT, WIDTH, device=camera.device),
            camera=camera,
            light=light,
            dawn=dawn,
            time=time,
            salt=salt[:, None],
            here=here,
            sky=palette.sky(light, here, dawn),
            ambient=palette.stops(
                light, palette.at_dawn(palette.AMBIENT, palette.DAWN_AMBIENT, dawn)
            ),
            beam=palette.stops(light, palette.at_dawn(palette.BEAM, palette.DAWN_BEAM, dawn)),
            side=palette.stops(light, palette.SIDE),
        )

    def rows(self, top: int, bottom: int = HEIGHT) -> Tensor:
        """Middles of pixel rows as ``(1, rows, 1)``."""
        rows = torch.arange(top, bottom, device=self.light.device, dtype=torch.float32)
        return (rows + 0.5)[None, :, None]

    def columns(self, pad: int = 0) -> Tensor:
        """Middles of pixel columns as ``(1, W + 2 pad)``."""
        columns = torch.arange(-pad, WIDTH + pad, device=self.light.device, dtype=torch.float32)
        return (columns + 0.5)[None]

    @property
    def haze(self) -> Tensor:
        """Colour of the air far away, ``(P, 3)``."""
        return self.sky[:, 2] * 0.8 + self.sky[:, 1] * 0.2

    @property
    def night(self) -> Tensor:
        """How far lamps are lit, ``(P,)``."""
        return ((self.light - 0.5) * 4.0).clamp(0.0, 1.0)

    def over(self, colour: Tensor, cover: Tensor, top: int, bottom: int = HEIGHT) -> None:
        """Paint a colour ``(P, 3, ...)`` over rows where ``cover (P, rows, W)`` says."""
        below = self.image[:, :, top:bottom]
        below += (colour - below) * cover[:, None]

    def add(self, colour: Tensor, amount: Tensor, top: int = 0, bottom: int = HEIGHT) -> None:
        """Let light ``(P, 3)`` shine on rows where ``amount (P, rows, W)`` says, without glare."""
        below = self.image[:, :, top:bottom]
        below += (1.0 - below) * (colour[:, :, None, None] * amount[:, None])


def plane(values: Tensor) -> Tensor:
    """Shape numbers or colours of pictures ``(P,)`` or ``(P, 3)`` for planes of pixels."""
    return values[..., None, None]
