"""Why a network answered so: heat maps and shares of modalities, and whether these can be believed."""

from mailnet.explain.explanation import Explanation

__all__ = ["Explanation"]
