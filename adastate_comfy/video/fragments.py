"""Parts of a video as fragments of an MP4, each muxed alone and in memory."""

from __future__ import annotations

import io
from collections.abc import Sequence

import av

from .mp4_boxes import boxes, with_edit_list
from .sound_track import PIECE, Piece, SoundTrack

_MUXING = {
    "movflags": "empty_moov+frag_custom+default_base_moof+frag_discont+use_metadata_tags",
    # Without these a fragment that is muxed alone would begin at time 0.
    "use_editlist": "0",
    "avoid_negative_ts": "make_non_negative",
}
_SOUND = 1
"""The track of the sound, counted from 0."""


class Fragments:
    """A muxer of the parts of one file.

    Args:
        pictures: The stream of an encoder, which describes the pictures.
        sound: The sound, if there is any.
        metadata: Texts to put into the header.
    """

    def __init__(
        self, pictures: av.VideoStream, sound: SoundTrack | None, metadata: dict[str, str]
    ) -> None:
        self._pictures, self._sound, self._metadata = pictures, sound, metadata
        self._count = 0

    def mux(self, packets: Sequence[av.Packet], pieces: Sequence[Piece]) -> tuple[bytes, bytes]:
        """Mux the next part, in which there is something.

        Args:
            packets: Its pictures.
            pieces: Its sound.

        Returns:
            What comes before the first fragment of a file, and the fragment.
        """
        self._count += 1
        target = io.BytesIO()
        options = {**_MUXING, "fragment_index": str(self._count)}
        if self._sound is not None:
            # How much of the sound is played is said in ticks of the movie: let them be samples.
            options["movie_timescale"] = str(self._sound.form.rate)
        with av.open(target, "w", format="mp4", options=options) as container:
            container.metadata.update(self._metadata)
            stream = container.add_stream_from_template(self._pictures)
            if self._sound is not None:
                heard = container.add_stream_from_template(self._sound.stream)
            for packet in packets:
                packet.stream = stream
                container.mux(packet)
            for piece in pieces:
                packet = av.Packet(piece.data)
                packet.pts = packet.dts = piece.begin
                packet.duration, packet.is_keyframe = piece.length, True
                packet.time_base = heard.codec_context.time_base
                packet.stream = heard
                container.mux(packet)
        data = target.getvalue()
        found = list(boxes(data))
        begin = next(start for kind, start, _ in found if kind == b"moof")
        end = max(end for kind, _, end in found if kind == b"mdat")
        return self._head(data[:begin]), data[begin:end]

    def _head(self, head: bytes) -> bytes:
        """Have the sound begin after the piece that nobody plays."""
        if self._sound is None:
            return head
        return b"".join(
            with_edit_list(head[start:end], _SOUND, PIECE) if kind == b"moov" else head[start:end]
            for kind, start, end in boxes(head)
        )
