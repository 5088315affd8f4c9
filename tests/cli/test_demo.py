"""`dresd demo`, with the sample model and next to nothing to do."""

import json
from pathlib import Path

import pytest

from dresd_milvus.cli import demo
from tests.helpers import dresd


def test_it_measures_two_stores_shows_one_answer_and_is_done_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"STORED": 6, "PROMPTS": 2, "TOKENS": 8, "ANSWER_TOKENS": 8, "SYSTEMS": ("vanilla", "dense", "hybrid")}
    for name, size in sizes.items():
        monkeypatch.setattr(demo, f"DEMO_{name}", size)
    command = ("demo", "--model", "sample", "--out", tmp_path / "demo")
    first = dresd(capsys, *command)
    assert first.code == 0, first.err
    summaries = {
        store: json.loads((tmp_path / "demo" / store / "summary.json").read_text()) for store in demo.DEMO_STORES
    }
    assert summaries["own"]["store"]["rows"] != summaries["people"]["store"]["rows"], "they hold other answers"
    for store, (_, told) in demo.DEMO_STORES.items():
        assert (tmp_path / "demo" / store / "report.html").exists() and told in first.out
        assert [run["system"] for run in summaries[store]["runs"]] == ["vanilla", "dense", "hybrid"]
        assert all(run["identical"] == 2 for run in summaries[store]["runs"]), "in float32 output is plain decoding's"
    assert "hybrid: 16 tokens" in first.out, "an answer was streamed"

    kept = {path: path.read_bytes() for path in (tmp_path / "demo").glob("*/records.jsonl")}
    again = dresd(capsys, *command)
    assert again.code == 0 and "vanilla" in again.out
    assert {path: path.read_bytes() for path in kept} == kept, "nothing was measured again"
    assert "embedding" not in again.err and "generating answers" not in again.err
