"""A MODEL that can be streamed: what Apply AdaState puts on it, and what it must be like.

Start at `binding`: what is attached. `wrappers` and `attention_override` act in every forward of a
run, `torch_compile` does so for compiled models; `attention_kernels` lists what may compute the
attention. `kv_pool_patcher` stands for the KV caches in ComfyUI's memory management. `fingerprint`
and `option_key` identify what is loaded, `layout_check` and `rehearsal` find out before the first
step what cannot be streamed.
"""
