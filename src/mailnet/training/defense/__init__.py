"""Training that makes a network robust: adversarial training, adversarial weights, noise."""

from mailnet.training.defense.create import create_defense
from mailnet.training.defense.lesson import Defense, Lesson, Losses
from mailnet.training.defense.validation import chosen_studies, robust_metrics

__all__ = ["Defense", "Lesson", "Losses", "chosen_studies", "create_defense", "robust_metrics"]
