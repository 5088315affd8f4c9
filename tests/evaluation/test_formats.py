"""What others read and write: Spec-Bench's answers, the original's flags, sweeps of cells."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dresd_milvus.errors import InputError
from evaluation.offline import sweep
from evaluation.offline.sweep import cells, command, parse_axis
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


def test_axes_make_cells() -> None:
    assert parse_axis("--max_new_tokens=8,16") == ("max-new-tokens", ["8", "16"])
    assert parse_axis("systems=dense,rest;suffix") == ("systems", ["dense,rest", "suffix"])
    made = cells([("nodes", ["8", "16"]), ("tp", ["1", "2"])])
    assert made == [{"nodes": n, "tp": t} for n in ("8", "16") for t in ("1", "2")]
    for wrong in ("nodes", "nodes=", "=8"):
        with pytest.raises(InputError, match="an axis is written"):
            parse_axis(wrong)
    with pytest.raises(InputError, match="given twice"):
        cells([("nodes", ["8"]), ("nodes", ["9"])])


def test_a_cell_is_started_as_its_ranks_and_temperature_need() -> None:
    alone = command({"temperature": "0"}, ["--limit", "2"], Path("o"))
    assert alone[1:4] == ["-m", "evaluation", "run"] and "--top-p" not in alone
    two = command({"temperature": "0.7", "tp": "2"}, [], Path("o"))
    assert "deepspeed.launcher.runner" in two and two[two.index("--top-p") + 1] == "0.95"
    assert command({"temperature": "0.7"}, ["--top-p", "0.8"], Path("o")).count("--top-p") == 1
    given = command({"nodes": "4"}, ["--temperature=0.70", "--tp=2"], Path("o"))
    assert "--top-p" in given and "deepspeed.launcher.runner" in given
    assert "--top-p" not in command({}, ["--temperature", "0.0"], Path("o"))


def test_a_sweep_does_each_cell_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = tmp_path / "one.jsonl"
    suite.write_text('{"prompt": "Write a Python function `close`."}\n')
    arguments = ["eval", "sweep", "--axis", "nodes=2,4", "--axis", "depth=2,3", "--out", tmp_path, "--suite", suite]
    arguments += ["--systems", "prompt_lookup", "--limit", "1", "--max-new-tokens", "6"]
    ran: list[list[str]] = []

    def run(command: list[str], folder: Path, cell: dict, given: list[str]) -> None:
        """In this process: a cell's own takes seconds to start. One is done as it is."""
        ran.append(command)
        if len(ran) == 1:
            original(command, folder, cell, given)
        else:
            folder.mkdir(parents=True)
            (folder / "cell.json").write_text(json.dumps(sweep._about(cell, given)))
            assert dresd(capsys, "eval", *command[3:]).code == 0

    original = sweep._run_cell
    monkeypatch.setattr(sweep, "_run_cell", run)
    assert dresd(capsys, *arguments).code == 0
    assert len(ran) == 4 and len(json.loads((tmp_path / "sweep.json").read_text())["entries"]) == 8
    assert (tmp_path / "sweep.png").exists() and "| nodes | depth | system |" in (tmp_path / "table.md").read_text()
    again = dresd(capsys, *arguments)
    assert again.code == 0 and len(ran) == 4 and "prompt_lookup" in again.out


def test_a_cell_that_fails_says_why_and_is_not_taken_for_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice: what it failed at first must not pass for its result, though an older one lies there."""
    folder = tmp_path / "cells" / "nodes=2"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text('{"runs": []}')
    arguments = ["eval", "sweep", "--axis", "nodes=2", "--out", tmp_path, "--systems", "dense"]
    for _ in range(2):
        assert "the cell nodes=2 failed (the system 'dense' needs a store" in dresd(capsys, *arguments).error


def test_cells_of_other_systems_are_drawn_too(tmp_path: Path) -> None:
    axes = [("systems", ["dense", "rest"]), ("nodes", ["2", "4"])]
    entries = [{"cell": cell, "system": cell["systems"], "speedup": 1.5, "mat": 2.0} for cell in cells(axes)]
    sweep.draw_sweep(entries, axes, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
