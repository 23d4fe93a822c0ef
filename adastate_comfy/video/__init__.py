"""From latents to images, from images to files, and back.

Start at `stream_render` (a video file that grows with its stream) or `decoders` (images of a
stream). `render_job` decodes and writes chunk by chunk, `video_file` owns the encoder, `mp4_index`
makes an ordinary MP4 of it at the end. `clip_reader` and `clip_encoder` go the other way. Uses
`sampling` and `model`; nothing below imports it.
"""
