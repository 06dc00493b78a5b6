"""MAIL and Robust-MAIL exactly as published, for comparison with our own networks.

Source: Dhar, Haghighat, Zaidi, "Effective and Robust Multimodal Medical Image Analysis", KDD 2026, arXiv 2602.15346.
"""

from mailnet.nn.reference.arrays import load_arrays
from mailnet.nn.reference.network import MailReference, RobustMailReference

__all__ = ["MailReference", "RobustMailReference", "load_arrays"]
