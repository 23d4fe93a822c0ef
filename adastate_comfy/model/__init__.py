"""A MODEL that can be streamed: what Apply AdaState puts on it, and what it must be like.

Start at `binding`.
"""
