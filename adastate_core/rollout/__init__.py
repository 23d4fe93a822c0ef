"""The recurrence: chunks made one after another, and the cache rebuilt where it is missing.

Start at `stream_chunks`. `replay_plan` turns the events of a stream into commits with keys,
`replay` runs those that the pool lacks, `noise` draws. Uses `stream` and `attention`; the host
hands in what denoises.
"""
