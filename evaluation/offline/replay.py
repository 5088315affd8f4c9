"""Record what a target wrote, and decode it again without the target: retrieval and acceptance studies with no GPU.

A recording is a folder: recording.json, and a safetensors file a text with its tokens and the target's states. A replay
is the same loop with a target that only looks up, so that acceptance is the real one. Times of the drafter are real,
those of the target are simulated from what a step with so many nodes cost where the recording was made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dresd_milvus.corpus.conversation import Conversation
from dresd_milvus.decoding.loop import FixedBudget, Generation, StepRecord, generate, warm_up
from dresd_milvus.decoding.protocols import Drafter
from dresd_milvus.decoding.sampling import Sampler
from dresd_milvus.decoding.scores import Floats, Scored
from dresd_milvus.decoding.step_costs import StepCosts
from dresd_milvus.decoding.tree import DraftTree, Int64, Walk
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.errors import InputError
from dresd_milvus.files.atomic import write_json
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.target.hf_target import HFTarget
from evaluation.offline.intrinsic import Says
from evaluation.prompts import Prompt
from evaluation.reporting.metrics import Record
from evaluation.running.harness import Options, make_record
from evaluation.running.step_times import SIZES, step_times

LIKELY = 8
"""Tokens kept of what the target said after each token."""

UNLIKELY = -30.0
"""The log-probability of all others in a replay."""


class Recorded(NamedTuple):
    """One text. ids: prompt and answer; start: where the answer begins; states: [T - start + 1, H], those at the tokens
    from start - 2 on (each produced the token after it); likely: int32 [T - start + 1, LIKELY], the most likely tokens
    after each of these, and log_likely: float32, their log-probabilities; ended: by an end token, which is the last."""

    prompt: Prompt
    ids: list[int]
    start: int
    states: Tensor
    likely: Tensor
    log_likely: Tensor
    ended: bool = False


@dataclass(frozen=True)
class Recording:
    """about: the model and how it wrote; costs: milliseconds of a step by draft nodes."""

    about: dict[str, Any]
    costs: dict[int, float]
    texts: list[Recorded] = field(repr=False)

    def step_ms(self, nodes: int) -> float:
        """See StepCosts."""
        return StepCosts(self.costs).of(nodes)


def record(
    model: LoadedModel,
    conversation: Conversation,
    prompts: Sequence[Prompt],
    options: Options,
    folder: Path,
    advance: Callable[[int], None] = lambda texts: None,
) -> Recording:
    """Have the target answer the first turn of every prompt, plainly, and keep what it wrote and its states."""
    if (folder / "recording.json").exists():
        raise InputError(f"there is a recording in {folder} already; give another --out")
    texts: list[Recorded] = []
    for index, prompt in enumerate(prompts):
        ids = conversation.begin(prompt.text)
        done = generate(model.target, Vanilla(), options.sampler(index), ids, options.max_new_tokens, FixedBudget())
        texts.append(read_text(model.target, prompt, ids + done.tokens, len(ids), done.reason == "eos"))
        advance(1)
    made = Recording(about_recording(model, options), step_times(model.target, SIZES), texts)
    save_recording(made, folder)
    return made


def about_recording(model: LoadedModel, options: Options) -> dict[str, Any]:
    """Recording.about, of texts that a model wrote in this way."""
    return {
        "model": model.name, "fingerprint": model.fingerprint, "tokenizer": model.tokenizer_hash, "dtype": model.dtype,
        "device": str(model.target.device), "vocab_size": model.target.vocab_size,
        "hidden_size": model.target.hidden_size, "max_new_tokens": options.max_new_tokens,
        "temperature": options.temperature, "top_p": options.top_p, "top_k": options.top_k, "min_p": options.min_p,
        "repetition_penalty": options.repetition_penalty, "seed": options.seed,
    }  # fmt: skip


def save_recording(made: Recording, folder: Path) -> None:
    """The texts first, recording.json last: without it there is no recording."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, text in enumerate(made.texts):
        content = {name: getattr(text, name) for name in ("states", "likely", "log_likely")}
        save_file({"ids": torch.tensor(text.ids, dtype=torch.int32), **content}, folder / f"{index:05d}.safetensors")
    listed = [
        {"id": t.prompt.id, "category": t.prompt.category, "start": t.start, "ended": t.ended} for t in made.texts
    ]
    costs = {str(nodes): ms for nodes, ms in made.costs.items()}
    write_json(folder / "recording.json", {**made.about, "costs": costs, "texts": listed})


def read_text(target: HFTarget, prompt: Prompt, ids: list[int], start: int, ended: bool) -> Recorded:
    """A text with what the target has to say of it, whoever wrote it."""
    tokens = torch.tensor([ids])
    states = target.embed(tokens, torch.ones_like(tokens))[0, max(start - 2, 0) :]
    top = target.score(states).float().log_softmax(-1).topk(LIKELY)
    states, likely, log_likely = (t.cpu().contiguous() for t in (states.half(), top.indices.int(), top.values))
    return Recorded(prompt, ids, start, states, likely, log_likely, ended)


def load_recording(folder: Path) -> Recording:
    """Raises InputError for a folder without a whole recording."""
    try:
        content = json.loads((folder / "recording.json").read_text())
        costs = {int(nodes): float(ms) for nodes, ms in content.pop("costs").items()}
        texts = []
        for index, entry in enumerate(content.pop("texts")):
            tensors = load_file(folder / f"{index:05d}.safetensors")
            prompt = Prompt(entry["id"], ("",), entry["category"])
            said = (tensors["states"].float(), tensors["likely"], tensors["log_likely"])
            texts.append(Recorded(prompt, tensors["ids"].tolist(), entry["start"], *said, entry["ended"]))
        return Recording(content, costs, texts)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"there is no whole recording in {folder} ({error}); make one with dresd eval record"
        ) from error


class RecordedTarget:
    """A Target that wrote a text once and looks it up. What it says of nodes that the text does not go through is
    never asked for: the sampler gives the text's own tokens."""

    def __init__(self, about: dict[str, Any]) -> None:
        self.vocab_size, self.hidden_size = about["vocab_size"], about["hidden_size"]
        self.context = 2**31
        self.eos_ids: frozenset[int] = frozenset()
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self._text: Recorded | None = None
        self._length = 0

    def begin(self, text: Recorded) -> None:
        """Start with a recorded text."""
        self._text = text
        self.eos_ids = frozenset(text.ids[-1:] if text.ended else [])

    def prefill(self, tokens: Sequence[int], reuse_prefix: bool = False) -> Tensor | None:
        self._length = len(tokens)
        return self._said(torch.tensor([len(tokens) - 1])).hidden[0] if tokens else None

    def verify(self, tree: DraftTree) -> Scored:
        return self._said(self._length + torch.from_numpy(tree.depths()).long())

    def commit(self, path: Int64) -> None:
        self._length += len(path)

    def context_left(self, prompt: int) -> int:
        return self.context - prompt

    def _said(self, places: Tensor) -> Scored:
        assert self._text is not None
        return said_at(self._text, places, self.vocab_size)


def said_at(text: Recorded, places: Tensor, vocabulary: int) -> Scored:
    """What the target said at these places [N] of a text, as far as it was recorded."""
    rows = (places - max(text.start - 2, 0)).clamp(0, len(text.states) - 1)
    logits = torch.full((len(rows), vocabulary), UNLIKELY)
    logits.scatter_(1, text.likely[rows].long(), text.log_likely[rows].float())
    return Scored(logits, text.states[rows].float())


def recorded_says(vocabulary: int) -> Callable[[Recorded], Says]:
    """What `force` listens to, of recorded texts."""
    return lambda text: lambda first, last: said_at(text, torch.arange(first, last), vocabulary)


@dataclass(frozen=True)
class Given(Sampler):
    """Picks the tokens of a text [T] that is known, and nothing that could have been drafted after its end."""

    ids: Sequence[int]

    def scores(self, row: Floats, text: Sequence[int]) -> Floats:
        return row

    def walk(self, tree: DraftTree, scored: Scored, text: Sequence[int]) -> Walk:
        following = self.ids[len(text) :]
        return tree.follow(following)


class _NoTokenizer:
    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = True) -> str:
        return ""


def recorded_model(recording: Recording) -> LoadedModel:
    """What stores are checked against, and the harness's target."""
    about = recording.about
    target = cast(HFTarget, RecordedTarget(about))
    return LoadedModel(about["model"], target, _NoTokenizer(), about["fingerprint"], about["tokenizer"])


def replay(
    recording: Recording,
    model: LoadedModel,
    drafters: Sequence[Drafter],
    options: Options,
    advance: Callable[[int], None] = lambda texts: None,
) -> list[Record]:
    """Decode every text with every drafter (vanilla first); times of the target are simulated, drafts' are real.

    Drafters that choose their own sizes have to be made with the recording's costs. options: nodes and depth of drafts.
    """
    target, records = cast(RecordedTarget, model.target), []
    budgets = {drafter.name: options.budget(drafter.name) for drafter in drafters}
    for drafter in drafters:
        warm_up(drafter, target.hidden_size, torch.float32)
    for index, text in enumerate(recording.texts):
        for drafter in drafters:
            target.begin(text)
            # A text that ended by itself was not known to end there: the loop drafts up to the limit that it had.
            room = recording.about["max_new_tokens"] if text.ended else len(text.ids) - text.start
            done = generate(target, drafter, Given(text.ids), text.ids[: text.start], room, budgets[drafter.name])
            assert done.tokens == text.ids[text.start :], "a replay writes what was recorded"
            made = make_record(model, drafter.name, text.prompt, text.ids[: text.start], simulated(done, recording))
            records.append({**made, "repeat": 0, "index": index, "turn": 0, "first_difference": None})
        advance(1)
    return records


def simulated(done: Generation, recording: Recording) -> Generation:
    """The same with the time that the target would have taken."""
    steps = []
    for step in done.steps:
        verify = recording.step_ms(step.nodes) / 1e3
        steps.append(StepRecord(**{**step._asdict(), "verify": verify, "total": step.total - step.verify + verify}))
    return Generation(done.tokens, steps, done.reason, 0.0, sum(step.total for step in steps))
