"""The settings of a run, each declared once: an option of the command line and a field of the plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import typer

from dresd_milvus.corpus import Source, Template
from dresd_milvus.corpus.chat import CHAT
from dresd_milvus.corpus.duplicates import Dedup
from dresd_milvus.errors import InputError
from dresd_milvus.options import LayoutOptions, ModelOption, UriOption
from ingestion.planning.prune import Pruning

AUTO = "auto"
"""A template of this name is what the model is usually asked in: its own chat template if it has one."""

Answers = Literal["own", "greedy", "sampled"]
"""Who wrote the answers: the corpus's own, or the model, greedily or sampled."""

CollectionToBuild = Annotated[str, typer.Option("--collection", help="Collection to build.")]


def parse_dim(text: object) -> int:
    """'auto' -> 0, '64' -> 64; raises InputError for anything else."""
    if text == "auto":
        return 0
    if not str(text).isdecimal() or int(str(text)) == 0:
        raise InputError(f"--dim is a number of dimensions or 'auto', not '{text}'")
    return int(str(text))


def parse_template(text: str) -> str:
    """AUTO, CHAT, or a template's text with its line breaks. Raises InputError for a text without {prompt}."""
    return text if text in (AUTO, CHAT) else Template.parse(text).text


@dataclass(frozen=True, kw_only=True)
class Settings(LayoutOptions):
    """What decides the rows of a store and how they lie; the same settings and corpus give the same store.

    template: a text, CHAT, AUTO, or None for none. dim: 0 for as few as draft well. Raises InputError for values that
    cannot be used.
    """

    sources: Annotated[
        list[str],
        typer.Option(
            "--source", help="Source [NAME=]WHERE, repeatable: a file, a folder, hf:DATASET, a recipe, or 'stdlib'."
        ),
    ]
    uri: UriOption
    collection: CollectionToBuild
    model: ModelOption = "sample"
    dtype: Annotated[str, typer.Option(help="Number type of the model: auto, bfloat16, float16 or float32.")] = "auto"
    prompt_key: Annotated[
        str | None, typer.Option(help="Key of the prompt column, or of the messages; detected when omitted.")
    ] = None
    response_key: Annotated[str | None, typer.Option(help="Key of the answer column; detected when omitted.")] = None
    template: Annotated[
        str | None,
        typer.Option(
            parser=parse_template,
            metavar="TEXT",
            help="Template of prompts: text with {prompt}, \\n is a line break; 'chat': the model's chat template. "
            "auto: that if there is one, else 'Question: {prompt}\\nAnswer:\\n'.",
        ),
    ] = AUTO
    config: Annotated[str | None, typer.Option(help="Configuration of a data set on the hub.")] = None
    split: Annotated[str, typer.Option(help="Split of a data set on the hub.")] = "train"
    streaming: Annotated[bool, typer.Option(help="Reading of a data set on the hub without a download first.")] = False
    skip_incomplete: Annotated[bool, typer.Option(help="Passing over rows without text under a key.")] = False
    limit: Annotated[int | None, typer.Option(min=1, help="Largest number of documents of a source.")] = None
    dedup: Annotated[
        Dedup, typer.Option(help="Duplicates to pass over: none, equal documents, or nearly equal ones too.")
    ] = "exact"
    max_length: Annotated[
        int, typer.Option(min=2, help="Longest window that goes through the model at once (tokens); the rest follows.")
    ] = 1024
    continuation: Annotated[
        int, typer.Option(min=1, max=4096, help="Length N of the continuation kept after every state (tokens).")
    ] = 20
    responses_only: Annotated[bool, typer.Option(help="Rows only where an answer's token follows.")] = False
    keep_every: Annotated[int, typer.Option(min=1, help="Distance k of the positions that become rows (tokens).")] = 1
    drop_same: Annotated[bool, typer.Option(help="One row only of those that draft the same, per shard.")] = False
    per_token: Annotated[
        int | None, typer.Option(min=1, help="Largest number of rows with the same first token, per shard.")
    ] = None
    dim: Annotated[
        int,
        typer.Option(
            parser=parse_dim, metavar="NUMBER|auto", help="Dimensions of a key; auto: the fewest that draft as well."
        ),
    ] = 64
    fit_tokens: Annotated[int, typer.Option(min=1, help="Number of states that the projection is fitted on.")] = (
        1_000_000
    )
    shard_size: Annotated[int, typer.Option(min=1, help="Size of a shard, the unit of work (characters).")] = 400_000
    answers: Annotated[
        Answers,
        typer.Option(help="Answers: the corpus's own, or written by the model; drafts from those are accepted more."),
    ] = "own"
    temperature: Annotated[float, typer.Option(min=0.01, help="Temperature of sampled answers.")] = 0.7
    top_p: Annotated[
        float,
        typer.Option(min=0.01, max=1, help="Probability of the most likely tokens that answers are sampled from."),
    ] = 0.95
    answer_tokens: Annotated[int, typer.Option(min=1, help="Longest answer of the model (tokens).")] = 128
    seed: Annotated[int, typer.Option(min=0, help="Seed of sampled answers.")] = 0
    also: Annotated[
        Literal["none", "rest"],
        typer.Option(help="Also built; rest: a suffix store of the corpus, for the systems rest, suffix and hybrid."),
    ] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.continuation < 1 or self.max_length < 2 or self.dim < 0:
            raise InputError("--continuation and --dim must be at least 1 and --max-length at least 2")
        if self.template not in (None, AUTO, CHAT):
            Template(self.template)

    def for_sources(self) -> Settings:
        """The same, without a template where all sources are folders of plain text, which holds no prompts."""
        plain = all(Source.parse(source).is_folder for source in self.sources)
        return replace(self, template=None) if plain and self.template != CHAT else self

    def pruning(self) -> Pruning:
        """What decides the rows of a shard."""
        return Pruning(self.keep_every, self.drop_same, self.per_token, self.responses_only)
