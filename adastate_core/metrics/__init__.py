"""How lively a video is, how far it drifts and where it jumps.

Start at `measures`; `chart` draws them. Works on frames alone.
"""
