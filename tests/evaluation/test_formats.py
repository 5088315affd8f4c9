"""What others read and write: Spec-Bench's answers, the original's flags, sweeps of cells."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dresd_milvus.errors import InputError
from evaluation.original import OriginalOptions
from evaluation.reporting.spec_bench import write_answers
from tests.helpers import dresd


def answered(system: str, index: int, turn: int, text: str) -> dict:
    return {
        "system": system, "prompt_id": str(81 + index), "index": index, "turn": turn, "repeat": 0, "category": "a",
        "text": text, "tokens": [1, 2, 3], "new_tokens": 3, "prefill_ms": 500.0, "decoding_ms": 1000.0,
        "accept_lengths": [1, 0],
    }  # fmt: skip


def test_spec_bench_reads_the_answers(tmp_path: Path) -> None:
    """speed.py's own arithmetic (hemingkx/Spec-Bench, evaluation/speed.py) on what we write, field by field."""
    records = [answered("dense", i, t, f"{i}{t}") for i in range(2) for t in range(2)]
    write_answers(tmp_path, [*records, *({**r, "system": "vanilla"} for r in records), {**records[0], "repeat": 1}])
    lines = [json.loads(line) for line in (tmp_path / "dense.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    for number, line in enumerate(lines):
        assert set(line) == {"question_id", "category", "answer_id", "model_id", "choices", "tstamp"}
        (choice,) = line["choices"]
        assert set(choice) == {"index", "turns", "decoding_steps", "new_tokens", "wall_time", "accept_lengths"}
        assert line["question_id"] == 81 + number and choice["turns"] == [f"{number}0", f"{number}1"]
        tokens, seconds = sum(choice["new_tokens"]), sum(choice["wall_time"])
        assert tokens / seconds == pytest.approx(6 / 3.0)
        assert np.mean(choice["accept_lengths"]) == 1.5 and len(choice["accept_lengths"]) == sum(
            choice["decoding_steps"]
        )
        assert sum(choice["accept_lengths"]) == tokens
    # equal.py compares the turns of two files, line by line.
    others = [json.loads(line) for line in (tmp_path / "vanilla.jsonl").read_text().splitlines()]
    assert [line["choices"][0]["turns"] for line in lines] == [line["choices"][0]["turns"] for line in others]


def flags(**given: Any) -> dict[str, str]:
    """The options of dresd eval run that DReSD's flags become."""
    found = OriginalOptions(**{"dataset": "codealpaca", "path_prefix": Path("p"), **given}).arguments()
    return dict(zip(found[::2], found[1::2], strict=True))


def test_the_originals_flags() -> None:
    dense = flags(dataset="mt_bench", dresd="True", datastore="evol", n_gpus=2)
    assert dense["--systems"] == "vanilla,dense" and dense["--suite"] == "mt-bench" and dense["--tp"] == "2"
    assert (dense["--nodes"], dense["--depth"], dense["--max-new-tokens"]) == ("100", "10", "128")
    assert (dense["--uri"], dense["--collection"]) == ("p/store.db", "evol")
    small = flags(sd="small")
    assert small["--systems"] == "vanilla,small_lm" and small["--nodes"] == "10" and "--uri" not in small
    with pytest.raises(InputError, match="pld or small"):
        flags(sd="big")
    with pytest.raises(InputError, match="need a --datastore"):
        flags(rest="True")


def test_the_original_command_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "code.jsonl"
    rows.write_text("".join(json.dumps({"instruction": f"Write a function f{n}."}) + "\n" for n in range(3)))
    done = dresd(
        capsys, "eval", "original", "--dataset", f"codealpaca={rows}", "--sd", "pld", "--max_tokens", "6",
        "--path_prefix", tmp_path, "--limit", "2",
    )  # fmt: skip
    assert done.code == 0, done.err
    (summary,) = tmp_path.glob("results/*/summary.json")
    runs = json.loads(summary.read_text())["runs"]
    assert [run["system"] for run in runs] == ["vanilla", "prompt_lookup"] and runs[0]["prompts"] == 2
