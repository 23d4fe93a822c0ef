"""What the pictures of the measurement are drawn with: a dark card that stands on any page."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from tools.contact_sheet import DARK, FAINT, LIGHT, Colour

__all__ = ["FAINT", "LIGHT", "RULE", "Card", "Colour", "colour_of", "font"]

RULE: Colour = (46, 49, 58)
# Told apart by people who see colours differently: Okabe and Ito's, on dark.
ROWS: tuple[Colour, ...] = (
    (240, 180, 90),
    (86, 180, 233),
    (213, 120, 90),
    (90, 190, 150),
    (204, 121, 167),
    (240, 228, 66),
)
# Drawn twice as large and made smaller, so that thin lines are smooth.
FINE = 2


def colour_of(index: int) -> Colour:
    return ROWS[index % len(ROWS)]


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


class Card:
    """A drawing in fine pixels; all numbers are in those of the finished picture."""

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self.image = Image.new("RGB", (width * FINE, height * FINE), DARK)
        self.draw = ImageDraw.Draw(self.image)

    def line(self, *points: tuple[float, float], colour: Colour, width: float = 1.0) -> None:
        fine = [(x * FINE, y * FINE) for x, y in points]
        self.draw.line(fine, colour, round(width * FINE))

    def dot(self, x: float, y: float, radius: float, colour: Colour, *, filled: bool) -> None:
        box = [(v * FINE) for v in (x - radius, y - radius, x + radius, y + radius)]
        inside = colour if filled else DARK
        self.draw.ellipse(box, fill=inside, outline=colour, width=2 * FINE)

    def words(
        self, text: str, x: float, y: float, size: int, colour: Colour, anchor: str = "la"
    ) -> None:
        """Write at a place that ``anchor`` names as Pillow does: ``la`` is left and top."""
        self.draw.text((x * FINE, y * FINE), text, colour, font=font(size * FINE), anchor=anchor)

    def paste(self, picture: Image.Image, x: int, y: int, width: int, height: int) -> None:
        fine = picture.resize((width * FINE, height * FINE), Image.Resampling.LANCZOS)
        self.image.paste(fine, (x * FINE, y * FINE))

    def finished(self) -> Image.Image:
        return self.image.resize(self.size, Image.Resampling.LANCZOS)
