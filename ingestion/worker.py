"""A process that embeds a share of a run's shards: `python -m ingestion.worker FOLDER i/n DEVICE`.

Started by workers.py. On standard output it says, a JSON object a line, how many rows it made, or why it failed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from threading import Thread

from dresd_milvus.errors import DresdError
from ingestion.run import Run, Share


def main() -> None:
    """Embed, and end with the parent."""
    import torch

    Thread(target=_end_with_the_parent, daemon=True).start()
    torch.set_num_threads(int(os.environ.get("DRESD_THREADS", "1")))
    folder, share, device = sys.argv[1:]
    try:
        Run.open(Path(folder), device=device).embed(Share.parse(share), lambda rows: _say(rows=rows))
    except (DresdError, OSError) as error:
        _say(error=str(error))
        sys.exit(1)


def _end_with_the_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def _say(**content: object) -> None:
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    main()
