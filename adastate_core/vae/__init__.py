"""Decode and encode a video part by part, so that the parts join.

Start at `registry`, which picks what serves a VAE of the host. Causal VAEs keep
features from part to part (`wan`, `taehv`), and parts are equal to the whole. Others decode the end
of the earlier parts again (`overlap`); how well that joins is measured. Those that look ahead hold
latents back until what follows is known (`minimax_h3`, `sound`). Knows no stream.
"""
