"""The stream as a value: what happened, and what it leaves.

Start at `state`: the value that nodes pass on. `events` lists what can happen, `event_log` keeps it
with digests, `context` says which latents it leaves in slot 0 and the window, `conditioning` holds
prompts as values, `timeline` reads them from text, `summary` tells it all as JSON. Knows `anchors`
for their commit plans; no attention, no file.
"""
