"""Every command that a page names exists, with its options, its files and its keys of a study."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from documented import PAGES, ROOT, Piece, commands, fenced, mentions
from typer.main import get_command

from mailnet.benchmark.suite import Suite
from mailnet.cli.app import app
from mailnet.data.config import ImageConfig, TabularConfig, load_config, parse_config
from mailnet.data.phantom import write_phantom
from mailnet.deploy.dicom.rules import rules_for

COMMANDS = [piece for page in PAGES for piece in commands(page)]
MENTIONS = [piece for page in PAGES for piece in mentions(page)]
MAILNET = get_command(app)


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """Return a command of mailnet and the words after its name."""
    command, rest = MAILNET, words[1:]
    while hasattr(command, "commands"):
        assert rest, f"{words} names no command"
        assert rest[0] in command.commands, f"there is no command {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


@pytest.mark.parametrize("piece", [p for p in COMMANDS if p.words[0] == "mailnet"], ids=str)
def test_a_command_can_be_given_as_it_stands(piece: Piece, study: Path) -> None:
    command, words = resolve(piece.words)
    given = command.make_context("mailnet", list(words)).params
    for word in words:
        if word.startswith(("examples/", "benchmarks/suites/", "benchmarks/studies/")) and "STUDY" not in word:
            assert (ROOT / word).is_file(), f"there is no {word}"
    load_config(study, given.get("overrides") or ())


@pytest.mark.parametrize("piece", MENTIONS, ids=str)
def test_a_command_that_is_mentioned_has_these_options(piece: Piece) -> None:
    if piece.words[1].startswith("-"):
        assert piece.words[1] in {name for option in MAILNET.params for name in option.opts}
        return
    if piece.words[1].isupper():  # any command
        return
    command, words = resolve(piece.words)
    context = command.context_class(command, info_name="mailnet")
    # A value that is left out at the end is no fault: `mailnet corrupt RUN --reference`.
    known = {name: option for option in command.params for name in option.opts}
    if words and words[-1] in known and not getattr(known[words[-1]], "is_flag", True):
        words = [*words, "1"]
    command.make_parser(context).parse_args(list(words))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("phantom"), 30, size=32)


def test_programs_targets_and_extras_are_there() -> None:
    section = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]")[2]
    known = set(re.findall(r"^(\w+) = \[", section.partition("\n[")[0], re.MULTILINE))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    found = {"python": 0, "make": 0, "pip": 0}
    for piece in COMMANDS:
        tool, *words = piece.words
        found[tool] = found.get(tool, 0) + 1
        if tool == "python":
            assert (ROOT / words[0]).is_file(), f"{piece}: there is no {words[0]}"
        if tool == "make":
            assert set(words) <= targets, f"{piece}: there is no target {words}"
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for extras in re.findall(r"(?:mailnet|'\.)\[([\w,-]+)\]", text):
            assert set(extras.split(",")) <= known, f"{page}: {extras}"
    assert all(found.values())


def check_yaml(values: dict[str, Any], study: dict[str, Any], folder: Path) -> None:
    """Read YAML of a page as mailnet would: a study, a part of one, a suite or rules for DICOM."""
    if "networks" in values:
        Suite.model_validate(values)
    elif "columns" in values:
        path = folder / "rules.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        read = {name: ImageConfig() for name in values["modalities"]}
        rules_for({**read, "table": TabularConfig(kind="tabular", numeric=list(values["columns"]))}, file=path)
    elif "tasks" in values:
        parse_config(values)
    else:
        assert values.keys() == {"modalities"}
        parse_config(study | values)


@pytest.mark.parametrize("piece", [piece for page in PAGES for piece in fenced(page, "yaml")], ids=str)
def test_yaml_is_read(piece: Piece, study: Path, tmp_path: Path) -> None:
    check_yaml(yaml.safe_load(piece.text), yaml.safe_load(study.read_text(encoding="utf-8")), tmp_path)
