"""A head phantom: paired MRI, CT and SPECT-like images whose classes no modality can tell apart alone."""

from mailnet.data.phantom.classes import APPEARANCE, CLASSES, MODALITIES, accuracy_bound, single_modality_bound
from mailnet.data.phantom.generate import PhantomStudies, generate
from mailnet.data.phantom.study import write_phantom

__all__ = [
    "APPEARANCE",
    "CLASSES",
    "MODALITIES",
    "PhantomStudies",
    "accuracy_bound",
    "generate",
    "single_modality_bound",
    "write_phantom",
]
