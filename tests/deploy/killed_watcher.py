"""A watcher in a process of its own, which a test kills: killed_watcher.py IN OUT."""

from __future__ import annotations

import random
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from mailnet.deploy.dicom.rules import Rules
from mailnet.deploy.dicom.watcher import Watcher


def answer(series: dict[str, list[Any]], work: Path) -> list[tuple[str, bytes]]:
    """Take a while, and sign: two answers to one study would be told apart."""
    (work / "half").write_text("half")
    time.sleep(random.uniform(0, 0.03))
    names = " ".join(Path(one.path).name for one in series["left"])
    return [("first.txt", f"{names} {uuid.uuid4()}".encode()), ("second.txt", b"x" * 200_000)]


if __name__ == "__main__":
    watcher = Watcher(sys.argv[1], sys.argv[2], Rules({"left": {}}), answer, quiet=0.05)
    print("ready", flush=True)
    watcher.run(threading.Event())
