"""Robustness measured: attacks and their audit, natural damage, certificates."""

from mailnet.robustness.attack.measure import measure_robustness
from mailnet.robustness.attack.run_suite import run_suite
from mailnet.robustness.attack.suites import get_suite
from mailnet.robustness.audit.audit import run_audit
from mailnet.robustness.certificate.certify import certify_run
from mailnet.robustness.damage.measure import measure_damage

__all__ = ["certify_run", "get_suite", "measure_damage", "measure_robustness", "run_audit", "run_suite"]
