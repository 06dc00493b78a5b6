"""The report on weaknesses of pinned packages says what it does not know."""

from __future__ import annotations

import importlib.util
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / ".ci/audit.py"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_weakness_is_named_with_what_mends_it(audit: ModuleType) -> None:
    weak = {"id": "PYSEC-1", "aliases": ["CVE-2"], "fix_versions": ["1.1"], "description": "long"}
    found = [
        {"name": "a", "version": "1.0", "vulns": [weak]},
        {"name": "b", "version": "2.0", "vulns": []},
        {"name": "c", "skip_reason": "not found"},
    ]
    assert audit.describe({"dependencies": found}, "").splitlines() == [
        "2 of 3 pinned packages looked up, 1 known weaknesses.",
        "  a 1.0: PYSEC-1 CVE-2; mended in 1.1",
        "Not looked up: c",
    ]


def test_what_nobody_could_look_up_is_no_good_news(audit: ModuleType) -> None:
    found = {"dependencies": [{"name": "a", "skip_reason": "not found"}]}
    assert audit.describe(found, "").startswith("NOT AUDITED: the database of advisories knows none of 1 packages")


@pytest.mark.parametrize(
    ("program", "words"),
    [("exit 3", "said nothing"), ("echo no connection >&2; exit 1", "no connection"), (None, "could not be installed")],
)
def test_a_failure_is_a_report(program: str | None, words: str, tmp_path: Path) -> None:
    fake = tmp_path / "pip-audit"
    if program is not None:
        fake.write_text(f"#!/bin/sh\n{program}\n", encoding="utf-8")
        fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    report = tmp_path / "build/audit.txt"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(fake), "constraints.txt", str(report)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, report.read_text(encoding="utf-8"))
    assert done.stdout.startswith("NOT AUDITED")
    assert words in done.stdout
