"""Options that several commands have in common, each with one name and one meaning."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from dresd_milvus.storage.opening import Search

UriOption = Annotated[str, typer.Option(help="A folder ending in .db (embedded Milvus Lite) or http://HOST:19530.")]

CollectionOption = Annotated[str, typer.Option(help="The collection, or an alias of it.")]

ModelOption = Annotated[str, typer.Option(help="'sample', 'smollm2', a folder, a GGUF file, or a hub name.")]

TokenOption = Annotated[str, typer.Option(envvar="MILVUS_TOKEN", help="user:password of a server.")]

IndexOption = Annotated[
    str, typer.Option(help="auto, or one of the catalogue, with parameters if need be: HNSW:M=32,ef=200.")
]

VectorsOption = Annotated[
    Literal["float32", "float16"], typer.Option(help="How keys are stored; float16 needs Milvus 2.4 or newer.")
]

PartitionByOption = Annotated[
    Literal["none", "token", "source"],
    typer.Option(help="'token' searches only the partition of a first token; 'source' lets one be dropped at once."),
]

PartitionsOption = Annotated[int, typer.Option(min=1, max=1024, help="How many, with --partition-by token.")]

NodesOption = Annotated[
    str, typer.Option(help="Draft nodes a step; auto: 16, and for hybrid as many as pay on this machine, at most 64.")
]
DepthOption = Annotated[int, typer.Option(min=0, help="Tokens on one path.")]

SearchOption = Annotated[
    Search, typer.Option(help="Where the store is searched: in a replica, or on the server (by its best plan, or one).")
]

TimeoutOption = Annotated[
    float, typer.Option("--search-timeout", min=0.001, help="Seconds a step waits for a server's answer.")
]

TemperatureOption = Annotated[float, typer.Option(min=0, help="Temperature of sampling; 0 is greedy.")]

TopPOption = Annotated[
    float, typer.Option(help="Probability of the most likely tokens that are sampled from; 1 keeps all.")
]

TopKOption = Annotated[int, typer.Option(help="Number of most likely tokens that are sampled from; 0 keeps all.")]

MinPOption = Annotated[
    float, typer.Option(help="Least probability of a sampled token, as a share of the likeliest one's; 0 keeps all.")
]

PenaltyOption = Annotated[
    float,
    typer.Option("--repetition-penalty", help="Penalty of tokens that are in prompt or answer already; 1 is none."),
]

SeedOption = Annotated[int, typer.Option(min=0, help="Seed of sampling.")]

DtypeOption = Annotated[str, typer.Option(help="auto, bfloat16, float16, float32 or float64.")]

DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]

GraphsOption = Annotated[
    bool, typer.Option("--graphs", help="Verify by CUDA graphs, of a few fixed shapes; one GPU only.")
]

TpOption = Annotated[
    int,
    typer.Option(
        min=1, help="Ranks that share the model (DeepSpeed), each started by deepspeed --num_gpus N or torchrun."
    ),
]

LocalRankOption = Annotated[int, typer.Option("--local_rank", hidden=True, help="Given by the DeepSpeed launcher.")]

SuffixesOption = Annotated[
    Path | None, typer.Option(help="The suffix store, for rest, suffix and hybrid; default: the collection's.")
]


def with_options(build: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `build` beside its own; its first parameter takes what `build` makes of them."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        taken = inspect.signature(build).parameters
        own = list(inspect.signature(command).parameters.values())[1:]
        hints = {**get_type_hints(build, include_extras=True), **get_type_hints(command, include_extras=True)}

        @functools.wraps(command)
        def both(**options: Any) -> None:
            made = build(**{name: options.pop(name) for name in taken})
            command(made, **options)

        parameters = [p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in (*taken.values(), *own)]
        parameters.sort(key=lambda p: p.default is not p.empty)
        both.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        both.__annotations__ = {p.name: p.annotation for p in parameters}
        return both

    return decorate
