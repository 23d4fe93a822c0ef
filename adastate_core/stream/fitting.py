"""Refuse latents and models that do not fit a stream."""

from __future__ import annotations

from ..errors import LayoutError, StateMismatchError
from ..fingerprint import ModelFingerprint


def require_size(seen: tuple[int, ...], stream: tuple[int, int, int, int]) -> None:
    """Refuse given latents that are not of the size of a stream.

    Args:
        seen: Their shape, of which the number of frames is free.
        stream: Batch, channels, height and width of the stream.

    Raises:
        LayoutError: If anything else differs.
    """
    batch, channels, height, width = stream
    if len(seen) == 5 and (*seen[:2], *seen[3:]) == stream:
        return
    if len(seen) != 5:
        problem = "the given latent is no video"
    elif seen[1] != channels:
        problem = f"the given latent has {seen[1]} channels; this stream has {channels}"
    elif seen[0] != batch:
        problem = f"the given latent holds {seen[0]} videos; this stream makes {batch}"
    else:
        problem = f"the given latent is {seen[4]} x {seen[3]}; this stream is {width} x {height}"
    raise LayoutError(
        "latent shape",
        problem=problem,
        seen=seen,
        expected=f"({batch}, {channels}, frames, {height}, {width})",
        remedy="encode it with the VAE of this model, at the width and height of the stream",
    )


def require_model(
    model: ModelFingerprint, recorded: ModelFingerprint | None, channels: int
) -> None:
    """Refuse a model that did not make a stream.

    Args:
        model: The model at hand.
        recorded: The model that made the stream; None before the first chunk.
        channels: Latent channels of the stream.

    Raises:
        StateMismatchError: If the family, the channels or the base weights differ.
    """
    if channels != model.latent_channels:
        raise StateMismatchError(
            "latent channels of the stream",
            problem=(
                f"the empty latent is for another model: it has {channels} channels, this model "
                f"{model.latent_channels}"
            ),
            seen=channels,
            expected=f"{model.latent_channels} for this model",
            remedy="connect the empty latent node of this model to New Stream",
        )
    if recorded is not None and not model.matches(recorded):
        raise StateMismatchError(
            "model of the stream",
            problem=f"this stream was made with another model: {recorded}; this is {model}",
            seen=model,
            expected=recorded,
            remedy="load the model that made it, with its weight_dtype, or begin a new stream",
        )
