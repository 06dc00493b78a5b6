"""What is known of weaknesses in the pinned packages, as a report: ``audit.py PIP-AUDIT CONSTRAINTS REPORT``.

It says plainly what could not be looked up, since no finding is then no good news, and it never fails a build.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SECONDS = 300


def ask(program: str, constraints: str) -> tuple[dict[str, Any] | None, str]:
    """Return what pip-audit finds, or None and why it finds nothing."""
    # The pins as they are written: nothing is resolved or installed.
    command = [program, "--requirement", constraints, "--no-deps", "--disable-pip", "--format", "json"]
    try:
        done = subprocess.run(
            [*command, "--progress-spinner", "off"], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        return json.loads(done.stdout), ""
    except FileNotFoundError:
        return None, "pip-audit could not be installed"
    except subprocess.TimeoutExpired:
        return None, f"no answer within {SECONDS} seconds"
    except ValueError:
        return None, (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]


def describe(found: dict[str, Any] | None, why: str) -> str:
    """Return the report.

    Args:
        found: What pip-audit wrote; None where it wrote nothing.
        why: The reason, then.
    """
    packages = [] if found is None else found["dependencies"]
    asked = [package for package in packages if "skip_reason" not in package]
    if not asked:
        reason = why or f"the database of advisories knows none of {len(packages)} packages here"
        return f"NOT AUDITED: {reason}. This says nothing about the packages.\n"
    weak = [(package, one) for package in asked for one in package["vulns"]]
    lines = [f"{len(asked)} of {len(packages)} pinned packages looked up, {len(weak)} known weaknesses."]
    for package, one in weak:
        mended = ", ".join(one["fix_versions"]) or "no version yet"
        names = " ".join([one["id"], *one.get("aliases", [])])
        lines.append(f"  {package['name']} {package['version']}: {names}; mended in {mended}")
    missing = sorted(package["name"] for package in packages if "skip_reason" in package)
    if missing:
        lines.append(f"Not looked up: {', '.join(missing)}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write and print the report."""
    program, constraints, report = sys.argv[1:]
    text = describe(*ask(program, constraints))
    Path(report).parent.mkdir(parents=True, exist_ok=True)
    Path(report).write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
