"""Pictures of a running stream: decoded with a VAE if there is one, else by latent colours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

from comfy_api.latest import io
from torch import Tensor

from ...adastate_core.stream.events import ChunkEvent, Event, GivenLatentsEvent
from ...adastate_core.stream.state import StreamState
from ..model.binding import bound_model
from ..panel.latent_colours import LatentColours
from ..panel.pictures import ChunkPictures, PictureSource, small_pixels
from ..panel.place import place_of
from ..panel.prompt_text import PromptText, prompt_behind
from ..panel.stream_view import StreamView
from ..progress import write_under
from ..sampling.stream_run import StreamInputs
from ..sockets.latents import from_model_space
from .decoders import ChunkDecoder, open_decoder


class DecodedPictures:
    """Pictures by a VAE, whose decoder goes on from chunk to chunk.

    Where a stream is continued, it has seen one chunk of what came before: enough for a picture.

    Args:
        vae: The VAE, full or tiny.
        latent_shape: (B, C, T, H, W), T the latent frames of a chunk.

    Raises:
        UnsupportedFamilyError: If the VAE cannot decode these latents in parts.
    """

    decodes = True

    def __init__(self, vae: Any, latent_shape: tuple[int, ...]) -> None:
        self._vae, self._shape = vae, (1, *latent_shape[1:])
        self._decoder = open_decoder(vae, self._shape)
        self._seen = ""

    def pictures_of(self, state: StreamState) -> ChunkPictures:
        """Make pictures of the newest chunk."""
        self._decoder.load()
        *before, chunk = newest_latents(state)
        # One that waits for the next chunk would show each too late: it gets each alone.
        alone = self._decoder.held_back > 0
        if before and before[-1][0] != self._seen and not alone:
            self._decoder = open_decoder(self._vae, self._shape)
            self._decoder.load()
            self._decoder.decode(_samples(state, before[-1][1]))
        decode = self._decoder.decode_alone if alone else self._decoder.decode
        images = decode(_samples(state, chunk[1]))[0]
        self._seen = chunk[0]
        return ChunkPictures(
            small_pixels(images), hidden_pixels(self._decoder, state), "vae", len(images)
        )


def _samples(state: StreamState, latents: Tensor) -> Tensor:
    samples: Tensor = from_model_space(state, latents[:1])["samples"]
    return samples


def newest_latents(state: StreamState) -> list[tuple[str, Tensor]]:
    """Return digest and latents of the newest chunk, after those of what the video has before."""
    found: list[tuple[str, Tensor]] = []
    events = state.events
    for position in range(len(events) - 1, -1, -1):
        event = events[position]
        if _is_of_video(event) and event.content is not None:
            found.append((event.latents, event.content))
        if len(found) == 2:
            break
    return found[::-1]


def _is_of_video(event: Event) -> TypeGuard[ChunkEvent | GivenLatentsEvent]:
    given = isinstance(event, GivenLatentsEvent) and event.reason == "start"
    return given or isinstance(event, ChunkEvent)


def hidden_pixels(decoder: ChunkDecoder, state: StreamState) -> Any:
    """Return the picture of the newest hidden state, (1, height, width, 3), or None."""
    chunk = state.last_chunk
    if chunk is None or chunk.state is None:
        return None
    samples = from_model_space(state, chunk.state[:1, :, -1:])["samples"]
    return small_pixels(decoder.decode_alone(samples)[0])


@contextmanager
def failure_shown(hidden: io.HiddenHolder) -> Iterator[StreamView]:
    """Say on the panel of a node, and under it, why its run fails; also before it has begun.

    Args:
        hidden: Hidden inputs of the node: unique_id, dynprompt and extra_pnginfo.
    """
    view = _open_view(hidden)
    try:
        yield view
    except BaseException as error:
        _write_under(view, view.fail(error))
        raise


@contextmanager
def live_view(hidden: io.HiddenHolder) -> Iterator[StreamView]:
    """Show a run of a node while it lasts, and say on its panel how it ended.

    Args:
        hidden: Hidden inputs of the node: unique_id, dynprompt and extra_pnginfo.
    """
    with failure_shown(hidden) as view:
        yield view
        _write_under(view, view.finish())


def _open_view(hidden: io.HiddenHolder) -> StreamView:
    place, prompt = place_of(hidden), PromptText()
    if place is not None and hidden.dynprompt is not None:
        prompt = prompt_behind(hidden.dynprompt, place.own)
    return StreamView(place, prompt)


def _write_under(view: StreamView, text: str | None) -> None:
    if text is not None:
        write_under(view.node, view.under(text))


def pictures_for(inputs: StreamInputs) -> PictureSource:
    """Return where a run's pictures come from: its VAE, or latent colours.

    Raises:
        UnsupportedFamilyError: If the VAE cannot decode these latents in parts.
    """
    bound = bound_model(inputs.model)
    if inputs.vae is not None:
        batch, channels, *size = inputs.state.latent_shape
        return DecodedPictures(inputs.vae, (batch, channels, bound.config.chunk_frames, *size))
    form = bound.model.get_model_object("latent_format")
    traits = bound.traits
    return LatentColours(form, traits.time_stride, short_first=traits.short_first)
