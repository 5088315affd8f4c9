"""A worker process: does one phase of some shards of a run, for the parent that started it (workers.py).

    python -m ingestion.worker PHASE FOLDER DEVICE

It reads the numbers of the shards from standard input, as a JSON list, and writes one JSON object a line to standard
output: {"done": tokens} for progress, {"error": reason} when it fails. It exits when the parent dies.
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
    """Generate or embed the shards."""
    import torch

    shards = json.loads(sys.stdin.readline())
    Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(int(os.environ.get("DRESD_THREADS", "1")))
    phase, folder, device = sys.argv[1:]
    try:
        run = Run.open(Path(folder), device=device)
        work = {"generate": run.generate, "embed": run.embed}[phase]
        work(shards, lambda tokens: _send(done=tokens))
    except (DresdError, OSError) as error:
        _send(error=str(error))
        sys.exit(1)


def _exit_with_parent() -> None:
    """Exit when the parent, dead or alive, closes standard input."""
    sys.stdin.read()
    os._exit(1)


def _send(**content: object) -> None:
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    main()
