"""Studies that arrive over the network."""

from __future__ import annotations

import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from arrived import US, list_images, name_of, send
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from mailnet.deploy.dicom.receiver import Receiver, parse_peers
from mailnet.deploy.dicom.rules import Rules
from mailnet.deploy.dicom.watcher import Watcher
from mailnet.errors import ConfigError, RunError


def connect(port: int, called: str = "MAILNET", calling: str = "SCU") -> Any:
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    entity.add_requested_context(US)
    entity.add_requested_context(Verification)
    return entity.associate("127.0.0.1", port, ae_title=called)


def objects(folder: Path, *numbers: int) -> list[Dataset]:
    folder.mkdir(exist_ok=True)
    return [pydicom.dcmread(send(folder, number)) for number in numbers]


def test_two_studies_are_stored_and_answered(tmp_path: Path) -> None:
    inbox = tmp_path / "in"
    with Receiver(inbox, 0) as receiver:
        association = connect(receiver.port)
        assert association.is_established
        assert association.send_c_echo().Status == 0x0000
        sent = objects(tmp_path / "sent", 1, 2)
        for one in [*sent, sent[0]]:
            assert association.send_c_store(one).Status == 0x0000
        association.release()
    stored = sorted(inbox.iterdir())
    assert len(stored) == 2  # one that was sent twice replaced itself
    assert not any("study" in path.name or "Quill" in path.name for path in stored)
    read = sorted((pydicom.dcmread(path) for path in stored), key=lambda one: str(one.StudyInstanceUID))
    for got, one in zip(read, sent, strict=True):
        assert [(element.tag, element.value) for element in got] == [(element.tag, element.value) for element in one]
    watcher = Watcher(inbox, tmp_path / "out", Rules({"left": {}}), list_images, quiet=0)
    watcher.run(threading.Event(), once=True)
    watcher.close()
    assert all((tmp_path / "out" / name_of(number) / "answer.txt").is_file() for number in (1, 2))


def test_a_request_for_another_title_is_refused(tmp_path: Path) -> None:
    with Receiver(tmp_path / "in", 0) as receiver:
        assert connect(receiver.port, called="OTHER").is_rejected


def test_only_those_allowed_may_send(tmp_path: Path) -> None:
    said: list[str] = []
    with Receiver(tmp_path / "in", 0, allow=["SCU@127.0.0.1", "FAR@192.0.2.7"], say=said.append) as receiver:
        for calling in ("STRANGER", "FAR"):  # the second may, but not from here
            assert connect(receiver.port, calling=calling).is_rejected
        association = connect(receiver.port)
        assert association.is_established
        association.release()
    with Receiver(tmp_path / "in", 0, allow=["FAR@192.0.2.7"], say=said.append) as receiver:
        assert not connect(receiver.port, calling="FAR").is_established
    assert {"an association of a sender that is not allowed was refused",
            "a connection from a host that is not allowed was closed"} <= set(said)  # fmt: skip


def test_an_object_that_is_too_large_is_cut_off(tmp_path: Path) -> None:
    said: list[str] = []
    large = objects(tmp_path / "sent", 1)[0]
    large.Rows = large.Columns = 3000
    large.PixelData = np.zeros((3000, 3000), np.uint8).tobytes()
    with Receiver(tmp_path / "in", 0, max_object=2**21, say=said.append) as receiver:
        association = connect(receiver.port)
        assert "Status" not in association.send_c_store(large)
        again = connect(receiver.port)  # others go on
        assert again.send_c_store(objects(tmp_path / "sent", 2)[0]).Status == 0x0000
        again.release()
    assert len(list((tmp_path / "in").iterdir())) == 1
    assert any("was cut off" in line for line in said)


def test_a_message_that_claims_gigabytes_is_not_awaited(tmp_path: Path) -> None:
    said: list[str] = []
    with Receiver(tmp_path / "in", 0, say=said.append) as receiver:
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as peer:
            peer.sendall(struct.pack(">BBL", 1, 0, 2**32 - 1) + b"x" * 10)
            end = time.monotonic() + 10
            while not said and time.monotonic() < end:
                time.sleep(0.01)
        association = connect(receiver.port)
        assert association.is_established
        association.release()
    assert any("was cut off" in line for line in said)


def test_a_folder_that_cannot_be_written_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mailnet.deploy.dicom import receiver as room

    def full(path: Path) -> Any:
        raise RunError("cannot be written", file=path)

    monkeypatch.setattr(room, "replacing", full)
    with Receiver(tmp_path / "in", 0) as receiver:
        association = connect(receiver.port)
        assert association.send_c_store(objects(tmp_path / "sent", 1)[0]).Status == 0xA700
        association.release()


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    half = tmp_path / f".{'0' * 32}.dcm.a1b2.dcm"
    half.write_bytes(b"half")
    other = tmp_path / ".other.dcm"
    other.write_bytes(b"not ours")
    with Receiver(tmp_path, 0):
        assert list(tmp_path.iterdir()) == [other]


def test_a_public_address_needs_names(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "pacs.example"):
        with pytest.raises(ConfigError, match="--allow"):
            Receiver(tmp_path, 0, host=host)
    Receiver(tmp_path, 0, host="0.0.0.0", allow=["PACS@127.0.0.1"])


def test_peers_titles_and_ports_that_cannot_be(tmp_path: Path) -> None:
    assert parse_peers(["A@127.0.0.1", "A@192.0.2.7"]) == {"A": {"127.0.0.1", "192.0.2.7"}}
    for peer in ("PACS", "@host", "A" * 17 + "@127.0.0.1"):
        with pytest.raises(ConfigError, match="is no peer"):
            parse_peers([peer])
    with pytest.raises(ConfigError, match="AE title"):
        Receiver(tmp_path, 0, title="M" * 17)
    with Receiver(tmp_path, 0) as receiver, pytest.raises(RunError, match="cannot listen"):
        Receiver(tmp_path, receiver.port).__enter__()
