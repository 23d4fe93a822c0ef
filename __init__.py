"""AdaState: streaming video with a self-evolving anchor, as ComfyUI nodes."""

from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
