"""The wheel holds the whole package, and runs far from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mailnet import __version__

ROOT = Path(__file__).resolve().parent.parent
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy, as a build leaves its files among the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src/mailnet", folder / "src/mailnet", ignore=shutil.ignore_patterns("__pycache__"))
    build = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder / "dist"), str(folder)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "dist").iterdir()
    return path


@pytest.fixture(scope="module")
def place(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that it is installed into."""
    folder = tmp_path_factory.mktemp("installed")
    # Once: what pip keeps of a wheel of this name and version may be another build.
    install = [*PIP, "install", "--no-deps", "--no-cache-dir", "--no-compile", "--target", str(folder), str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def python(place: Path, where: Path, *arguments: str) -> str:
    """Run Python in a folder, with the installed package alone before the others."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAILNET")}
    environment |= {"PYTHONPATH": str(place), "MAILNET_CACHE": str(where / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    about = {name for name in names if ".dist-info/" in name}
    sources = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src/mailnet").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names - about == sources
    assert {name.rpartition("/")[2] for name in about} == {
        "LICENSE", "METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt",
    }  # fmt: skip


def test_the_demo_runs_elsewhere(place: Path, tmp_path: Path) -> None:
    found = python(place, tmp_path, "-c", "import mailnet; print(mailnet.__file__)").strip()
    assert found == str(place / "mailnet/__init__.py")
    small = ("--studies", "60", "--set", "train.epochs=1", "--set", "evaluation.bootstrap=20")
    said = python(place, tmp_path, "-m", "mailnet", "demo", "--out", "demo", *small)
    assert "Report: demo/run/report.html" in said
    assert "<style>" in (tmp_path / "demo/run/report.html").read_text(encoding="utf-8")
    # Nothing was written elsewhere, and nothing into the package.
    assert {path.name for path in tmp_path.iterdir()} == {"demo", "cache"}


def test_its_data_and_its_command_are_there(place: Path, tmp_path: Path) -> None:
    assert python(place, tmp_path, str(place / "bin/mailnet"), "--version").strip() == __version__
    assert "ham10000" in python(place, tmp_path, "-m", "mailnet", "data", "list")
