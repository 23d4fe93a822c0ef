"""Streams on disk: one file, or a folder that grows with every commit.

Start at `state_file` (one file) or `named_stream` (a folder). `serialization` and `schema` say
what a header holds and check it, `atomic` writes a file whole or not at all. The folder:
`manifest`, `stream_log`, `segments`, read by `revision`, written by `commit`. Uses `stream`; the
only package that imports pydantic.
"""
