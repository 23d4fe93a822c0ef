"""Training a state adapter on a MODEL, as the node does it; begin at `trainer.py`.

`inputs` checks and names what was given, `clips` encodes it, `adapter` puts a LoRA on a copy of the
MODEL, `session` runs its forwards, `checkpointing` saves their memory, `memory_plan` says what all
takes, and `files` is where a run is kept.
"""
