"""Models to and from the Hugging Face Hub: the files of a bundle or an export and nothing else, only when asked.

No study, prediction or picture is ever sent: what travels is named here, one by one. What comes is data: safetensors,
ONNX, JSON and the model card.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailnet.bundle import StudyPredictor, find_bundle, read_facts
from mailnet.bundle.card import CONFIG
from mailnet.bundle.files import FILES
from mailnet.bundle.weights import WEIGHTS
from mailnet.deploy.layout import FACTS
from mailnet.deploy.runtime import load
from mailnet.errors import ConfigError, RunError
from mailnet.folders import take_place, workshop

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationCopy, HfApi

GRAPH = "model.onnx"
ALLOWED = (*FILES, FACTS, GRAPH)
TEXT_BYTES, MODEL_BYTES = 2**26, 2**33  # largest file of text, and of weights
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Parcel:
    """What is sent, or was received.

    Args:
        repository: ``ORG/NAME`` on the Hub.
        files: Name -> bytes.
        revision: Branch, tag or commit.
    """

    repository: str
    files: dict[str, int]
    revision: str

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"repository": self.repository, "revision": self.revision, "files": self.files}


def from_pretrained(folder: str | Path, device: str = "auto") -> StudyPredictor:
    """Load a model from a folder laid out as on the Hub, ``config.json`` beside the weights; nothing is downloaded.

    Args:
        folder: A bundle, a run, or an exported folder.
        device: As ``mailnet.load`` takes it.

    Raises:
        RunError: There is no such folder, or no model that can be read in it.
    """
    if not Path(folder).is_dir() and _NAME.fullmatch(str(folder)):
        remedy = f"Fetch it first: mailnet pull {folder} --out FOLDER"
        raise RunError("is no folder here, and nothing is downloaded unasked", file=folder, remedy=remedy)
    return load(folder, device)


def plan_push(model: str | Path, repository: str, revision: str = "main") -> tuple[Path, Parcel]:
    """Return the folder and what of it would be sent, having read it; nothing is sent.

    Args:
        model: A run, whose bundle it is, a bundle, or an export in ONNX.
        repository: ``ORG/NAME``.
        revision: Branch.

    Raises:
        ConfigError: That is no name of a repository.
        RunError: There is no whole model.
    """
    _check_name(repository)
    path = Path(model)
    exported = (path / FACTS).is_file()
    folder = path if exported else find_bundle(path)
    wanted = ALLOWED if exported else FILES
    files = {name: folder / name for name in wanted if (folder / name).is_file()}
    if links := [file for file in files.values() if file.is_symlink()]:
        raise RunError("is a link, which may lead to anything", file=links[0], remedy="Put the file itself there")
    _check_parts(str(folder), files)
    read_facts(folder)
    return folder, Parcel(repository, {name: file.stat().st_size for name, file in files.items()}, revision)


def push(folder: Path, parcel: Parcel, *, private: bool, token: str | None = None) -> tuple[str, bool]:
    """Send what ``plan_push`` said, as one commit.

    What a former model left there, and this one has not, such as a calibration of other weights, goes with it.

    Args:
        folder: Of ``plan_push``.
        parcel: Likewise.
        private: Make the repository private where there is none yet; one that is public is refused.
        token: Of the Hub; default the one that its library finds, in ``HF_TOKEN`` or stored by ``hf auth login``.

    Returns:
        The address of the commit, and whether the repository is private, as one that was there already may be.

    Raises:
        RunError: The Hub refused, cannot be reached, or would show to all what is to be private.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = _api(token)
    with _explained(parcel.repository):
        api.create_repo(parcel.repository, private=private, exist_ok=True)
        public = not api.model_info(parcel.repository).private
    if private and public:
        remedy = "Choose another name, or make it private on the Hub first"
        raise RunError(f"{parcel.repository} is there already and public; nothing was sent", remedy=remedy)
    with _explained(parcel.repository):
        if parcel.revision != "main":
            api.create_branch(parcel.repository, branch=parcel.revision, exist_ok=True)
        there = {file.rfilename for file in api.model_info(parcel.repository, revision=parcel.revision).siblings or []}
        stale = [name for name in ALLOWED if name in there and name not in parcel.files]
        operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in parcel.files
        ]
        operations += [CommitOperationDelete(path_in_repo=name) for name in stale]
        commit = api.create_commit(
            parcel.repository, operations, commit_message="mailnet push", revision=parcel.revision
        )
    return str(commit.commit_url), not public


def pull(
    repository: str, out: str | Path, revision: str = "main", *, token: str | None = None
) -> tuple[Parcel, list[str]]:
    """Fetch a model into a folder, which appears once the model in it could be loaded.

    Args:
        repository: ``ORG/NAME``.
        out: A folder that does not exist, or is empty.
        revision: Branch, tag or commit; all files are of the one commit that it names now.
        token: Of the Hub; default the one that its library finds, in ``HF_TOKEN`` or stored by ``hf auth login``.

    Returns:
        What was fetched, its revision the commit, and the names of files of the repository that were left there.

    Raises:
        ConfigError: That is no name of a repository, or the folder holds something.
        RunError: The Hub refused or cannot be reached, or what it has is no model, too large, or not what it announced.
    """
    _check_name(repository)
    target = Path(out).resolve()  # "." has no name beside which to work
    _refuse_filled(target)
    api = _api(token)
    with _explained(repository):
        info = api.model_info(repository, revision=revision, files_metadata=True)
    known = {file.rfilename: file for file in info.siblings or []}
    wanted = {name: known[name] for name in ALLOWED if name in known}
    _check_parts(repository, wanted)
    for name, file in wanted.items():
        _check_size(repository, name, file.size)
    with workshop(target) as staging:
        made = staging / "model"
        made.mkdir()
        for name, file in wanted.items():
            with _explained(repository):
                fetched = api.hf_hub_download(repository, name, revision=info.sha, local_dir=staging / "fetched")
            _check_content(repository, Path(fetched), file)
            shutil.move(fetched, made / name)
        load(made, "cpu")
        _refuse_filled(target)  # another may have filled it meanwhile
        take_place(made, target)
    parcel = Parcel(repository, {name: file.size or 0 for name, file in wanted.items()}, str(info.sha))
    return parcel, sorted(set(known) - set(wanted))


def _api(token: str | None) -> HfApi:
    import huggingface_hub

    import mailnet

    return huggingface_hub.HfApi(token=token, library_name="mailnet", library_version=mailnet.__version__)


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the library's errors, those of its client and of the system have no common base
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            f"{repository}: the Hub did not do it ({type(error).__name__}: {reason})",
            remedy="Look at the name and the network, log in with 'hf auth login' or give --token-file",
        ) from error


def _check_name(repository: str) -> None:
    if not _NAME.fullmatch(repository):
        raise ConfigError(f"'{repository}' is no repository of the Hub", remedy="Give ORG/NAME")


def _refuse_filled(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("holds something already", file=folder, remedy="Choose another folder with --out")


def _check_parts(place: str, names: Collection[str]) -> None:
    """Refuse what is no whole model: a description, and weights or a graph with its facts."""
    if CONFIG not in names or not (WEIGHTS in names or {FACTS, GRAPH} <= set(names)):
        remedy = f"A model is {CONFIG} with {WEIGHTS}, or, of an export as ONNX, with {FACTS} and {GRAPH}"
        raise RunError(f"{place} holds no whole model that may travel", remedy=remedy)


def _check_size(repository: str, name: str, size: int | None) -> None:
    most = MODEL_BYTES if name.endswith((".safetensors", ".onnx")) else TEXT_BYTES
    if size is None or size > most:
        said = "does not say how large" if size is None else f"says that {size:,} bytes large"
        raise RunError(f"{repository} {said} its {name} is; at most {most:,} bytes are fetched")


def _check_content(repository: str, fetched: Path, announced: Any) -> None:
    digest = getattr(announced.lfs, "sha256", None)
    if fetched.stat().st_size != announced.size or (digest is not None and _sha256(fetched) != digest):
        raise RunError(f"{announced.rfilename} of {repository} is not what was announced", remedy="Try again")


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            found.update(part)
    return found.hexdigest()
