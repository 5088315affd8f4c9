"""A process that does a phase of some of a run's shards: `python -m ingestion.worker PHASE FOLDER DEVICE`.

Started by workers.py, which tells it on standard input which shards. On standard output it says, a JSON object a line,
how many tokens it wrote or embedded, or why it failed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from threading import Thread

from dresd_milvus.errors import DresdError
from ingestion.run import Run


def main() -> None:
    """Generate or embed, and end with the parent."""
    import torch

    shards = json.loads(sys.stdin.readline())
    Thread(target=_end_with_the_parent, daemon=True).start()
    torch.set_num_threads(int(os.environ.get("DRESD_THREADS", "1")))
    phase, folder, device = sys.argv[1:]
    try:
        run = Run.open(Path(folder), device=device)
        work = {"generate": run.generate, "embed": run.embed}[phase]
        work(shards, lambda done: _say(done=done))
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
