"""Sweeps: which cells there are, how each is started, and that each is done once."""

import json
from pathlib import Path

import pytest

from dresd_milvus.errors import InputError
from evaluation.offline import sweep
from evaluation.offline.sweep import cells, command, parse_axis
from tests.helpers import dresd


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

    def in_this_process(cell: dict[str, str], given: list[str], folder: Path) -> list[str]:
        """A cell's own process takes seconds to start; the first cell has one."""
        ran.append(command(cell, given, folder))
        if len(ran) == 1:
            return ran[0]
        assert dresd(capsys, "eval", *ran[-1][3:]).code == 0
        return ["true"]

    monkeypatch.setattr(sweep, "command", in_this_process)
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
