"""What is measured without generating: teacher forcing, studies, recordings, comparisons."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.drafters.prompt_lookup import PromptLookup
from dresd_milvus.errors import InputError
from dresd_milvus.models.loading import LoadedModel
from evaluation.offline.intrinsic import Says, Shape, Text, agreement, force, said
from evaluation.offline.replay import Recorded, Recording, recorded_model
from evaluation.offline.replay import replay as again
from evaluation.offline.study import parse_vary
from evaluation.prompts import Prompt
from evaluation.running.harness import Options
from tests.drafters.wild_drafters import Oracle
from tests.helpers import dresd, exit_code
from tests.samples import build, write_corpus


@pytest.fixture(scope="module")
def store(sample: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("store")
    build(sample, write_corpus(folder / "corpus.jsonl", 40), folder / "a.db", also="rest")
    yield folder / "a.db"


def test_agreement_is_the_path_along_the_text() -> None:
    tree = DraftTree(np.array([9, 1, 2, 3, 4], np.int32), np.array([-1, 0, 0, 1, 3], np.int32))
    assert agreement(tree, [1, 3, 4, 5]) == 3
    assert agreement(tree, [1, 3]) == 2  # the text ends there
    assert agreement(tree, [2, 2]) == 1 and agreement(tree, [7]) == 0 and agreement(tree, []) == 0


def test_forcing_asks_with_what_decoding_would_see() -> None:
    """States, text and observed tokens are those of that position; what is right counts to the depth of the budget."""
    texts = [Text([5, 6, 7, 8, 9, 10], 2), Text([5, 1, 2], 1)]
    seen, told = [], []

    class Spy(Vanilla):
        def observe(self, step: Step) -> None:
            assert step.tree.tokens[step.path].tolist() == [step.tokens[-len(step.new) - 1], *step.new[:-1]]
            told.append((list(step.new), step.scored.logits[:, 0].tolist()))

        def draft(self, context: Context) -> DraftTree:
            seen.append((list(context.tokens), None if context.hidden is None else context.hidden.tolist()))
            return super().draft(context)

    def listen(text: Text) -> Says:
        states = torch.tensor([[float(token)] for token in text.ids])
        return lambda first, last: said(states[first:last], lambda hidden: 10 * hidden)

    found = force(texts, listen, [Spy()], [Shape(4, 1)], positions=100)["vanilla"]
    # The state that produced the root is that of the token before the root.
    assert seen == [([5, 6], [5.0]), ([5, 6, 7, 8], [7.0]), ([5, 1], [5.0])]
    # What the target said of a token is what it said at the token before.
    assert told == [([7, 8], [60.0, 70.0]), ([1], [50.0])]
    force([texts[1]], listen, [Spy()], [Shape(4, 1)], positions=100)
    assert seen[3] == ([5], None)
    assert found[Shape(4, 1)].summary()["accepted_length"] == 0
    text = Text(list(range(20, 40)), 3)
    oracle = Oracle(text.ids)
    quality = force([text], listen, [oracle], [Shape(16, 4)], positions=100)["wild"][Shape(16, 4)]
    assert quality.accepted == [[4, 4, 4, 2]], "a draft is proved before the next is asked for"
    with pytest.raises(InputError, match="no answers"):
        force([Text([1, 2], 2)], listen, [oracle], [Shape(4, 4)], 10)


def said_nothing(first: int, last: int) -> Scored:
    return said(torch.zeros(last - first, 1), None)


def test_a_draft_deeper_than_asked_for_counts_to_that_depth() -> None:
    class Deep(Vanilla):
        def draft(self, context: Context) -> DraftTree:
            tokens = np.arange(context.tokens[-1], 40, dtype=np.int32)
            return DraftTree(tokens, np.arange(-1, len(tokens) - 1, dtype=np.int32))

    found = force([Text(list(range(40)), 1)], lambda text: said_nothing, [Deep()], [Shape(16, 4)], positions=100)
    assert found["vanilla"][Shape(16, 4)].accepted == [[4] * 8]


def test_systems_are_measured_on_held_out_texts(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", "intrinsic", "--uri", store, "--collection", "code", "--texts", store.parent / "corpus.jsonl"]
    command += ["--systems", "dense,rest,hybrid", "--limit", "6", "--positions", "60", "--nodes", "2,8"]
    done = dresd(capsys, *command, "--dtype", "float32", "--out", tmp_path)
    assert done.code == 0, done.err
    entries = json.loads((tmp_path / "intrinsic.json").read_text())["systems"]
    by = {(entry["system"], entry["nodes"]): entry["accepted_length"] for entry in entries}
    assert set(by) == {(system, nodes) for system in ("dense", "rest", "hybrid") for nodes in (2, 8)}
    # The texts are in the store: exact matching finds them, and more nodes find more.
    assert by["rest", 8] > 2 and by["dense", 8] > by["dense", 2] > 0.5
    assert (tmp_path / "intrinsic.png").exists() and "| dense |" in done.out


def test_what_a_store_is_made_of_can_be_varied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_corpus(tmp_path / "corpus.jsonl", 30)
    command = ["eval", "intrinsic", "--source", source, "--texts", source, "--limit", "6", "--positions", "60"]
    command += ["--vary", "dim=2,64", "--vary", "store=0.1,1", "--vary", "layer=0,-1", "--nodes", "8"]
    done = dresd(capsys, *command, "--dtype", "float32", "--out", tmp_path)
    assert done.code == 0, done.err
    varied = json.loads((tmp_path / "intrinsic.json").read_text())["varied"]
    quality = {name: [point["by_shape"][0]["accepted_length"] for point in points] for name, points in varied.items()}
    assert quality["dim"][1] > quality["dim"][0] and quality["store"][1] > quality["store"][0]
    assert varied["store"][0]["rows"] < varied["store"][1]["rows"] == varied["dim"][0]["rows"]
    assert quality["layer"][1] == quality["dim"][1] == quality["store"][1], "the usual: last layer, 64, all of it"
    refused = dresd(capsys, *command, "--vary", "layer=9", "--out", tmp_path / "no")
    assert "there is no layer 9; the model has 0 (the embedding) to 6" in refused.error
    for wrong in ("dim", "dim=a", "depth=3", "store=2"):
        with pytest.raises(InputError, match="cannot be varied"):
            parse_vary(wrong)


def test_a_replay_accepts_what_decoding_did(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = ["--uri", store, "--collection", "code", "--systems", "prompt_lookup,rest,suffix,dense,hybrid"]
    texts = ["--limit", "3", "--max-new-tokens", "24", "--dtype", "float32", "--temperature", "0.7", "--seed", "5"]
    assert dresd(capsys, "eval", "run", *shared, *texts, "--out", tmp_path / "run").code == 0
    assert dresd(capsys, "eval", "record", *texts, "--out", tmp_path / "rec").code == 0
    done = dresd(capsys, "eval", "replay", tmp_path / "rec", *shared, "--out", tmp_path / "again")
    assert done.code == 0 and "simulated" in done.out, done.err
    one, two = (
        {
            (record["system"], record["prompt_id"]): (record["tokens"], record["accept_lengths"])
            for record in map(json.loads, (tmp_path / name / "records.jsonl").read_text().splitlines())
        }
        for name in ("run", "again")
    )
    assert len(one) == 18 and {key: tokens for key, (tokens, _) in one.items()} == {
        key: tokens for key, (tokens, _) in two.items()
    }
    # Keys in half precision, and states of another batch shape: a near tie among neighbours may fall the other way.
    assert np.mean([one[key][1] == two[key][1] for key in one]) > 0.8
    assert "already" in dresd(capsys, "eval", "record", *texts, "--out", tmp_path / "rec").error
    assert (
        "no whole recording" in dresd(capsys, "eval", "replay", tmp_path / "run", "--systems", "dense", *shared).error
    )
    assert "draft model" in dresd(capsys, "eval", "replay", tmp_path / "rec", "--systems", "small_lm").error


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of two greedy texts."""
    folder = tmp_path_factory.mktemp("recorded") / "rec"
    texts = ["--limit", "2", "--max-new-tokens", "24", "--dtype", "float32"]
    assert exit_code("eval", "record", *texts, "--out", folder) == 0
    return folder


@pytest.mark.parametrize(("dear", "most"), [(1.0, 64), (1000.0, 0)])
def test_a_replay_takes_the_nodes_that_pay_by_the_recorded_costs(
    dear: float, most: int, store: Path, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = shutil.copytree(recorded, tmp_path / "rec") / "recording.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"costs": {"0": 1.0, "8": dear, "64": dear}}))
    shared = ["--uri", store, "--collection", "code", "--systems", "hybrid", "--nodes", "auto"]
    done = dresd(capsys, "eval", "replay", tmp_path / "rec", *shared, "--out", tmp_path / "again")
    assert done.code == 0, done.err
    records = map(json.loads, (tmp_path / "again" / "records.jsonl").read_text().splitlines())
    nodes = [count for record in records if record["system"] == "hybrid" for count in record["nodes"]]
    assert max(nodes) <= most and (most == 0 or np.mean(nodes) > 16)


def test_simulated_costs_lie_between_what_was_timed() -> None:
    recording = Recording({}, {0: 10.0, 4: 12.0, 8: 20.0}, [])
    assert [recording.step_ms(nodes) for nodes in (0, 2, 4, 6, 8, 10)] == [10, 11, 12, 16, 20, 24]


def test_prompt_lookup_is_told_of_every_token() -> None:
    """Forced at every fifth position, it still knows all of the text."""
    text = Text([1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2], 1)
    found = force(
        [text],
        lambda text: lambda first, last: said(torch.zeros(last - first, 1)),
        [PromptLookup()],
        [Shape(4, 4)],
        positions=5,
    )
    assert found["prompt_lookup"][Shape(4, 4)].accepted == [[0, 4, 1]]


class Watched(Vanilla):
    """Keeps what it is asked: texts that begin, and drafts (None)."""

    name = "watched"

    def __init__(self) -> None:
        self.calls: list[list[int] | None] = []

    def begin(self, prompt: Sequence[int]) -> None:
        self.calls.append(list(prompt))

    def draft(self, context: Context) -> DraftTree:
        self.calls.append(None)
        return super().draft(context)


def test_what_is_compiled_at_first_use_is_in_no_replays_time() -> None:
    """A drafter has drafted once before its first text begins."""
    said = (torch.zeros(3, 4), torch.zeros(3, 8, dtype=torch.int32), torch.zeros(3, 8))
    text = Recorded(Prompt("a", ("",), "x"), [1, 2, 3, 4], 2, *said, False)
    about = {
        "model": "m", "fingerprint": "", "tokenizer": "", "vocab_size": 9, "hidden_size": 4, "max_new_tokens": 2,
    }  # fmt: skip
    recording = Recording(about, {0: 1.0, 8: 1.0}, [text])
    watched = Watched()
    records = again(recording, recorded_model(recording), [Vanilla(), watched], Options(nodes=8, depth=4))
    assert [record["tokens"] for record in records] == [[3, 4]] * 2
    assert None in watched.calls[: watched.calls.index([1, 2])]
