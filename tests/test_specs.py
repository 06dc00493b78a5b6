from __future__ import annotations

import json

import pytest

from mailnet.specs import ModalitySpec, TaskSpec, from_dict, modality_specs, task_specs, to_dict

SPECS = [
    ModalitySpec("ct"),
    ModalitySpec("mri", channels=3, size=(64, 96), mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0)),
    ModalitySpec("pet", "volume", size=(8, 64, 64)),
    ModalitySpec("labs", "tabular", channels=12),
    TaskSpec("tumour", ("no", "yes"), "binary"),
    TaskSpec("grade", ("1", "2", "3"), "ordinal"),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_specs_survive_json(spec: ModalitySpec | TaskSpec) -> None:
    assert from_dict(type(spec), json.loads(json.dumps(to_dict(spec)))) == spec


def test_unknown_field_is_named() -> None:
    with pytest.raises(ValueError, match="colour"):
        from_dict(ModalitySpec, {"name": "ct", "colour": 1})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "sound"}, "sound"),
        ({"channels": 0}, "channels"),
        ({"size": (8, 8, 8)}, "size"),
        ({"kind": "tabular", "size": (8,)}, "size"),
        ({"channels": 3, "mean": (0.5,)}, "mean"),
    ],
)
def test_bad_modalities(values: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ModalitySpec("ct", **values)


@pytest.mark.parametrize(
    ("classes", "kind"),
    [(("a",), "multiclass"), (("a", "b", "c"), "binary"), (("a", "b"), "ordinal"), (("a", "a"), "multiclass")],
)
def test_bad_tasks(classes: tuple[str, ...], kind: str) -> None:
    with pytest.raises(ValueError, match="task 'tumour'"):
        TaskSpec("tumour", classes, kind)  # type: ignore[arg-type]


def test_outputs() -> None:
    assert TaskSpec("t", ("a", "b"), "binary").outputs == 2
    assert TaskSpec("t", ("a", "b", "c"), "ordinal").outputs == 2
    assert TaskSpec("t", ("a",), "multilabel").outputs == 1


def test_short_forms_keep_the_order() -> None:
    assert list(modality_specs({"b": 1, "a": ModalitySpec("a", channels=3)})) == ["b", "a"]
    assert task_specs({"t": 2})["t"].classes == ("0", "1")
    with pytest.raises(ValueError, match="differ"):
        modality_specs({"a": ModalitySpec("b")})
    with pytest.raises(TypeError, match="expected"):
        task_specs({"t": "two"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="at least one"):
        task_specs({})
