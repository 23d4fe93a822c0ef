"""What the pack costs: over bare forwards, over the length of a stream, and beside core's sampler.

Every number is a ratio within one run, because seconds of a random model on a busy machine say
nothing. `recurrence`, `core_sampler`, `families` and `states` hold one measurement each.
"""
