"""Two runs side by side."""

import json
from pathlib import Path

import pytest

from dresd_milvus.errors import InputError
from evaluation.reporting.compare import compare
from tests.helpers import dresd


def write_run(folder: Path, speeds: dict[str, float], accepted: int = 0) -> Path:
    """Ten prompts of 20 tokens; speeds: tokens a millisecond."""
    folder.mkdir()
    lines = []
    for system, speed in speeds.items():
        steps = 20 // (accepted + 1) if system != "vanilla" else 20
        for index in range(10):
            slow = 1 + index % 3 / 10
            lines.append({"system": system, "prompt_id": str(index), "index": index, "turn": 0, "repeat": 0,
                          "prompt_tokens": 9, "new_tokens": 20, "decoding_ms": 20 / speed * slow, "prefill_ms": 1.0,
                          "accept_lengths": [accepted] * steps})  # fmt: skip
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def test_two_runs_are_compared_prompt_by_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_run(tmp_path / "a", {"vanilla": 1.0, "dense": 1.5}, accepted=1)
    b = write_run(tmp_path / "b", {"vanilla": 2.0, "dense": 4.5, "rest": 1.0}, accepted=3)
    vanilla, dense = compare(a, b)
    assert (vanilla["system"], vanilla["speed"]) == ("vanilla", pytest.approx(2))
    assert dense["speed"] == pytest.approx(3) and dense["relative_speed"] == pytest.approx(1.5)
    assert dense["mat"] == pytest.approx(2) and dense["speed_interval"] == pytest.approx([3, 3])
    shown = dresd(capsys, "eval", "compare", a, b)
    assert shown.code == 0 and "3.00 [3.00, 3.00]" in shown.out and "+2.00" in shown.out
    with pytest.raises(InputError, match="nothing to compare"):
        compare(a, write_run(tmp_path / "c", {"other": 1.0}))
    assert "no results" in dresd(capsys, "eval", "compare", a, tmp_path / "none").error
