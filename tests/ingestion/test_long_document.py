"""A document of two million tokens: no row is lost, and embedding it takes no more memory than a short one."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dresd_milvus.models.checkpoint import SAMPLE_FOLDER
from dresd_milvus.models.loading import load_tokenizer

ROOT = Path(__file__).parent.parent.parent
TEXT = "def f(a, b):\n    return [x for x in range(a) if x % b == {}]\n\n"


def ingest(folder: Path, lines: int) -> tuple[dict, int]:
    """(marker of the seal phase, peak resident bytes of plan, fit and embed), with the small draft model."""
    (folder / "corpus").mkdir(parents=True)
    (folder / "corpus" / "long.txt").write_text("".join(TEXT.format(n) for n in range(lines)))
    run = ["--run-dir", str(folder / "run")]
    plan = ["--model", str(SAMPLE_FOLDER / "draft"), "--source", str(folder / "corpus"), "--uri", str(folder / "s.db")]
    plan += ["--collection", "long", "--keep-every", "20", "--fit-tokens", "20000", "--dim", "16"]
    peak = max(peak_of("plan", *run, *plan), peak_of("fit", *run), peak_of("embed", *run))
    for phase in ("load", "seal"):  # Milvus Lite, and so the store itself, is in their process
        peak_of(phase, *run)
    return json.loads((folder / "run" / "seal" / "00000.done").read_text()), peak


def peak_of(*arguments: str) -> int:
    """Peak resident bytes of a command of ingestion."""
    command = [sys.executable, "-m", "ingestion", *arguments]
    process = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
            process.wait(timeout=0.1)
        except (psutil.TimeoutExpired, psutil.NoSuchProcess):
            continue
    assert process.returncode == 0, arguments
    return peak


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_two_million_tokens_in_one_document(tmp_path: Path) -> None:
    tokenizer = load_tokenizer("sample")
    lines = 75_000
    whole = "".join(TEXT.format(n) for n in range(lines))
    tokens = sum(len(ids) for ids in tokenizer(whole.splitlines(keepends=True), add_special_tokens=False)["input_ids"])
    assert tokens > 2_000_000
    _, short = ingest(tmp_path / "short", lines // 8)
    marker, long = ingest(tmp_path / "long", lines)
    print(
        f"{tokens} tokens, {marker['rows']} rows of every 20th; peak {long / 2**20:.0f} MiB, {short / 2**20:.0f} at 1/8"
    )
    # Every 20th position of every window; tokens that join lines, and ends of parts, account for the rest.
    assert 0.9 < marker["rows"] * 20 / tokens < 1.1
    assert long < 1.3 * short
