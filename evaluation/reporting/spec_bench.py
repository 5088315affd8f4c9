"""Answers in the format of Spec-Bench and MT-Bench: data/*/model_answer/MODEL.jsonl, a line a question.

Spec-Bench's speed.py and equal.py read it (hemingkx/Spec-Bench, evaluation/). Only the first repeat is written; for
several, Spec-Bench averages whole runs.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.reporting.metrics import Record


def write_answers(folder: Path, records: Sequence[Record]) -> None:
    """Write folder/SYSTEM.jsonl for every system. Times are seconds from the prompt on, as Spec-Bench measures them."""
    folder.mkdir(parents=True, exist_ok=True)
    for system in dict.fromkeys(record["system"] for record in records):
        ours = [record for record in records if record["system"] == system and record["repeat"] == 0]
        lines = [
            json.dumps(answer(system, [record for record in ours if record["index"] == index]), ensure_ascii=False)
            for index in dict.fromkeys(record["index"] for record in ours)
        ]
        (folder / f"{system}.jsonl").write_text("\n".join(lines) + "\n")


def answer(system: str, turns: Sequence[Record]) -> dict[str, Any]:
    """One question's line. accept_lengths count the bonus, as Spec-Bench's do: plain decoding has 1 a step."""
    first = turns[0]
    number = first["prompt_id"].rsplit("/", 1)[-1].rsplit("-", 1)[-1]
    return {
        "question_id": int(number) if number.isdecimal() else first["index"] + 1,
        "category": first["category"] or "overall",
        "answer_id": uuid.uuid5(uuid.NAMESPACE_OID, f"{system} {first['prompt_id']} {first['tokens']}").hex,
        "model_id": system,
        "choices": [
            {
                "index": 0,
                "turns": [record["text"] for record in turns],
                "decoding_steps": [len(record["accept_lengths"]) for record in turns],
                "new_tokens": [record["new_tokens"] for record in turns],
                "wall_time": [(record["prefill_ms"] + record["decoding_ms"]) / 1e3 for record in turns],
                "accept_lengths": [accepted + 1 for record in turns for accepted in record["accept_lengths"]],
            }
        ],
        "tstamp": time.time(),
    }
