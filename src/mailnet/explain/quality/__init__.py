"""Whether explanations are right: against the network that they explain, and against the lesion's place."""

from mailnet.explain.quality.baselines import (
    BASELINES,
    Baseline,
    baseline,
    centre_map,
    edge_map,
    intensity_map,
    random_map,
)
from mailnet.explain.quality.borders import Share, border_share, find_padding, share_in
from mailnet.explain.quality.completeness import completeness
from mailnet.explain.quality.faithfulness import Curves, insertion_deletion
from mailnet.explain.quality.masks import load_mask, phantom_masks
from mailnet.explain.quality.sanity import Randomisation, randomisation_test
from mailnet.explain.quality.similarity import rank_correlation, structural_similarity
from mailnet.explain.quality.table import FIGURES, evaluate_methods, score_maps
from mailnet.explain.quality.truth import average_precision, dilate, energy_in_mask, mask_iou, pointing_game

__all__ = [
    "BASELINES",
    "FIGURES",
    "Baseline",
    "Curves",
    "Randomisation",
    "Share",
    "average_precision",
    "baseline",
    "border_share",
    "centre_map",
    "completeness",
    "dilate",
    "edge_map",
    "energy_in_mask",
    "evaluate_methods",
    "find_padding",
    "insertion_deletion",
    "intensity_map",
    "load_mask",
    "mask_iou",
    "phantom_masks",
    "pointing_game",
    "random_map",
    "randomisation_test",
    "rank_correlation",
    "score_maps",
    "share_in",
    "structural_similarity",
]
