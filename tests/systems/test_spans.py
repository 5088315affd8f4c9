"""What an answer's spans say is so: the named document of the named corpus holds these tokens at this place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dresd_milvus.corpus import encode_documents
from dresd_milvus.decoding.loop import FixedBudget, generate
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.systems.factory import make_drafter
from dresd_milvus.systems.sources import Sources, Where, open_sources
from dresd_milvus.systems.spans import spans_of
from ingestion.run import Run
from tests.helpers import dresd
from tests.samples import build, write_corpus

PROMPT = "Write a Python function `close`. Close the file."
CORPORA = ("one", "two")


@pytest.fixture(scope="module")
def folder(sample: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two corpora, 40 documents each."""
    folder = tmp_path_factory.mktemp("spans")
    lines = write_corpus(folder / "all.jsonl", 80).read_text().splitlines(keepends=True)
    for number, name in enumerate(CORPORA):
        (folder / f"{name}.jsonl").write_text("".join(lines[number::2]))
    build(sample, tuple(f"{name}={folder / name}.jsonl" for name in CORPORA), folder / "a.db", also="rest")
    return folder


@pytest.fixture(scope="module", params=[True, False], ids=["with-suffixes", "without"])
def sources(request: pytest.FixtureRequest, sample: LoadedModel, folder: Path) -> Iterator[Sources]:
    opened = open_sources(Where(str(folder / "a.db"), "code"), ["hybrid"], sample)
    yield opened if request.param else Sources(opened.retrieval)
    opened.close()


def test_documents_hold_the_tokens_that_are_taken_from_them(
    sample: LoadedModel, sources: Sources, folder: Path
) -> None:
    run = Run.open(folder / "a.run")
    documents = [document for shard in run.shards() for document in run.documents(shard).documents]
    texts = [encoded.ids.tolist() for encoded in encode_documents(sample.tokenizer, documents)]
    drafter, ids = make_drafter("hybrid", sources), sample.tokenizer(PROMPT).input_ids
    done = generate(sample.target, drafter, Greedy(), ids, 60, FixedBudget(16, 10))
    text, spans = [*ids, *done.tokens], spans_of(drafter, sources)
    assert sum(span.tokens for span in spans) == sum(done.accept_lengths) > 10
    for span in spans:
        taken = text[span.first : span.first + span.tokens]
        if span.document is not None and span.position is not None:
            assert texts[span.document][span.position : span.position + span.tokens] == taken
            assert span.origin == (documents[span.document].origin if sources.suffixes else "")
        elif span.position is not None:
            again = text[span.position :]
            assert [again[at % (span.first - span.position)] for at in range(span.tokens)] == taken
    assert {span.source for span in spans} & ({"corpus"} if sources.suffixes else {"dense"})


def test_a_drafter_that_notes_nothing_has_no_spans() -> None:
    assert spans_of(Vanilla(), Sources()) == []


def test_the_command_lists_the_spans(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    store = ["--uri", folder / "a.db", "--collection", "code", "--max-new-tokens", "30", "--template", "{prompt}"]
    shown = dresd(capsys, "generate", PROMPT, "--model", "sample", *store, "--sources").out
    assert "document" in shown and "corpus" in shown
    told = dresd(
        capsys, "generate", PROMPT, "--model", "sample", "--max-new-tokens", "8", "--system", "vanilla", "--sources"
    )
    assert "no draft token was accepted" in told.out
