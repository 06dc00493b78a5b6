"""The model card of a bundle, ``README.md``: Markdown with metadata in the format of the Hugging Face Hub.

Training writes it; evaluating or reporting a run on its own test studies writes it anew, with what has been measured.
"""

from mailnet.bundle.card.facts import CARD, CONFIG, Facts, gather
from mailnet.bundle.card.writing import model_card, write_card

__all__ = ["CARD", "CONFIG", "Facts", "gather", "model_card", "write_card"]
