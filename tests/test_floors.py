"""A room imports only from floors below its own, and ``import mailnet`` costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "mailnet"
BASE = ("specs", "errors", "files", "folders", "locks", "registry")
FLOORS = {
    "base": 0,
    "nn": 1,
    "data": 1,
    "metrics": 1,
    "trust": 1,
    "attacks": 2,
    "bundle": 2,
    "training": 3,
    "evaluation": 3,
    "explain": 3,
    "report": 4,
    "robustness": 4,
    "deploy": 4,
    "benchmark": 5,
    "cli": 6,
    "estimator": 6,
    "__init__": 7,
    "__main__": 7,
}
HEAVY = ("torch", "pandas", "numpy", "sklearn", "monai", "matplotlib", "pydantic", "accelerate", "pydicom", "nibabel")


def imports(path: Path) -> set[str]:
    """Every mailnet module that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("mailnet")}


def room(parts: Sequence[str]) -> str:
    """The room of a path below ``mailnet``: its first part, the base files being one room."""
    return "base" if parts and parts[0] in BASE else parts[0] if parts and parts[0] in FLOORS else "__init__"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down(path: Path) -> None:
    first = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    assert first in (*FLOORS, *BASE), f"{first} has no floor: give it one here and in docs/architecture.md"
    own = room([first])
    for name in imports(path):
        other = room(name.split(".")[1:])
        if name in ("mailnet", "mailnet.__version__", "mailnet.nn.batch", "mailnet.nn.batch.Batch"):
            continue  # the version number and what travels between rooms are nobody's room
        assert other == own or FLOORS[other] < FLOORS[own], f"{own} imports {name}, which is not below it"


def test_only_one_file_of_the_data_room_uses_torch() -> None:
    users = {path.name for path in (SOURCE / "data").rglob("*.py") if "import torch" in path.read_text("utf-8")}
    assert users <= {"dataset.py"}


@pytest.mark.parametrize("code", ["import mailnet", "from mailnet.cli import main"])
def test_import_loads_nothing_heavy(code: str) -> None:
    program = f"{code}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_resolves() -> None:
    import mailnet

    for name in mailnet.__all__:
        assert getattr(mailnet, name) is not None
