"""Bad input: one clear line, exit code 1, nothing half-written."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from dresd_milvus.models.checkpoint import SAMPLE_FOLDER
from dresd_milvus.models.loading import LoadedModel
from tests.helpers import dresd
from tests.samples import build, write_corpus

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus.jsonl", 8)


def ingest(capsys: Capture, source: Path | str, uri: Path, *more: str | Path):
    return dresd(capsys, "ingest", "run", "--source", source, "--uri", uri, "--collection", "code", *more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model", "no-such-model"], "cannot load the model 'no-such-model'"),
        (["--model", "./no/such/folder"], "there is no model folder"),
        (["--dim", "321"], "hidden states of size 320 to 321 dimensions"),
        (["--response-key", "answer"], "8 of 8 rows"),
        (["--template", "no placeholder"], "must hold {prompt}"),
        (["--dtype", "int3"], "there is no dtype"),
    ],
)
def test_ingestion_refuses_before_it_writes(
    capsys: Capture, corpus: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    assert message in ingest(capsys, corpus, tmp_path / "a.db", *more).error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.jsonl"]


@pytest.mark.parametrize(
    ("name", "message"), [("empty.jsonl", "has no rows"), ("folder", "is empty"), ("x", "no source")]
)
def test_an_empty_corpus_is_refused(capsys: Capture, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "folder").mkdir()
    assert message in ingest(capsys, tmp_path / name, tmp_path / "a.db").error
    assert not (tmp_path / "a.db").exists() and not (tmp_path / "a.db.dresd").exists()


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model with the sample's tokenizer."""
    folder = tmp_path_factory.mktemp("other")
    torch.manual_seed(0)
    sizes = {"hidden_size": 320, "num_hidden_layers": 1, "num_attention_heads": 5, "intermediate_size": 32}
    config = LlamaConfig(**sizes, vocab_size=8192, max_position_embeddings=64, bos_token_id=0, eos_token_id=1)
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((SAMPLE_FOLDER / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def store(sample: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("store")
    build(sample, write_corpus(folder / "corpus.jsonl", 8), folder / "a.db")
    yield folder / "a.db"


def test_a_store_of_another_model_is_refused(capsys: Capture, store: Path, other_model: Path, tmp_path: Path) -> None:
    arguments = ["--uri", store, "--collection", "code", "--model", other_model]
    done = dresd(capsys, "eval", "run", *arguments, "--limit", "1", "--out", tmp_path / "out")
    assert "model fingerprint" in done.error and "built with something else" in done.error
    assert not (tmp_path / "out").exists()
    assert "model fingerprint" in dresd(capsys, "generate", "hello", *arguments).error


def test_prompts_longer_than_the_context_are_refused(capsys: Capture, other_model: Path, tmp_path: Path) -> None:
    suite = tmp_path / "s.jsonl"
    suite.write_text(json.dumps({"prompt": "short"}) + "\n" + json.dumps({"prompt": "word " * 80, "id": "long"}))
    arguments = ["--model", other_model, "--suite", suite, "--systems", "vanilla", "--out", tmp_path / "out"]
    done = dresd(capsys, "eval", "run", *arguments)
    assert "1 of 2 prompts do not fit the model's context of 64 tokens, the first of them long" in done.error
    assert not (tmp_path / "out").exists()
    assert "shorten the prompt" in dresd(capsys, "generate", "word " * 80, "--model", other_model).error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--uri", "none.db", "--collection", "code"], "there is no database none.db"),
        (["--uri", "{store}", "--collection", "nothing"], "no collection 'nothing'"),
        (["--uri", "{store}"], "one of them is missing"),
        (["--systems", "dense"], "needs a store"),
        (["--systems", "vanilla,magic"], "no system 'magic'"),
        (["--systems", "vanilla", "--suite", "nowhere"], "no suite 'nowhere'"),
        (["--systems", "vanilla", "--top-p", "1.5", "--temperature", "1"], "top-p must be above 0"),
        (["--systems", "vanilla", "--top-k", "-1", "--temperature", "1"], "top-k must be 0 (all tokens) or more"),
        (["--systems", "vanilla", "--min-p", "2", "--temperature", "1"], "min-p must be from 0 to 1"),
        (["--systems", "vanilla", "--repetition-penalty", "0"], "a repetition penalty must be a number above 0"),
        (["--systems", "vanilla", "--device", "quantum"], "no device 'quantum'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_evaluation_refuses_before_it_writes(
    capsys: Capture, store: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    filled = [argument.format(store=store) for argument in arguments]
    assert message in dresd(capsys, "eval", "run", *filled, "--out", tmp_path / "out").error
    assert not (tmp_path / "out").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_later(
    capsys: Capture, tmp_path: Path, small_disk: Path
) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 120)
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 1_400_000)
    done = ingest(capsys, corpus, small_disk / "a.db", "--dim", "8")
    assert "is full" in done.error or "No space left" in done.error
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=60m", small_disk], check=True)
    again = ingest(capsys, corpus, small_disk / "a.db", "--dim", "8")
    assert again.code == 0, again.err
    whole = ingest(capsys, corpus, tmp_path / "b.db", "--dim", "8")
    assert whole.code == 0, whole.err
    checksums = [
        json.loads(dresd(capsys, "inspect", "--uri", uri, "--collection", "code", "--json").out)["checksum"]
        for uri in (small_disk / "a.db", tmp_path / "b.db")
    ]
    assert checksums[0] == checksums[1]


def test_answers_longer_than_the_context_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, other_model: Path
) -> None:
    source = write_corpus(tmp_path / "a.jsonl", 2)
    done = dresd(
        capsys, "ingest", "run", "--source", source, "--uri", tmp_path / "a.db", "--collection", "a", "--model",
        other_model, "--answers", "greedy", "--answer-tokens", "5000",
    )  # fmt: skip
    assert "leave no room for a prompt" in done.error and "--answer-tokens" in done.error
