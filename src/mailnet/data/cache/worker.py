"""``python -m mailnet.data.cache.worker``: decodes the images that it is told on stdin into shards of its own.

Says on stdout a line once it has started and a line an image: ``{}``, or its error; or why the cache cannot be written.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mailnet.data.cache.shards import Shard
from mailnet.data.cache.threads import decode
from mailnet.data.cache.writer import ShardWriter
from mailnet.data.config import ImageConfig, VolumeConfig
from mailnet.errors import DataError, RunError


def main() -> None:
    """Read the task, decode, write."""
    task = json.load(sys.stdin)
    kind = VolumeConfig if task["section"]["kind"] == "volume" else ImageConfig
    section = kind.model_validate(task["section"])
    in_use = {Shard(Path(path)) for path in task["in_use"]}
    try:
        writer = ShardWriter(Path(task["shelf"]), (section.inputs, *section.size), len(task["keys"]), in_use)
        try:
            _say({})
            for location, key in zip(task["locations"], task["keys"], strict=True):
                image = decode(location, section)
                if isinstance(image, DataError):
                    writer.skip()
                    _say({"error": image.as_dict()})
                else:
                    writer.add(bytes.fromhex(key), image)
                    _say({})
        except KeyboardInterrupt:
            pass
        writer.write_all()
    except RunError as error:
        _say({"refused": error.as_dict()})
    except BrokenPipeError:
        # Whoever asked is gone.
        sys.exit(1)


def _say(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
