"""The steps of a stream, by ComfyUI's own samplers.

Start at `stream_run`: it checks the inputs of a step, plans its memory and runs it. `session` is
one sampling session, `expert_pair` two models that share a schedule.
"""
