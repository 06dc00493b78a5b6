"""A contender of a speed measurement: a process that runs one call when told to, and says how long it took."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any


def serve(call: Callable[[], Any], calls: int = 1, facts: dict[str, Any] | None = None) -> None:
    """Warm up, say that it is ready, and run ``call`` for each line on stdin until there is none.

    Args:
        call: What is timed.
        calls: Batches that it works through, by which its seconds are divided.
        facts: What is said beside being ready.
    """
    call()
    print(json.dumps({"ready": True, **(facts or {})}), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        seconds = {"wall": (time.perf_counter() - wall) / calls, "cpu": (time.process_time() - cpu) / calls}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**seconds, "peak_mb": peak}), flush=True)
