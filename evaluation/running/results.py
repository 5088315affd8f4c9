"""A run's folder: records as they are made, the settings that they were made with, and going on after an interruption.

run.json        the settings; a run goes on only with the same
records.jsonl   a line a text (see harness.make_record), a prompt's lines at once
summary.json, report.html, report.png, table.md, spec-bench/   made from these when all is there
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dresd_milvus.errors import InputError
from dresd_milvus.files.atomic import write_json, write_text
from dresd_milvus.systems.registry import with_current_names
from evaluation.reporting.metrics import Record
from evaluation.running.harness import Unit

WRITTEN = ("run.json", "records.jsonl", "summary.json", "report.html", "report.png", "table.md", "spec-bench")


class Results:
    """The records of a run, on disk and in memory. records: in the order in which they were made."""

    def __init__(self, folder: Path, settings: dict[str, Any], replace: bool = False) -> None:
        """Open or begin; raises InputError when the folder holds results of other settings and replace is not given."""
        self.folder = folder
        self.records: list[Record] = []
        settings = json.loads(json.dumps(settings))
        header = folder / "run.json"
        before = _read(header) if header.exists() and not replace else None
        if before is not None:
            differs = sorted(name for name in {*before, *settings} if before.get(name) != settings.get(name))
            if differs:
                told = "; ".join(f"{name} was {before.get(name)!r} and is {settings.get(name)!r}" for name in differs)
                raise InputError(f"{folder} has results of another run: {told}; give another --out, or --replace")
            self._resume()
            return
        folder.mkdir(parents=True, exist_ok=True)
        clear(folder)
        write_json(header, settings)

    def done(self) -> list[Unit]:
        """The units that are whole."""
        return list(dict.fromkeys(Unit(record["repeat"], record["index"]) for record in self.records))

    def add(self, records: Sequence[Record]) -> None:
        """Keep a unit's records."""
        with (self.folder / "records.jsonl").open("a") as file:
            file.write("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
        self.records += records

    def _resume(self) -> None:
        """Read what is there, but for a unit whose writing was cut short."""
        path = self.folder / "records.jsonl"
        text = path.read_text() if path.exists() else ""
        found = read_records(text)
        by_unit: dict[Unit, list[Record]] = {}
        for record in found:
            by_unit.setdefault(Unit(record["repeat"], record["index"]), []).append(record)
        whole = [unit for unit in by_unit.values() if len(unit) == unit[0]["of"]]
        self.records = [record for unit in whole for record in unit]
        if text.count("\n") != len(self.records) or not text.endswith("\n"):
            write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in self.records))


def read_records(text: str) -> list[Record]:
    """The records of a file's text, up to a line that was cut short. (Texts hold line separators of other kinds.)"""
    found: list[Record] = []
    for line in filter(None, text.split("\n")):
        try:
            found.append(json.loads(with_current_names(line)))
        except ValueError:
            break
    return found


def clear(folder: Path) -> None:
    """Remove what an earlier run left."""
    for name in WRITTEN:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(with_current_names(path.read_text())))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); give --replace to start over") from error
