"""Why a network answered so: heat maps and shares of modalities, and whether these can be believed."""

from mailnet.explain.columns import column_features, typical_row
from mailnet.explain.explaining import explain
from mailnet.explain.explanation import Explanation
from mailnet.explain.registry import default_options, get_explainer, list_explainers, register_explainer
from mailnet.explain.shapley import Contributions, column_shares, modality_shares

__all__ = [
    "Contributions",
    "Explanation",
    "column_features",
    "column_shares",
    "default_options",
    "explain",
    "get_explainer",
    "list_explainers",
    "modality_shares",
    "register_explainer",
    "typical_row",
]
