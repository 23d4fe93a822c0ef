"""From latents to images, from images to files, and back.

Start at `decoders` (images of a stream) or `render_job` (a file that grows with it).
"""
