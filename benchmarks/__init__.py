"""What the pack costs: over bare forwards, over the length of a stream, and beside core's sampler.

Nearly every number is a ratio within one run, because seconds of a random model on a busy machine
say nothing; `speed` alone counts frames per second, which is for graphics cards. Each part is a
module with a class that has sizes and a `measure`. docs/performance.md says how to read the output.
"""
