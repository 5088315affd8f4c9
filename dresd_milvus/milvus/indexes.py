"""The catalogue of indexes for the keys: parameters, server versions and search plans of each.

Defaults suit keys of 64 dimensions, 50 neighbours and one query at a time. Ranges are checked here, because a server
may take a parameter that is out of range and then never build the index (Milvus 2.3.5 does so with HNSW M=4096).
Sources: the Milvus index documentation and Knowhere's index configurations, 2026-11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from dresd_milvus.errors import InputError

Value = int | float | str | bool
Plan = Literal["filter", "partition", "oversample"]
Version = tuple[int, int, int]


class Parameter(NamedTuple):
    """One parameter of an index. low, high: range, both inclusive. choices: values of a text parameter. since: oldest
    server version that has it."""

    name: str
    default: Value
    low: float = 0
    high: float = 2**31 - 1
    choices: tuple[str, ...] = ()
    since: Version = (0, 0, 0)

    def parse(self, index: str, text: str) -> Value:
        """The value of a text; InputError when the text is no such value or out of range."""
        if self.choices:
            if text.upper() in self.choices:
                return text.upper()
            raise InputError(f"{index}: {self.name} is one of {', '.join(self.choices)}, not '{text}'")
        if isinstance(self.default, bool):
            if text.lower() in ("true", "false"):
                return text.lower() == "true"
            raise InputError(f"{index}: {self.name} is true or false, not '{text}'")
        try:
            value: Value = type(self.default)(text)
        except ValueError:
            raise InputError(f"{index}: {self.name} is a number, not '{text}'") from None
        if not self.low <= float(value) <= self.high:
            raise InputError(f"{index}: {self.name} must lie in [{self.low:g}, {self.high:g}], not {text}")
        return value


@dataclass(frozen=True)
class Index:
    """A kind of index.

    build, search: its parameters. since: oldest server version that has it. bytes_per_row(dim, itemsize, parameters):
    memory of one row in a loaded index. gpu: needs a GPU build. embedded: Milvus Lite has it. float16: takes float16
    keys. plans: how it can be searched, best first; 'filter' is missing where a very selective filter costs recall
    and speed. nearest: the index to use on a server that lacks this one. max_k: most neighbours of one search.
    """

    name: str
    build: tuple[Parameter, ...]
    search: tuple[Parameter, ...]
    since: Version
    bytes_per_row: Callable[[int, int, Mapping[str, Value]], float]
    gpu: bool = False
    embedded: bool = False
    float16: bool = True
    plans: tuple[Plan, ...] = ("filter", "oversample")
    nearest: str = "HNSW"
    max_k: int = 16_384

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All parameters."""
        return self.build + self.search


_NLIST = Parameter("nlist", 1024, 1, 65_536)
_NPROBE = Parameter("nprobe", 128, 1, 65_536)  # 32 of 1024 find 0.92 of the ten nearest under a filter, 128 0.98
_GRAPH = (Parameter("M", 16, 2, 2048), Parameter("efConstruction", 200, 1))
_EF = Parameter("ef", 128, 1, 32_768)

CATALOGUE: dict[str, Index] = {
    index.name: index
    for index in (
        Index("FLAT", (), (), (2, 0, 0), lambda d, b, p: d * b, embedded=True),
        Index("HNSW", _GRAPH, (_EF,), (2, 0, 0), lambda d, b, p: d * b + 8 * int(p["M"]) + 16, embedded=True),
        Index(
            "HNSW_SQ",
            (*_GRAPH, Parameter("sq_type", "SQ8", choices=("SQ6", "SQ8", "BF16", "FP16"))),
            (_EF,),
            (2, 5, 0),
            lambda d, b, p: d * {"SQ6": 0.75, "SQ8": 1.0}.get(str(p["sq_type"]), 2.0) + 8 * int(p["M"]) + 16,
            embedded=True,
        ),
        Index("IVF_FLAT", (_NLIST,), (_NPROBE,), (2, 0, 0), lambda d, b, p: d * b + 8, embedded=True),
        Index(
            "SCANN",
            (_NLIST, Parameter("with_raw_data", True)),
            (_NPROBE, Parameter("reorder_k", 200, 1)),
            (2, 3, 0),
            lambda d, b, p: d / 4 + 8 + (d * b if p["with_raw_data"] else 0),
            nearest="IVF_FLAT",
        ),
        Index(
            "DISKANN",
            (),
            (Parameter("search_list", 100, 1, 65_535),),
            (2, 2, 0),
            lambda d, b, p: d * b * 0.125 + d * b * 0.1,
        ),
        Index(
            "GPU_CAGRA",
            (
                Parameter("intermediate_graph_degree", 64, 2, 1024),
                Parameter("graph_degree", 32, 1, 1023),
                Parameter("build_algo", "NN_DESCENT", choices=("NN_DESCENT", "IVF_PQ", "ITERATIVE")),
            ),
            (
                Parameter("itopk_size", 128, 1, 1024),
                Parameter("search_width", 4, 1, 64),
                # One random sample a query, the default, leaves about 60 % recall above 100 k rows (milvus#49864).
                Parameter("num_random_samplings", 16, 1, 1024, since=(2, 6, 20)),
            ),
            (2, 4, 0),
            lambda d, b, p: d * b + 4 * int(p["graph_degree"]),
            gpu=True,
            plans=("oversample",),
            max_k=1024,
        ),
        Index("GPU_BRUTE_FORCE", (), (), (2, 4, 0), lambda d, b, p: d * b, gpu=True, nearest="FLAT", max_k=4096),
        Index(
            "GPU_IVF_FLAT",
            (_NLIST,),
            (_NPROBE,),
            (2, 3, 0),
            lambda d, b, p: d * b + 8,
            gpu=True,
            float16=False,  # servers refuse it until milvus#40603 is closed
            nearest="IVF_FLAT",
            max_k=1024,
        ),
        Index(
            "GPU_IVF_PQ",
            (_NLIST, Parameter("m", 32, 1, 65_536), Parameter("nbits", 8, 4, 8)),
            (_NPROBE,),
            (2, 3, 0),
            lambda d, b, p: int(p["m"]) * int(p["nbits"]) / 8 + 8,
            gpu=True,
            nearest="HNSW_SQ",
            max_k=1024,
        ),
    )
}


@dataclass(frozen=True)
class Chosen:
    """An index with values of all its parameters; as text 'HNSW' or 'HNSW:M=32,ef=200'."""

    index: Index
    values: dict[str, Value] = field(hash=False)

    @classmethod
    def parse(cls, text: str, dim: int) -> Chosen:
        """An index from text, with defaults for the parameters that the text omits. dim: dimensions of a key.

        Raises InputError for an unknown index or parameter and for a value out of range or at odds with another.
        """
        name, _, rest = text.partition(":")
        index = CATALOGUE.get(name.strip().upper())
        if index is None:
            raise InputError(f"there is no index '{name}'; use auto or one of {', '.join(CATALOGUE)}")
        known = {parameter.name: parameter for parameter in index.parameters}
        values = {parameter.name: parameter.default for parameter in index.parameters}
        for part in filter(None, rest.split(",")):
            key, _, value = (piece.strip() for piece in part.partition("="))
            if key not in known:
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                raise InputError(f"{index.name} has no parameter '{key}'; {takes}")
            values[key] = known[key].parse(index.name, value)
        if "nprobe" in values and "nprobe=" not in rest.replace(" ", ""):
            values["nprobe"] = min(int(values["nprobe"]), int(values["nlist"]))
        chosen = cls(index, values)
        chosen._check(dim)
        return chosen

    def _check(self, dim: int) -> None:
        value = self.values
        if self.index.name == "GPU_CAGRA" and int(value["graph_degree"]) >= int(value["intermediate_graph_degree"]):
            raise InputError("GPU_CAGRA: graph_degree must be smaller than intermediate_graph_degree")
        if self.index.name == "GPU_IVF_PQ" and dim % int(value["m"]):
            raise InputError(f"GPU_IVF_PQ: m must divide the {dim} dimensions of a key, {value['m']} does not")
        if "nprobe" in value and int(value["nprobe"]) > int(value["nlist"]):
            raise InputError(f"{self.index.name}: nprobe must not exceed nlist ({value['nlist']})")

    def __str__(self) -> str:
        given = ",".join(f"{name}={_text(value)}" for name, value in self.values.items())
        return f"{self.index.name}:{given}" if given else self.index.name

    def build_params(self) -> dict[str, Any]:
        """Parameters of the request that builds the index."""
        return {parameter.name: _text(self.values[parameter.name]) for parameter in self.index.build}

    def search_params(self, k: int, version: Version) -> dict[str, Any]:
        """Parameters of a request for k neighbours; InputError when k is larger than the index allows.

        Beam widths below k are raised to k, because an index that keeps fewer candidates cannot answer.
        """
        if k > self.index.max_k:
            raise InputError(f"{self.index.name} finds {self.index.max_k} neighbours at most, not {k}")
        found = {
            parameter.name: self.values[parameter.name] for parameter in self.index.search if version >= parameter.since
        }
        for beam in ("ef", "search_list", "itopk_size", "reorder_k"):
            if beam in found:
                found[beam] = max(int(found[beam]), k)
        return found

    def same_build(self, other: Chosen) -> bool:
        """Whether the other index is the same and has the same build parameters."""
        return self.index.name == other.index.name and self.build_params() == other.build_params()

    def bytes_per_row(self, dim: int, itemsize: int = 4) -> float:
        """Memory of one row in a loaded index, without its payload. itemsize: bytes of one coordinate of a key."""
        return self.index.bytes_per_row(dim, itemsize, self.values)


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
