"""Signs that a network hides its gradients instead of being robust."""
