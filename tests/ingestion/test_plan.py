"""Plans: what becomes of a corpus before the model sees it."""

import hashlib
import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dresd_milvus.corpus import Source, Template
from dresd_milvus.corpus.sources import content_hash
from dresd_milvus.errors import InputError, StoreError
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.progress import SILENT
from ingestion.options import AUTO
from ingestion.planning.documents import MAX_CHARACTERS, read_documents
from ingestion.planning.plan import Plan, load_plan, make_plan
from ingestion.planning.run_folder import RunFolder
from ingestion.runner import plan
from tests.samples import CHATML, settings


def planned(sample: LoadedModel, folder: Path, rows: list[dict[str, Any]], **other: Any) -> Plan:
    folder.mkdir(exist_ok=True)
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return make_plan(settings(folder / "a.jsonl", "x.db", **other), folder / "run", sample.tokenizer)


def texts(folder: Path, plan: Plan) -> list[tuple[str, ...]]:
    shards = [read_documents(RunFolder(folder / "run").file("documents", n)) for n in range(len(plan.shards))]
    assert [(shard.first, len(shard.documents)) for shard in shards] == [(a, b) for a, b, _ in plan.shards]
    return [document.turns for shard in shards for document in shard.documents]


def row(prompt: str, output: str) -> dict[str, str]:
    return {"instruction": prompt, "output": output}


def test_documents_are_numbered_over_shards_and_templates_are_filled_in(sample: LoadedModel, tmp_path: Path) -> None:
    plan = planned(sample, tmp_path, [row(f"q{n}", "a" * 50) for n in range(10)], shard_size=200, dedup="none")
    assert len(plan.shards) > 2 and plan.documents == 10
    assert texts(tmp_path, plan) == [(f"Question: q{n}\nAnswer:\n", "a" * 50) for n in range(10)]
    assert load_plan(tmp_path / "run") == plan and load_plan(tmp_path / "run").fingerprint == plan.fingerprint
    encoded = sum(len(sample.tokenizer("".join(turns))["input_ids"]) for turns in texts(tmp_path, plan))
    assert 0.8 < plan.tokens / encoded < 1.3


def test_a_plan_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """It keeps its fingerprint, which the markers of its run name."""
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps(row("q", "a")))
    asked = {
        "model": "sample", "sources": [str(source)], "collection": "code", "uri": "x.db", "dtype": "auto",
        "template": "Question: {prompt}\nAnswer:\n", "prompt_key": None, "response_key": None, "config": None,
        "split": "train", "streaming": False, "incomplete": "skip", "limit": None, "dedup": "exact",
        "max_length": 1024, "continuation": 20, "responses_only": False, "keep_every": 1, "drop_same": False,
        "per_token": None, "dim": 0, "fit_tokens": 1000000, "index": "auto", "vectors": "float32",
        "partition_by": "none", "partitions": 0, "shard_size": 400000, "answers": "own", "temperature": 0.7,
        "top_p": 0.95, "answer_tokens": 128, "seed": 0, "also": "none",
    }  # fmt: skip
    kept = {
        "settings": asked, "tokenizer": "0", "template": asked["template"], "documents": 1,
        "stamps": [content_hash(Source.parse(str(source)))],
        "shards": [[0, 1, 20]], "tokens": 9, "rows": 8, "skipped": {}, "build": "0123456789ab",
    }  # fmt: skip
    text = json.dumps(kept, indent=1, sort_keys=True)
    (tmp_path / "plan.json").write_text(text + "\n")
    plan = load_plan(tmp_path)
    assert plan.fingerprint == hashlib.sha256(text.encode()).hexdigest()[:16]
    same = settings(source, "x.db", template=asked["template"], dim=0, skip_incomplete=True)
    plan.require(same, tmp_path)
    with pytest.raises(InputError, match="skip incomplete was True and is False"):
        plan.require(replace(same, skip_incomplete=False), tmp_path)


def test_the_template_that_suits_the_model_is_in_the_plan(sample: LoadedModel, tmp_path: Path) -> None:
    """Where a model has a chat template questions and conversations alike are written by it; else by the default."""
    chatty = replace(sample, tokenizer=deepcopy(sample.tokenizer))
    chatty.tokenizer.chat_template = CHATML
    plan = planned(sample, tmp_path / "plain", [row("q", "a")], template=AUTO)
    assert plan.template == Template().text and texts(tmp_path / "plain", plan) == [("Question: q\nAnswer:\n", "a")]
    plan = planned(chatty, tmp_path / "chat", [row(" q", "a")], template=AUTO)
    asked = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    assert plan.template == asked.format("{prompt}") and texts(tmp_path / "chat", plan) == [(asked.format(" q"), "a")]
    assert load_plan(tmp_path / "chat" / "run") == plan
    talk = [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, "qarb", strict=True)]
    plan = planned(chatty, tmp_path / "talk", [{"messages": talk}], template=AUTO)
    assert texts(tmp_path / "talk", plan)[0][2] == f"<|im_end|>\n{asked.format('r')}"
    plan = planned(chatty, tmp_path / "given", [row("q", "a")])
    assert texts(tmp_path / "given", plan) == [("Question: q\nAnswer:\n", "a")], "one that is asked for wins"


def test_what_is_passed_over_is_counted(sample: LoadedModel, tmp_path: Path) -> None:
    rows = [row("q", "a"), row("q", "a"), row("q", "  "), row("", "b"), {"instruction": "q"}]
    plan = planned(sample, tmp_path, rows, skip_incomplete=True)
    assert [turns[1] for turns in texts(tmp_path, plan)] == ["a", "b"]
    assert plan.skipped == {
        "duplicates": 1,
        "empty documents": 1,
        "incomplete rows (there is no text under 'output')": 1,
    }
    with pytest.raises(InputError, match=r"is empty: no document holds text \(1 empty documents\)"):
        planned(sample, tmp_path / "b", [row("q", " ")])


def test_a_document_of_millions_of_characters_is_cut_at_line_breaks(sample: LoadedModel, tmp_path: Path) -> None:
    line = "value = compute(1, 2, 3)\n"
    text = line * (2 * MAX_CHARACTERS // len(line)) + "x" * MAX_CHARACTERS
    plan = planned(sample, tmp_path, [row("q", text), row("short", "a")])
    parts = texts(tmp_path, plan)
    assert "".join(turns[1] for turns in parts[:-1]) == text and len(parts) > 3
    assert parts[0][0] == "Question: q\nAnswer:\n" and parts[1][0] == ""
    assert all(len(turns[1]) <= MAX_CHARACTERS for turns in parts) and parts[1][1].startswith(line)
    assert plan.skipped["cuts of long documents"] == len(parts) - 2


def test_what_utf8_cannot_hold_is_replaced(sample: LoadedModel, tmp_path: Path) -> None:
    assert texts(tmp_path, planned(sample, tmp_path, [row("q", "a\ud800b")]))[0][1] == "a?b"


def test_sources_keep_their_names(sample: LoadedModel, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row("q", f"from {name}")))
    sources = [f"first={tmp_path / 'a.jsonl'}", str(tmp_path / "b.jsonl")]
    make_plan(settings(sources, "x.db"), tmp_path / "run", sample.tokenizer)
    documents = read_documents(RunFolder(tmp_path / "run").file("documents", 0)).documents
    assert [(d.origin, d.turns[1]) for d in documents] == [("first", "from a"), ("b.jsonl", "from b")]


def test_the_plan_names_what_differs(sample: LoadedModel, tmp_path: Path) -> None:
    plan = planned(sample, tmp_path, [row("q", "a")])
    plan.require(plan.settings, tmp_path)
    with pytest.raises(InputError, match="dedup was 'exact' and is 'near'; continuation was 20 and is 10"):
        plan.require(replace(plan.settings, continuation=10, dedup="near"), tmp_path)
    (tmp_path / "a.jsonl").write_text(json.dumps(row("q", "b")))
    with pytest.raises(InputError, match="the corpus has changed"):
        plan.require(plan.settings, tmp_path)


def test_damaged_folders_are_one_clear_line(sample: LoadedModel, tmp_path: Path) -> None:
    plan = planned(sample, tmp_path, [row("q", "a")])
    run = RunFolder(tmp_path / "run", plan.fingerprint)
    run.file("documents", 0).write_bytes(b"PAR1 and no more")
    with pytest.raises(StoreError, match=r"00000\.parquet cannot be read .*--replace"):
        read_documents(run.file("documents", 0))
    run.mark_done("embed", 0, rows=1)
    with pytest.raises(InputError, match="is of another plan"):
        RunFolder(run.folder, "other").done("embed", 0)
    (run.folder / "embed" / "00000.done").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        run.done("embed", 0)
    (run.folder / "plan.json").write_text("{}")
    with pytest.raises(InputError, match="is not a run folder of this version"):
        load_plan(run.folder)
    with pytest.raises(InputError, match="there is no plan in"):
        load_plan(tmp_path)


def test_one_process_at_a_time_is_at_work_on_a_shard(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "plan")
    at_work = pytest.raises(InputError, match="another process is at work on shard 3")
    with run.lock("load", 3), run.lock("load", 4), at_work, run.lock("load", 3):
        pass
    with run.lock("load", 3):
        pass


def test_a_plan_that_another_process_made_meanwhile_is_left_alone(
    sample: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made after the folder was seen to be new, and before it is this process's turn."""
    run, lock = tmp_path / "new" / "run", RunFolder.lock

    def locked_late(folder: RunFolder, *which: Any, **how: Any) -> Any:
        planned(sample, tmp_path, [row("q", "a")])
        run.parent.mkdir()
        (tmp_path / "run").rename(run)
        return lock(folder, *which, **how)

    with monkeypatch.context() as patch, pytest.raises(InputError, match="dim was 16 and is 8"):
        patch.setattr(RunFolder, "lock", locked_late)
        plan(settings(tmp_path / "a.jsonl", "x.db", dim=8), run, SILENT, sample)
    assert (run / "plan.json").exists()
    with pytest.raises(InputError, match="to 321 dimensions"):
        plan(settings(tmp_path / "a.jsonl", "x.db", dim=321), tmp_path / "x" / "run", SILENT, sample)
    assert not (tmp_path / "x").exists(), "nothing came of it"
