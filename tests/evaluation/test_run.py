"""Whole evaluations on a small store: what is written, and that texts are vanilla's."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dresd_milvus.errors import InputError
from dresd_milvus.loading import LoadedModel
from dresd_milvus.retrieval import open_retrieval
from evaluation.suites import load_suite
from tests.helpers import dresd
from tests.samples import build, write_corpus

SYSTEMS = ["vanilla", "prompt_lookup", "dense"]


@pytest.fixture(scope="module")
def store(sample: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("store")
    build(sample, write_corpus(folder / "corpus.jsonl", 60), folder / "a.db")
    yield folder / "a.db"


@pytest.mark.parametrize("sampling", [[], ["--temperature", "0.7", "--top-p", "0.95", "--seed", "3"]], ids=str)
@pytest.mark.parametrize("search", ["replica", "server"])
def test_all_systems_write_vanillas_text(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], sampling: list[str], search: str
) -> None:
    command = ["eval", "run", "--uri", store, "--collection", "code", "--limit", "3", "--max-new-tokens", "24"]
    done = dresd(capsys, *command, "--dtype", "float32", "--search", search, "--out", tmp_path, *sampling)
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "summary.json").read_text())
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert [run["system"] for run in summary["runs"]] == SYSTEMS and len(records) == 9
    for run in summary["runs"]:
        assert run["identical"] == run["prompts"] == 3 and run["first_divergences"] == []
    for record in records:
        assert record["new_tokens"] == len(record["tokens"]) == sum(record["accept_lengths"]) + len(record["nodes"])
        plain = next(r for r in records if r["prompt_id"] == record["prompt_id"] and r["system"] == "vanilla")
        assert record["text"] == plain["text"]
    assert (
        summary["store"]["search"] == {"replica": "replica", "server": "filter"}[search]
        and summary["provenance"]["model"]["dtype"] == "float32"
    )
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page and "prompt_lookup" in page and "src=" not in page
    assert "dense" in done.out and "speed-up" in done.out


def test_dense_drafts_accept_something(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "same.jsonl"  # the corpus's own prompts: their continuations are in the store
    rows = [json.loads(line) for line in (store.parent / "corpus.jsonl").read_text().splitlines()[:4]]
    suite.write_text("\n".join(json.dumps({"instruction": row["instruction"]}) for row in rows))
    arguments = ["--uri", store, "--collection", "code", "--suite", suite, "--systems", "dense", "--out", tmp_path]
    assert dresd(capsys, "eval", "run", *arguments, "--max-new-tokens", "24", "--dtype", "float32").code == 0
    dense = json.loads((tmp_path / "summary.json").read_text())["runs"][1]
    assert dense["hit_rate"] > 0.3 and dense["mat"] > 1


def test_generate_streams_the_same_text_for_every_system(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = set()
    for system in SYSTEMS:
        done = dresd(
            capsys, "generate", "Write a Python function `close`. Close the file.", "--uri", store, "--collection",
            "code", "--system", system, "--max-new-tokens", "30", "--dtype", "float32",
        )  # fmt: skip
        assert done.code == 0, done.err
        text, figures = done.out.strip().rsplit("\n", 1)
        assert figures.startswith(f"{system}: ") and "MAT" in figures and "hit rate" in figures
        texts.add(text.strip())
    assert len(texts) == 1 and texts.pop().startswith("def close")


def test_inspect_tells_what_is_there(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = dresd(capsys, "inspect", "--uri", store, "--collection", "code", "--json")
    content = json.loads(done.out)
    assert content["rows"] == content["manifest"]["rows"] > 100 and len(content["checksum"]) == 16
    assert "⟶" in content["sample"][0]["preview"]
    shown = dresd(capsys, "inspect", "--uri", store, "--collection", "code")
    assert content["checksum"] in shown.out and shown.code == 0


def test_a_replica_is_kept_and_used_again(store: Path, sample: LoadedModel) -> None:
    first = open_retrieval(str(store), "code", sample)
    built: list[int] = []
    second = open_retrieval(str(store), "code", sample, progress=lambda rows: built.append)
    assert built == [] and second.manifest == first.manifest and second.how == "replica"


def test_suites(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('{"question_id": 81, "turns": ["a", "b"]}\n{"prompt": "p"}\n{"instruction": "i", "id": "x"}\n')
    assert [(p.id, p.text) for p in load_suite(str(path))] == [("81", "a"), ("2", "p"), ("x", "i")]
    assert len(load_suite("stdlib", 5)) == 5
    path.write_text('{"prompt": "p"}\n{"question": "q"}\n')
    with pytest.raises(InputError, match=r"row 2 of .* \(its keys: question\)"):
        load_suite(str(path))
    path.write_text("")
    with pytest.raises(InputError, match="holds no prompts"):
        load_suite(str(path))
