"""A classifier in the manner of scikit-learn: fit on studies or on an array, predict others."""

from mailnet.estimator.classifier import MAILClassifier

__all__ = ["MAILClassifier"]
