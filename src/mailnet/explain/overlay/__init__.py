"""Pictures of explained studies."""

from mailnet.explain.overlay.figure import draw_explanation, write_picture

__all__ = ["draw_explanation", "write_picture"]
