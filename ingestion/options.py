"""What decides a store, as command-line options that several commands share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from dresd_milvus.options import IndexOption, ModelOption, PartitionByOption, PartitionsOption, UriOption, VectorsOption

CollectionToBuild = Annotated[str, typer.Option("--collection", help="The collection to build.")]


def settings(
    source: Annotated[
        list[str],
        typer.Option(help="[NAME=]WHERE, may be repeated: a file, a folder, hf:DATASET, a recipe, or 'stdlib'."),
    ],
    uri: UriOption,
    collection: CollectionToBuild,
    model: ModelOption = "sample",
    prompt_key: Annotated[str | None, typer.Option(help="The row's prompt or messages; default: found.")] = None,
    response_key: Annotated[str | None, typer.Option(help="The row's response; default: found.")] = None,
    template: Annotated[
        str,
        typer.Option(
            help="What a prompt goes into: text with {prompt}, \\n is a line break; 'chat': the model's chat template. "
            "auto: that if there is one, else 'Question: {prompt}\\nAnswer:\\n'."
        ),
    ] = "auto",
    config: Annotated[str | None, typer.Option(help="Of a dataset on the hub.")] = None,
    split: Annotated[str, typer.Option(help="Of a dataset on the hub.")] = "train",
    streaming: Annotated[bool, typer.Option(help="Read a dataset on the hub without downloading it first.")] = False,
    skip_incomplete: Annotated[bool, typer.Option(help="Pass over rows without text under a key.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Documents of a source at most.")] = None,
    dedup: Annotated[
        Literal["none", "exact", "near"], typer.Option(help="Documents to pass over: equal ones, or alike ones too.")
    ] = "exact",
    max_length: Annotated[
        int, typer.Option(min=2, help="Tokens that go through the model at once; longer documents go in windows.")
    ] = 1024,
    continuation: Annotated[int, typer.Option(min=1, max=4096, help="N, tokens kept after every state.")] = 20,
    responses_only: Annotated[bool, typer.Option(help="Keep rows only where an answer's token follows.")] = False,
    keep_every: Annotated[int, typer.Option(min=1, help="Keep every k-th position of a document.")] = 1,
    drop_same: Annotated[bool, typer.Option(help="Keep one row of those that draft the same, per shard.")] = False,
    per_token: Annotated[int | None, typer.Option(min=1, help="Rows of one first token at most, per shard.")] = None,
    dim: Annotated[str, typer.Option(help="Dimensions of a key; auto: the fewest that draft as well.")] = "64",
    fit_tokens: Annotated[int, typer.Option(min=1, help="States that the projection is fitted on.")] = 1_000_000,
    index: IndexOption = "auto",
    vectors: VectorsOption = "float32",
    partition_by: PartitionByOption = "none",
    partitions: PartitionsOption = 64,
    shard_size: Annotated[int, typer.Option(min=1, help="Characters of a shard, the unit of work.")] = 400_000,
    answers: Annotated[
        Literal["own", "greedy", "sampled"],
        typer.Option(help="The corpus's own, or written by the model itself: drafts from those are taken more often."),
    ] = "own",
    temperature: Annotated[float, typer.Option(min=0.01, help="Of sampled answers.")] = 0.7,
    top_p: Annotated[float, typer.Option(min=0.01, max=1, help="Of sampled answers.")] = 0.95,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Of one answer of the model at most.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Of sampled answers.")] = 0,
    also: Annotated[
        Literal["none", "rest"],
        typer.Option(help="rest: also sort the corpus's suffixes, for exact matching (systems rest, suffix, hybrid)."),
    ] = "none",
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")] = "auto",
) -> Any:
    """The settings of a run, from its options."""
    from dresd_milvus.errors import InputError
    from ingestion.planning.plan import Settings, template_for

    if dim != "auto" and not (dim.isdecimal() and int(dim) > 0):
        raise InputError(f"--dim is a number of dimensions or 'auto', not '{dim}'")
    return Settings(
        model=model,
        sources=tuple(source),
        collection=collection,
        uri=uri,
        dtype=dtype,
        template=template_for(template, source),
        prompt_key=prompt_key,
        response_key=response_key,
        config=config,
        split=split,
        streaming=streaming,
        incomplete="skip" if skip_incomplete else "refuse",
        limit=limit,
        dedup=dedup,
        max_length=max_length,
        continuation=continuation,
        responses_only=responses_only,
        keep_every=keep_every,
        drop_same=drop_same,
        per_token=per_token,
        dim=0 if dim == "auto" else int(dim),
        fit_tokens=fit_tokens,
        index=index,
        vectors=vectors,
        partition_by=partition_by,
        partitions=partitions if partition_by == "token" else 0,
        shard_size=shard_size,
        answers=answers,
        temperature=temperature,
        top_p=top_p,
        answer_tokens=answer_tokens,
        seed=seed,
        also=also,
    )
