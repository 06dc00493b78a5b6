"""DICOM in and out: results of a study as Structured Report and images, a folder watcher, a C-STORE receiver."""

from mailnet.deploy.dicom.facts import ModelFacts, facts_of
from mailnet.deploy.dicom.results import Results, Wanted, dicom_results, results_of

__all__ = ["ModelFacts", "Results", "Wanted", "dicom_results", "facts_of", "results_of"]
