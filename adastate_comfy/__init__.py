"""Everything that knows ComfyUI and is no node.

`model` puts the recurrence on a MODEL, `sampling` prepares and runs the steps of a stream, `video`
reads and writes images and files, `sockets` translates LATENT and CONDITIONING, `panel` and
`routes` tell the page. Imports `adastate_core`, never `nodes`. Start at `sampling/stream_run.py`: a
chunk begins there.
"""
