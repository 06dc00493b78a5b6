"""A DICOM receiver (C-STORE and C-ECHO SCP, PS3.4 B and A) that puts objects into a folder for the watcher."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import re
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mailnet.data.dicom.decode import FAMILIES, NATIVE
from mailnet.errors import ConfigError, RunError
from mailnet.files import replacing

Say = Callable[[str], None]

SUCCESS, NO_RESOURCES, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000  # PS3.4 B.2.3
VERIFICATION = "1.2.840.10008.1.1"  # C-ECHO, PS3.4 A.4
MAX_OBJECT = 2**29  # bytes of an object
# What a peer may say before it has to be listened to: a PDU of PS3.8, of which we announce 64 KiB.
PDU, MAX_PDU = 2**16, 2**20
ASSOCIATIONS, SECONDS = 16, 60
_HALF = re.compile(r"\.[0-9a-f]{32}\.dcm\..*")
ROOM = 2**28  # bytes that must stay free on the disk


def parse_peers(allow: Sequence[str]) -> dict[str, set[str]]:
    """Return AE title -> addresses of the peers that may send, ``AE@HOST`` each.

    Raises:
        ConfigError: One is not so written, or its host is not known.
    """
    found: dict[str, set[str]] = {}
    for one in allow:
        title, at, host = one.rpartition("@")
        if not at or not 1 <= len(title.strip()) <= 16 or not host:
            raise ConfigError(f"'{one}' is no peer", remedy="Write it as AE@HOST, the title of at most 16 characters")
        try:
            addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
        except OSError as error:
            raise ConfigError(f"the host '{host}' is not known ({error})", remedy="Give its address") from error
        found.setdefault(title.strip(), set()).update(addresses)
    return found


class Receiver:
    """Receives objects into a folder while a ``with`` block runs.

    Each is written whole under a name made of a digest, so that one sent again replaces itself, and Success is
    answered only once it is on the disk. Nothing of an object is decoded or logged.

    Args:
        folder: Where objects go.
        port: To listen on; 0 for any that is free, see ``port``.
        host: Address to listen on.
        title: Our AE title; requests for another are refused.
        allow: ``AE@HOST`` of those that may send; needed where ``host`` is not this machine alone.
        max_object: Largest object in bytes; a larger one ends the association while it arrives.
        say: Is told when something is refused, a line each.

    Raises:
        ConfigError: A public address without ``allow``, or an AE title that cannot be.
        RunError: The address is not free, or the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        port: int,
        *,
        host: str = "127.0.0.1",
        title: str = "MAILNET",
        allow: Sequence[str] = (),
        max_object: int = MAX_OBJECT,
        say: Say = lambda line: None,
    ) -> None:
        self._peers = parse_peers(allow)
        if not _is_loopback(host) and not self._peers:
            raise ConfigError(
                f"{host} can be reached by others, and nobody is named who may send",
                remedy="Name them with --allow AE@HOST, or listen on 127.0.0.1",
            )
        if not 1 <= len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
            raise ConfigError(f"'{title}' is no AE title", remedy="Use 1 to 16 letters and digits")
        self._folder, self._title, self._max, self._say = Path(folder), title, max_object, say
        self._address = (host, port)
        self._server: Any = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Receiver:
        from pynetdicom import AE, AllStoragePresentationContexts, evt

        # Its warnings quote requests.
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
        entity = AE(ae_title=self._title)
        entity.require_called_aet = True
        entity.maximum_associations = ASSOCIATIONS
        entity.maximum_pdu_size = PDU
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = SECONDS
        entity.add_supported_context(VERIFICATION)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), [*NATIVE, *FAMILIES])
        if self._peers:
            entity.require_calling_aet = list(self._peers)
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, self._echo),
        ]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for half in self._folder.glob(".*.dcm"):  # what a kill left
                if _HALF.fullmatch(half.name):
                    half.unlink(missing_ok=True)
            self._server = entity.start_server(self._address, block=False, evt_handlers=handlers)
        except OSError as error:
            remedy = "Choose another --dicom-port"
            where = f"{self._address[0]}:{self._address[1]}"
            raise RunError(f"cannot listen on {where} ({error.strerror})", remedy=remedy) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _opened(self, event: Any) -> None:
        """Bound what a connection can make us hold, from its first byte on."""
        association, (host, *_) = event.assoc, event.address
        reader = association.dul.socket
        receive, association.mailnet_bytes = reader.recv, 0

        def bounded(count: int) -> Any:
            association.mailnet_bytes += count
            if count > MAX_PDU or association.mailnet_bytes > self._max + MAX_PDU:
                self._say(f"a sender was cut off: more than {self._max:,} bytes in an object, or a broken message")
                raise OSError("too large")
            return receive(count)

        reader.recv = bounded
        if self._peers and not any(_address(host) in known for known in self._peers.values()):
            self._say("a connection from a host that is not allowed was closed")
            reader.close()

    def _requested(self, event: Any) -> None:
        """Refuse an association whose title may send, but not from where it is (PS3.8 9.3.4)."""
        association = event.assoc
        title = str(association.requestor.primitive.calling_ae_title).strip()
        host = _address(str(association.requestor.address))
        if self._peers and host not in self._peers.get(title, set()):
            self._say("an association of a sender that is not allowed was refused")
            association.acse.send_reject(0x01, 0x01, 0x03)  # permanent, by the user, calling AE title not recognised
            association.kill()

    def _echo(self, event: Any) -> int:
        event.assoc.mailnet_bytes = 0
        return SUCCESS

    def _store(self, event: Any) -> int:
        event.assoc.mailnet_bytes = 0
        request = event.request
        names = [str(request.AffectedSOPClassUID or ""), str(request.AffectedSOPInstanceUID or "")]
        if not all(names) or request.DataSet is None:
            return NOT_UNDERSTOOD
        try:
            if shutil.disk_usage(self._folder).free < ROOM:
                self._say("an object was refused: the disk is nearly full")
                return NO_RESOURCES
            content = event.encoded_dataset()
            name = hashlib.sha256("\0".join(names).encode()).hexdigest()[:32]
            with replacing(self._folder / f"{name}.dcm") as temporary:
                temporary.write_bytes(content)
        except (OSError, RunError) as error:
            self._say(f"an object was refused: the folder cannot be written ({type(error).__name__})")
            return NO_RESOURCES
        # Whatever a peer sends, the others go on.
        except Exception as error:
            self._say(f"an object was refused: it cannot be understood ({type(error).__name__})")
            return NOT_UNDERSTOOD
        return SUCCESS


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(host: str) -> str:
    """Return an address without what IPv6 puts before one of IPv4."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
