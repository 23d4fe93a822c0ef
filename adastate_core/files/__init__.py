"""Streams on disk: one file, or a folder that grows with every commit.

Start at `state_file` (one file) or `named_stream` (a folder). `serialization` and `schema` say
what a header holds and check it, `atomic` writes a file whole or not at all. The folder:
`manifest`, `stream_log`, `segments`, read by `revision`, written by `commit`. All folders together:
`stream_shelf` lists, copies and renames them, `stream_bin` deletes them, `stream_card` is what is
shown of one. Uses `stream`; the only package that imports pydantic.
"""
