"""How many phantom studies a second one core makes: ``python benchmarks/phantom.py [--size 96] [--seconds 5]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time

# Before numpy is imported: one thread, so that the number is that of one core.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"


def measure(size: int, seconds: float, n: int = 200) -> dict[str, float | int | str]:
    """Generate n studies again and again for some seconds of processor time and return the rates."""
    import numpy as np

    from mailnet.data.phantom import generate

    generate(20, size=size)
    rates = []
    begin, wall, made = time.process_time(), time.perf_counter(), 0
    while time.process_time() - begin < seconds:
        start = time.process_time()
        generate(n, size=size, start=made)
        rates.append(n / (time.process_time() - start))
        made += n
    return {
        "size": size,
        "studies": made,
        "studies_per_cpu_second_median": round(float(np.median(rates)), 1),
        "studies_per_cpu_second_best": round(max(rates), 1),
        "studies_per_wall_second": round(made / (time.perf_counter() - wall), 1),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=96, help="side of the images in pixels")
    parser.add_argument("--seconds", type=float, default=5.0, help="processor time to spend")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.size, arguments.seconds), indent=2))
