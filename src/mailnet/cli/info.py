"""``mailnet info``: what an installation, a run, a bundle or a study is."""

from __future__ import annotations

import platform
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mailnet.cli.output import print_table
from mailnet.errors import RunError
from mailnet.files import read_json

LIBRARIES = (
    "torch", "accelerate", "numpy", "pandas", "scikit-learn", "pillow", "pydicom", "safetensors", "onnxruntime", "onnx",
    "fastapi", "highdicom", "optuna", "monai",
)  # fmt: skip


def describe(path: Path | None) -> dict[str, Any]:
    """Return a description that JSON can hold; without torch it lacks what only a network itself can tell.

    Raises:
        RunError: The path is none of a run, a bundle and a study.yaml.
    """
    from mailnet.bundle import find_bundle

    if path is None:
        return _installation()
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        return _study(path)
    for bundle in (path / "bundle", path):
        if (bundle / "config.json").is_file():
            return _bundle(path, bundle)
    if (path / "study.yaml").is_file():
        return {"run": f"{path}, training has not finished"} | _study(path / "study.yaml")
    if path.is_dir():
        find_bundle(path)  # says what there is in place of one
    raise RunError("is neither a run, a bundle nor a study.yaml", file=path, remedy="Give the folder of a run")


def print_description(description: dict[str, Any]) -> None:
    """Print a description for people."""
    for key, value in description.items():
        if value is None:
            continue
        if isinstance(value, dict) and value:
            print_table(key, ["", ""], [[str(k), _text(v)] for k, v in value.items()])
        else:
            print(f"{key}: {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_text(v)}" for k, v in value.items() if v is not None)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _installation() -> dict[str, Any]:
    from mailnet import __version__
    from mailnet.data.cache import cache_folder, list_cache

    description: dict[str, Any] = {"mailnet": __version__, "python": platform.python_version()}
    if _has_torch():
        import torch

        from mailnet.nn import list_models

        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        description |= {"device": device, "threads": torch.get_num_threads(), "models": list_models()}
    else:
        description["models"] = "exported ones alone, since torch is not installed: pip install 'mailnet[train]'"
    description["cache"] = {"folder": str(cache_folder()), "bytes": sum(entry.size for entry in list_cache())}
    description["libraries"] = {name: found for name in LIBRARIES if (found := _version(name))}
    return description


def _has_torch() -> bool:
    return find_spec("torch") is not None


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _study(path: Path) -> dict[str, Any]:
    from mailnet.data.config import load_config

    config = load_config(path)
    return {
        "study": config.name,
        "regime": config.regime,
        "modalities": {name: modality.kind for name, modality in config.modalities.items()},
        "tasks": {name: {"kind": t.kind, "classes": list(t.class_values)} for name, t in config.tasks.items()},
        "model": config.model.name,
        "defense": None if config.train.defense is None else config.train.defense.model_dump(exclude_none=True),
    }


def _bundle(path: Path, bundle: Path) -> dict[str, Any]:
    from mailnet.bundle import read_facts
    from mailnet.data.config import PixelConfig
    from mailnet.data.wording import input_in_words, values_in_words
    from mailnet.deploy.layout import FACTS
    from mailnet.specs import to_dict

    facts = read_facts(bundle)
    words = {
        name: {"takes": input_in_words(section), "values": values_in_words(section)}
        for name, section in facts.preprocessing.items()
        if isinstance(section, PixelConfig)
    }
    exported = (bundle / FACTS).is_file()
    description: dict[str, Any] = {
        "exported" if exported else "bundle": str(bundle),
        "model": read_json(bundle / "config.json")["model"],
        **(_export(read_json(bundle / FACTS)) if exported else _counts(bundle)),
        "modalities": {name: to_dict(spec) | words.get(name, {}) for name, spec in facts.modalities.items()},
        "tasks": {name: {"kind": s.kind, "classes": list(s.classes)} for name, s in facts.tasks.items()},
    }
    if bundle != path:
        if (path / "run.json").is_file():
            description["defense"] = read_json(path / "run.json").get("defense")
        files = ("evaluation.json", "predictions.parquet", "report.html", "metrics.jsonl")
        description["files"] = [name for name in files if (path / name).is_file()]
    return description


def _export(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        key: facts[key] for key in ("runtime", "kind", "noise", "absence", "file", "bytes", "sha256") if key in facts
    }


def _counts(bundle: Path) -> dict[str, Any]:
    """Return what only the network itself can tell: nothing where there is no torch."""
    if not _has_torch():
        return {}
    from mailnet.bundle import load
    from mailnet.nn.counts import count_operations, count_parameters

    model = load(bundle, device="cpu").model
    return {"parameters": count_parameters(model).trainable, "macs": count_operations(model).macs}
