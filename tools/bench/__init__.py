"""What the pack costs: over bare forwards, over the length of a stream, and beside core's sampler.

Nearly every number is a ratio within one run, because seconds of a random model on a busy machine
say nothing. Each part is a module with `measure`, `rows` (measures with their targets) and `notes`;
`speed` alone counts frames per second, which is for graphics cards.
"""
