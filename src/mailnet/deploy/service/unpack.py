"""Unpacks a zip of images within limits, under names of our own."""

from __future__ import annotations

import lzma
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

from mailnet.data.archives import member_info
from mailnet.deploy.service.content import directory_of_zip
from mailnet.deploy.service.refusal import Refused
from mailnet.errors import DataError

# A member's entry in the directory: 46 bytes, its name, and what programs add; python keeps them all in memory.
_ENTRY = 1024
# What zipfile raises: RuntimeError for an encrypted member, NotImplementedError for a compression that it lacks.
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError, RuntimeError,
           OSError, struct.error, OverflowError)  # fmt: skip


def unpack(path: Path, folder: Path, max_files: int, max_bytes: int) -> list[Path]:
    """Write the members of a zip into a folder as ``1``, ``2``, ... and return them in the archive's order.

    Folders, hidden files and those that macOS adds are left out.

    Args:
        path: The zip.
        folder: A folder that does not exist yet.
        max_files: Largest number of members.
        max_bytes: Largest number of bytes of all together.

    Raises:
        Refused: It is broken, encrypted or too large, told before anything of that size is made.
    """
    with path.open("rb") as file:
        directory = directory_of_zip(file)
    if directory is None:
        raise Refused(422, "the zip is broken or cut short", "Write it again")
    # A directory of the 64-bit form is of archives beyond 65,535 members or 4 GB.
    if directory.large or directory.members > max_files or directory.size > max_files * _ENTRY:
        raise Refused(413, f"the zip holds more than {max_files:,} files", "Send one study, one series a modality")
    try:
        with zipfile.ZipFile(path) as archive:
            if len(archive.filelist) > max_files:
                raise Refused(413, f"the zip holds more than {max_files:,} files", "Send one series a modality")
            names = [name for name, info in archive.NameToInfo.items() if not info.is_dir() and _is_shown(name)]
            members = [member_info(archive, name, "", max_bytes) for name in names]
            if (total := sum(member.file_size for member in members)) > max_bytes:
                raise Refused(413, f"the zip unpacks to {total:,} bytes, at most {max_bytes:,} are read",
                              "Send less, or let the service's operator raise --max-upload-mb")  # fmt: skip
            folder.mkdir()
            found = []
            for number, member in enumerate(members, start=1):
                found.append(folder / str(number))
                with archive.open(member) as source, found[-1].open("wb") as target:
                    shutil.copyfileobj(source, target, 2**20)
            return found
    except DataError as error:
        status = 413 if "bytes large" in error.message else 422
        raise Refused(status, f"the zip cannot be read: {error.message}", "Send a plain zip of the images") from None
    except _BROKEN as error:
        raise Refused(422, f"the zip is broken ({type(error).__name__})", "Write it again") from None


def _is_shown(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return "__MACOSX" not in parts and not parts[-1].startswith(".")
