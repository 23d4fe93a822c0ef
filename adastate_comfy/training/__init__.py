"""Training a state adapter on a MODEL, as the node does it; begin at `trainer.py`.

`inputs` checks and names what was given, `clips` encodes it, `learner` is a copy of the MODEL with
the LoRA of `adapter` on it, `block_gradients` says what its blocks keep, `session` runs its
forwards, `memory_plan` says what all takes, and `files` is where a run is kept.
"""
