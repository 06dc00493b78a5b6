"""A package that is missing is named together with the extra that installs it."""

from __future__ import annotations

import json

import pytest

from mailnet.cli.output import report_error


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("torch.nn", "train"),
        ("sklearn", "train"),
        ("markupsafe", "train"),
        ("onnxruntime", "runtime"),
        ("fastapi", "serve"),
        ("monai", "peers"),
        ("tensorboard", "tensorboard"),
        ("huggingface_hub.errors", "hub"),
        ("mlflow.entities", "mlflow"),
    ],
)
def test_a_missing_package_says_which_extra_has_it(module: str, extra: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = ModuleNotFoundError(f"No module named '{module}'", name=module)
    assert report_error(error, as_json=True, debug=False) == 2
    found = capsys.readouterr()
    assert f"pip install 'mailnet[{extra}]'" in found.err
    assert json.loads(found.out)["error"]["type"] == "MailnetError"


def test_a_module_of_nobody_is_a_fault_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    error = ModuleNotFoundError("No module named 'mailnet.nowhere'", name="mailnet.nowhere")
    assert report_error(error, as_json=False, debug=False) == 1
    assert "fault of mailnet" in capsys.readouterr().err
