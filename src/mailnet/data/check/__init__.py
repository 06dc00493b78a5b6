"""Everything that is wrong with a study, found in one pass: what stops training, what leaks, what to know."""

from mailnet.data.check.findings import CheckReport, Finding
from mailnet.data.check.study import check_study

__all__ = ["CheckReport", "Finding", "check_study"]
