"""The generate phase: answers by the target itself."""

import json
import shutil
from pathlib import Path

import pytest

from dresd_milvus.corpus import Document, Template, encode_prompt
from dresd_milvus.models.checkpoint import SAMPLE_FOLDER
from dresd_milvus.models.loading import LoadedModel, load_model
from ingestion.phases.generate import AnswerSampling, generate_shard
from ingestion.planning.documents import NumberedDocuments, read_documents
from ingestion.run import Run
from tests.helpers import dresd
from tests.samples import write_corpus

GREEDY = AnswerSampling(0.0, 1.0, 12, 0)
TEMPLATE = Template()
PROMPTS = ["Write a Python function `add`. Add two numbers.", "Write a Python function `is_even`. Whether it is even."]


def asked(*prompts: str) -> NumberedDocuments:
    return NumberedDocuments(5, [Document((TEMPLATE(prompt), "not this"), "here") for prompt in prompts])


def alone(model: LoadedModel, prompt: str, most: int) -> list[int]:
    """The target's greedy answer, token by token and without a batch."""
    ids = encode_prompt(model.tokenizer, TEMPLATE, prompt)
    answer: list[int] = []
    for _ in range(most):
        import torch

        with torch.inference_mode():
            token = int(model.target.model(torch.tensor([ids + answer])).logits[0, -1].argmax())
        if token in model.target.eos_ids:
            break
        answer.append(token)
    return answer


def test_greedy_answers_are_the_targets_own_whatever_the_batch(sample: LoadedModel) -> None:
    documents = generate_shard(sample, asked(*PROMPTS), GREEDY)
    for document, prompt in zip(documents, PROMPTS, strict=True):
        ids = alone(sample, prompt, 12)
        expected = sample.tokenizer.decode(ids, skip_special_tokens=True)
        assert document == Document((TEMPLATE(prompt), expected), "here")


def test_sampled_answers_repeat_with_their_seed(sample: LoadedModel) -> None:
    drawn = [generate_shard(sample, asked(*PROMPTS), AnswerSampling(0.7, 0.95, 12, seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_conversations_are_answered_turn_by_turn(sample: LoadedModel) -> None:
    prompt = TEMPLATE(PROMPTS[0])
    talk = Document((prompt, "x", "\nAnd the other way round.\n", "y"), "here")
    counted: list[int] = []
    documents = generate_shard(sample, NumberedDocuments(0, [talk]), GREEDY, counted.append)
    (first,) = generate_shard(sample, NumberedDocuments(0, [Document((prompt, "z"), "here")]), GREEDY)
    assert documents[0].turns[:2] == first.turns and documents[0].turns[2] == talk.turns[2]
    assert documents[0].turns[3] not in ("", "y") and len(counted) == 2


def test_a_prompt_that_leaves_no_room_has_no_answer(sample: LoadedModel) -> None:
    long = Document(("word " * sample.target.context, "x"), "here")
    documents = generate_shard(sample, NumberedDocuments(0, [long, *asked(PROMPTS[0]).documents]), GREEDY)
    assert documents[0].turns[1] == "" and documents[1].turns[1] != ""


def test_a_store_of_the_models_own_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = tmp_path / "prompts.jsonl"
    full = [json.loads(line) for line in write_corpus(tmp_path / "full.jsonl", 12).read_text().splitlines()]
    corpus.write_text("\n".join(json.dumps({"instruction": row["instruction"]}) for row in full))
    run = ("--run-dir", tmp_path / "run")
    options = ("--dim", "16", "--shard-size", "500", "--answers", "sampled", "--answer-tokens", "8", "--seed", "3")
    command = ("--source", corpus, "--uri", tmp_path / "a.db", "--collection", "own", *options, *run)
    assert dresd(capsys, "ingest", "plan", *command).code == 0
    assert "has no answers yet; run dresd ingest generate" in dresd(capsys, "ingest", "fit", *run).error
    assert dresd(capsys, "ingest", "generate", *run, "--workers", "2").code == 0
    done = dresd(capsys, "ingest", "run", *command)
    assert done.code == 0 and "generate" in dresd(capsys, "ingest", "status", *run).out
    run_of_folder = Run.open(tmp_path / "run")
    written = [document for shard in run_of_folder.shards() for document in run_of_folder.documents(shard).documents]
    prompts = [document.turns[0] for document in written]
    assert prompts == [TEMPLATE(row["instruction"]) for row in full] and all(d.turns[1] for d in written)
    shard = read_documents(run_of_folder.folder.file("generate", 1))
    assert shard.first == run_of_folder.plan.shards[1][0]


def test_what_a_models_authors_recommend_is_not_in_its_answers(tmp_path: Path) -> None:
    """A repetition penalty in generation_config.json would make a store of texts that the model does not write."""
    folder = tmp_path / "model"
    shutil.copytree(SAMPLE_FOLDER, folder)
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**config, "repetition_penalty": 5.0, "min_p": 0.9}))
    documents = NumberedDocuments(0, [Document(("Question: Write a Python function `close`.\nAnswer:\n", ""), "")])
    sampling = AnswerSampling(0.0, 1.0, 24, 0)
    answers = [
        generate_shard(load_model(name, "float32", "cpu"), documents, sampling)[0].turns[1]
        for name in ("sample", str(folder))
    ]
    assert answers[0] == answers[1]
