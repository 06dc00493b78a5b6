"""Folders that are made at once under one name do not come into each other's way."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailnet.deploy.export.folder import publish
from mailnet.deploy.layout import FACTS
from mailnet.deploy.workshop import take_place, workshop
from mailnet.errors import RunError
from mailnet.files import read_json


def made_in(folder: Path, text: str) -> Path:
    """A folder with one file, as an export makes it in its workshop."""
    made = folder / "fp32"
    made.mkdir()
    (made / "model.onnx").write_text(text)
    return made


def test_two_at_once_have_each_a_workshop(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model"
    with workshop(target) as first:
        one = made_in(first, "first")
        with workshop(target) as second:
            assert first != second
            other = made_in(second, "second")
            publish(other, tmp_path, target, {"of": "second"})
        assert (one / "model.onnx").read_text() == "first"  # what ends takes nothing of the other
        assert {path.parent for path in (first, second)} == {target.parent}
        publish(one, tmp_path, target, {"of": "first"})
    assert (target / "model.onnx").read_text() == "first"
    assert read_json(target / FACTS) == {"of": "first"}
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with workshop(tmp_path / "model") as made:
            made_in(made, "half")
            raise RunError("the graph does not answer as the run does")

    with pytest.raises(RunError, match="does not answer"):
        fail()
    assert not [*tmp_path.iterdir()]


def test_a_place_where_nothing_can_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"), workshop(tmp_path / "file" / "model"):
        pytest.fail("there is no such folder")


@pytest.mark.parametrize("moved", ["before it is moved aside", "before the new one is there"])
def test_of_two_that_take_a_place_at_once_the_later_stays(
    moved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename, others = tmp_path / "model", Path.rename, []
    with workshop(target) as first, workshop(target) as second:
        mine, other = made_in(first, "mine"), made_in(second, "other")
        (target / "deep").mkdir(parents=True)

        def overtaken(path: Path, to: Path) -> Path:
            if not others and path == (target if moved == "before it is moved aside" else mine):
                others.append(to)
                take_place(other, target)
                if moved == "before it is moved aside":  # and at once somebody moves that one away
                    rename(target, second / "gone")
            return rename(path, to)

        monkeypatch.setattr(Path, "rename", overtaken)
        take_place(mine, target)
    assert len(others) == 1
    assert [path.name for path in target.iterdir()] == ["model.onnx"]
    assert (target / "model.onnx").read_text() == "mine"
