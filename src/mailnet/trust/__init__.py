"""How far a prediction can be believed: calibration, sets with a guarantee, uncertainty, abstention, foreign studies.

Functions on arrays alone, so that a program without torch can use them. Fitting may need scipy or scikit-learn; what
was fitted is kept as JSON (and arrays) and applied with numpy alone.
"""

from mailnet.trust.abstain import Abstention, abstain_threshold
from mailnet.trust.alarm import Alarm, fit_alarm
from mailnet.trust.calibration import Calibrator
from mailnet.trust.checks import Finding, ImageChecks, fit_image_checks, image_statistics
from mailnet.trust.conformal import fit_sets
from mailnet.trust.coverage import Coverage, measure_coverage, measure_sets
from mailnet.trust.fairness import Gap, by_rows, measure_gap
from mailnet.trust.fitting import fit_calibrator
from mailnet.trust.foreign import ForeignScore, Mahalanobis, Neighbors, fit_mahalanobis, fit_neighbors, foreign_score
from mailnet.trust.outputs import energy, max_logit, unsureness
from mailnet.trust.profile import image_profile
from mailnet.trust.selective import RiskCoverage, risk_coverage
from mailnet.trust.sets import ConformalSets
from mailnet.trust.tally import Cell
from mailnet.trust.uncertainty import Uncertainty, confidence_of, measure_uncertainty, wrong_of

__all__ = [
    "Abstention",
    "Alarm",
    "Calibrator",
    "Cell",
    "ConformalSets",
    "Coverage",
    "Finding",
    "ForeignScore",
    "Gap",
    "ImageChecks",
    "Mahalanobis",
    "Neighbors",
    "RiskCoverage",
    "Uncertainty",
    "abstain_threshold",
    "by_rows",
    "confidence_of",
    "energy",
    "fit_alarm",
    "fit_calibrator",
    "fit_image_checks",
    "fit_mahalanobis",
    "fit_neighbors",
    "fit_sets",
    "foreign_score",
    "image_profile",
    "image_statistics",
    "max_logit",
    "measure_coverage",
    "measure_gap",
    "measure_sets",
    "measure_uncertainty",
    "risk_coverage",
    "unsureness",
    "wrong_of",
]
