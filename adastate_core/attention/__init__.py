"""The self-attention of one chunk over the KV cache.

Start at `chunk_attention`: one chunk's attention over the cache. `kv_cache` has the cache of one
stream and the pool of them, `kv_format` the form in which tensors are kept, `rope` the rotations,
`geometry` what must be known about a model, `kernel_choice` which kernel computes a call. Knows
`config`, `layout` and `anchors`; no stream and no host.
"""
