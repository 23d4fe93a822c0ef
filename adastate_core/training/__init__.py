"""Training an adapter on the recurrence as it streams; begin at `rollout.py`.

`plan` says what each step does, `rollout` goes through the chunks of one, `optimizer` changes the
adapter, `checkpoint` keeps all of it on disk, and `memory` counts what it takes.
"""
