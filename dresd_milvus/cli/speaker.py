"""A model that answers in a terminal: once, or turn by turn."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dresd_milvus.console import wide_console
from dresd_milvus.corpus.conversation import Conversation, Dialogue
from dresd_milvus.decoding.loop import Generation, generate
from dresd_milvus.decoding.protocols import Step
from dresd_milvus.decoding.sampling import Sampler
from dresd_milvus.decoding.token_stream import TokenStream
from dresd_milvus.models.loading import LoadedModel
from dresd_milvus.systems.prepared import PreparedDrafter

HELP = "Ctrl-C ends an answer; /new begins a new conversation; /exit or Ctrl-D ends the chat"


class Speaker:
    """A model with a drafter, whose answers are printed as they are generated."""

    def __init__(self, model: LoadedModel, drafter: PreparedDrafter, sampler: Sampler, max_new_tokens: int) -> None:
        self.model, self.drafter, self.sources = model, drafter, drafter.sources
        self.sampler, self.max_new_tokens = sampler, max_new_tokens
        self.console = wide_console()

    def answer(self, ids: Sequence[int], reuse: bool = False, stop: Callable[[], bool] = lambda: False) -> Generation:
        """Print the answer to a prompt, and a line of figures after it.

        reuse: see decode.generate. stop: asked after every step whether the answer is to end there.
        """
        target, stream = self.model.target, TokenStream(self.model.tokenizer, self.console, self.model.target.eos_ids)

        def watch(step: Step) -> bool:
            stream(step)
            return stop()

        drafter, budget = self.drafter.drafter, self.drafter.budget
        done = generate(target, drafter, self.sampler, ids, self.max_new_tokens, budget, watch, reuse)
        stream.finish()
        self.drafter.keep_costs()
        self.tell(
            f"{self.drafter.system}: {len(done.tokens)} tokens, {done.tokens_per_second:.0f} tokens/s, "
            f"MAT {done.mat:.2f}, hit rate {done.hit_rate:.0%}, ended by {done.reason}"
        )
        if self.sources.losses():
            self.console.print(f"warning: {self.sources.losses()}", style="yellow")
        return done

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
                done = speaker.answer(ids, reuse=True, stop=interrupted)
            dialogue.answered(question, ids, done.answer)


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
