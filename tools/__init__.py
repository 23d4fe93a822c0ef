"""Developer tooling: environment set-up, a real ComfyUI server, the demo and the test runner.

Nothing here ships in the published archive and nothing in the pack imports it.
"""
