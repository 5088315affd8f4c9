"""A model that answers in a terminal: once, or turn by turn."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dresd_milvus.console import print_rows, wide_console
from dresd_milvus.corpus.conversation import Conversation, Dialogue
from dresd_milvus.decoding.loop import Generation, generate
from dresd_milvus.decoding.protocols import Step
from dresd_milvus.decoding.sampling import Sampler
from dresd_milvus.decoding.token_stream import AnswerText, TokenStream, find_stop
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.systems.prepared import PreparedDrafter
from dresd_milvus.systems.spans import spans_of

HELP = "Ctrl-C ends an answer; /new begins a new conversation; /exit or Ctrl-D ends the chat"


class Speaker:
    """A model with a drafter, whose answers are printed as they are generated.

    stop: strings before the first of which an answer ends.
    """

    def __init__(
        self,
        model: LoadedModel,
        drafter: PreparedDrafter,
        sampler: Sampler,
        max_new_tokens: int,
        stop: Sequence[str] = (),
    ) -> None:
        self.model, self.drafter, self.sources = model, drafter, drafter.sources
        self.sampler, self.max_new_tokens, self.stop = sampler, max_new_tokens, stop
        self.console = wide_console()

    def answer(
        self, ids: Sequence[int], reuse_prefix: bool = False, interrupted: Callable[[], bool] = lambda: False
    ) -> Generation:
        """Print the answer to a prompt, and a line of figures after it.

        reuse_prefix: see loop.decode. interrupted: asked after every step whether the answer is to end there.
        """
        target, tokenizer = self.model.target, self.model.tokenizer
        stream = TokenStream(tokenizer, self.console, target.eos_ids, self.stop)
        stops_at = AnswerText(tokenizer, self.stop).stops_at if self.stop else None

        def on_step(step: Step) -> bool:
            stream(step)
            return interrupted()

        drafter, budget = self.drafter.drafter, self.drafter.budget
        done = generate(
            target, drafter, self.sampler, ids, self.max_new_tokens, budget, on_step, reuse_prefix, stops_at
        )
        stream.finish()
        self.drafter.keep_costs()
        self.tell(
            f"{self.drafter.system}: {len(done.tokens)} tokens, {done.tokens_per_second:.0f} tokens/s, "
            f"MAT {done.mat:.2f}, hit rate {done.hit_rate:.0%}, ended by {done.reason}"
        )
        if self.sources.failure_summary():
            self.console.print(f"warning: {self.sources.failure_summary()}", style="yellow")
        return done

    def tell_sources(self, text: Sequence[int]) -> None:
        """The spans of the last answer that were drafted, and where each is from. text: its tokens, prompt included."""
        spans = spans_of(self.drafter.drafter, self.sources)
        if not spans:
            self.tell("no draft token was accepted, or this system does not note where tokens are from (hybrid does)")
            return
        drafted = [repr(self.model.tokenizer.decode(text[s.first : s.first + s.tokens])) for s in spans]
        lines = [[words, str(s.tokens), s.source, s.place] for words, s in zip(drafted, spans, strict=True)]
        print_rows([["drafted", "tokens", "source", "from"], *lines], left=["drafted", "source", "from"])

    def shown(self, done: Generation) -> list[int]:
        """The tokens of an answer as it was shown: those that a stop string ended are made of the text before it."""
        if done.reason != "stop":
            return done.answer
        tokenizer = self.model.tokenizer
        text = tokenizer.decode(done.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        ids: list[int] = tokenizer(text[: find_stop(text, self.stop)], add_special_tokens=False)["input_ids"]
        return ids

    def tell(self, line: str) -> None:
        """One line that is not the model's."""
        self.console.print(line, style="dim", soft_wrap=True)


def chat(speaker: Speaker, conversation: Conversation, read: Callable[[], str]) -> None:
    """Answer line after line until read() raises EOFError or KeyboardInterrupt, or gives /exit.

    A turn goes on from what the model has read in the turns before. Ctrl-C during an answer ends it after the step that
    is under way, and what was said so far stays; pressed a second time it raises KeyboardInterrupt.
    """
    dialogue, context = Dialogue(conversation), speaker.model.target.context
    speaker.tell(HELP)
    while (question := _next(read)) != "/exit":
        if question == "/new":
            dialogue = Dialogue(conversation)
            speaker.tell("a new conversation")
        elif question:
            ids = dialogue.ask(question)
            if len(ids) >= context:
                speaker.tell(
                    f"with this question the conversation has {len(ids)} tokens, and the model's context holds "
                    f"{context}; /new begins a new one"
                )
                continue
            with _interrupts() as interrupted:
                done = speaker.answer(ids, reuse_prefix=True, interrupted=interrupted)
            dialogue.answered(question, ids, speaker.shown(done))


def _next(read: Callable[[], str]) -> str:
    """What is said next; /exit at the end of the input."""
    try:
        return read().strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return "/exit"


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Gives what says whether Ctrl-C has been pressed. Pressed once it does no more, for a step that is cut off would
    leave cache and drafter half done; pressed again it does what it did before."""
    pressed = False

    def note(*_: Any) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
