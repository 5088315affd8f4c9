"""Options of the command line, each declared once: single ones, groups of them, and how a group gets into a command.

Modules that declare options import PyTorch, pymilvus and other large libraries in functions only, so that `--help`
answers at once.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_type_hints

import typer

from dresd_milvus.console import Phases
from dresd_milvus.defaults import DEPTH
from dresd_milvus.errors import InputError
from dresd_milvus.retrieval.names import parse_uri

if TYPE_CHECKING:
    from dresd_milvus.decoding.sampling import Sampler
    from dresd_milvus.models.loading import LoadedModel


def given_uri(text: str) -> str:
    """The address of a database in one spelling (see parse_uri); '' where the option is not given."""
    return parse_uri(text) if text else text


def parse_nodes(text: object) -> int | None:
    """'auto' -> None, '16' -> 16; raises InputError for anything else."""
    if text == "auto":
        return None
    if not str(text).isdecimal():
        raise InputError(f"the number of draft nodes is a number or 'auto', not '{text}'")
    return int(str(text))


UriOption = Annotated[
    str,
    typer.Option(
        help="Database: NAME.db (embedded Milvus Lite) or http://HOST:19530.", parser=given_uri, metavar="TEXT"
    ),
]

CollectionOption = Annotated[str, typer.Option(help="Collection, or an alias of it.")]

ModelOption = Annotated[str, typer.Option(help="Model: 'sample', 'smollm2', a folder, a GGUF file, or a hub name.")]

IndexOption = Annotated[
    str, typer.Option(help="Index: auto, or a name of the catalogue, with parameters if need be: HNSW:M=32,ef=200.")
]

DraftModelOption = Annotated[str | None, typer.Option(help="Small model of small_lm; default: the sample's own.")]

TokenOption = Annotated[str, typer.Option(envvar="MILVUS_TOKEN", help="User and password of a server: USER:PASSWORD.")]

NodesOption = Annotated[
    int | None,
    typer.Option(
        parser=parse_nodes,
        metavar="NUMBER|auto",
        show_default="auto",
        help="Draft nodes per step; auto: 16, and for hybrid as many as pay on this machine, at most 64.",
    ),
]

DepthOption = Annotated[int, typer.Option(min=0, help="Longest path of a draft (tokens).")]

DtypeOption = Annotated[
    str, typer.Option(help="Number type of the model: auto, bfloat16, float16, float32 or float64.")
]

DeviceOption = Annotated[str, typer.Option(help="Device of the model: auto, cpu or cuda.")]

GraphsOption = Annotated[
    bool, typer.Option("--graphs", help="CUDA graphs for verifying drafts, of a few fixed sizes; one GPU only.")
]

TpOption = Annotated[
    int,
    typer.Option(
        min=1, help="Number of ranks that share the model, each started by deepspeed --num_gpus N or torchrun."
    ),
]

TemplateOption = Annotated[
    str | None,
    typer.Option(
        help="Template of prompts: text with {prompt}, or 'chat'; "
        "default: the store's, or the model's chat template; without one the suite's."
    ),
]

TemperatureOption = Annotated[float, typer.Option(min=0, help="Temperature of sampling; 0 is greedy.")]

SeedOption = Annotated[int, typer.Option(min=0, help="Seed of sampling.")]

LocalRankOption = Annotated[int, typer.Option("--local_rank", hidden=True, help="Rank given by DeepSpeed's launcher.")]


@dataclass(frozen=True)
class ModelOptions:
    """Which model is loaded, and how."""

    model: ModelOption = "sample"
    dtype: DtypeOption = "auto"
    device: DeviceOption = "auto"

    def load(self, phases: Phases, ranks: int = 1, graphs: bool = False) -> LoadedModel:
        """Load the model, see load_model; the progress shows it. Raises InputError when it cannot be loaded."""
        from dresd_milvus.models.loading import load_model

        phases.phase(f"loading the model {self.model}", None, "")
        return load_model(self.model, self.dtype, self.device, ranks, graphs)


@dataclass(frozen=True)
class SamplingOptions:
    """How the target's tokens are picked; see make_sampler."""

    temperature: TemperatureOption = 0.0
    top_p: Annotated[
        float, typer.Option(help="Probability of the most likely tokens that are sampled from; 1 keeps all.")
    ] = 1.0
    top_k: Annotated[int, typer.Option(help="Number of most likely tokens that are sampled from; 0 keeps all.")] = 0
    min_p: Annotated[
        float,
        typer.Option(help="Least probability of a sampled token, as a share of the likeliest one's; 0 keeps all."),
    ] = 0.0
    repetition_penalty: Annotated[
        float, typer.Option(help="Penalty of tokens that are in prompt or answer already; 1 is none.")
    ] = 1.0
    seed: SeedOption = 0

    def sampler(self, text: int = 0) -> Sampler:
        """What picks the tokens of a text, whose number is added to the seed. Raises InputError for bad values."""
        from dresd_milvus.decoding.sampling import make_sampler

        filters = self.top_k, self.min_p, self.repetition_penalty
        return make_sampler(self.temperature, self.top_p, self.seed + text, *filters)


@dataclass(frozen=True)
class DecodingOptions(SamplingOptions):
    """How texts are decoded. nodes: draft nodes per step; None for what each system usually gets."""

    nodes: NodesOption = None
    depth: DepthOption = DEPTH


@dataclass(frozen=True, kw_only=True)
class LayoutOptions:
    """How rows lie in a collection. partitions: 0 but with partition_by 'token'."""

    index: IndexOption = "auto"
    vectors: Annotated[
        Literal["float32", "float16"],
        typer.Option(help="Number type of stored keys; float16 needs Milvus 2.4 or newer."),
    ] = "float32"
    partition_by: Annotated[
        Literal["none", "token", "source"],
        typer.Option(
            help="Partition of a row: by 'token' a search reads one only, by 'source' one is dropped at once."
        ),
    ] = "none"
    partitions: Annotated[
        int, typer.Option(min=1, max=1024, help="Number of partitions, with --partition-by token.")
    ] = 64

    def __post_init__(self) -> None:
        if self.partition_by != "token":
            object.__setattr__(self, "partitions", 0)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that its dataclasses declare.

    A parameter that is annotated with a dataclass stands for the dataclass's fields: each becomes an option, by its
    Annotated type and its default, and the command gets the dataclass made of them. A field may be such a dataclass.
    """
    hints, own = get_type_hints(command, include_extras=True), inspect.signature(command).parameters

    @functools.wraps(command)
    def run(**given: Any) -> None:
        command(**{name: _made(name, hints[name], given) for name in own})

    parameters = [option for p in own.values() for option in _options(p.name, hints[p.name], p.default)]
    parameters.sort(key=lambda p: p.default is not p.empty)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _options(name: str, kind: Any, default: Any) -> Iterator[inspect.Parameter]:
    """The parameters of one option, or of all fields of a dataclass."""
    if is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            given = inspect.Parameter.empty if field.default is MISSING else field.default
            yield from _options(field.name, hints[field.name], given)
    else:
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _made(name: str, kind: Any, given: Mapping[str, Any]) -> Any:
    """The value of an option, or the dataclass made of the values of its fields."""
    if not is_dataclass(kind):
        return given[name]
    hints, make = get_type_hints(kind, include_extras=True), cast(Callable[..., Any], kind)
    return make(**{field.name: _made(field.name, hints[field.name], given) for field in fields(kind)})
