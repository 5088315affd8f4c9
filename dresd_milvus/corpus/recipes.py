"""The data sets of the paper (DReSD, section 4; names and keys are those of its released code)."""

from __future__ import annotations

from typing import NamedTuple


class Recipe(NamedTuple):
    """How to read a data set of the hub.

    hub: its name. split: which part. prompt_key, response_key: the keys of a row; a response_key of None means that
    there are prompts only, which the target must answer. shuffle: seed of the order of rows, None for the original
    order. take: number of rows, None for all. turns: exchanges of a conversation, None for all.
    """

    hub: str
    split: str
    prompt_key: str | None
    response_key: str | None
    shuffle: int | None = None
    take: int | None = None
    turns: int | None = None


RECIPES = {
    # The paper's store for code.
    "evol-instruct-code": Recipe("nickrosh/Evol-Instruct-Code-80k-v1", "train", "instruction", "output"),
    # The paper's store for chat: the first exchanges of 80,000 conversations.
    "ultrachat": Recipe(
        "HuggingFaceH4/ultrachat_200k", "train_sft", "messages", "messages", shuffle=42, take=80_000, turns=1
    ),
    # The paper's prompts for code.
    "codealpaca": Recipe("sahil2801/CodeAlpaca-20k", "train", "instruction", "output"),
    # The paper's prompts for chat.
    "mt-bench": Recipe("HuggingFaceH4/mt_bench_prompts", "train", "prompt", None, turns=1),
}
"""The recipes by their names, which --source accepts."""
