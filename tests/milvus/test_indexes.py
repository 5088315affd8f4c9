"""The catalogue of indexes: names, ranges, the choice for a server, and the requests that reach it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymilvus.grpc_gen import common_pb2

from dresd_milvus.errors import DresdError, InputError, StoreError
from dresd_milvus.milvus.client.connection import connect, disconnect
from dresd_milvus.milvus.client.server import EXACT_ROWS, EXACT_ROWS_GPU, GRAPH_ROWS, Server
from dresd_milvus.milvus.indexes import CATALOGUE, Chosen
from dresd_milvus.milvus.search import OVERSAMPLE, Searcher
from tests.fakes import FakeMilvus
from tests.oracle import example_manifest

LITE = Server((0, 0, 0), embedded=True)
OLD, NEW = Server((2, 3, 5)), Server((3, 0, 2))
GPU, EARLY_GPU = Server((3, 0, 2), gpu=True), Server((2, 6, 15), gpu=True)


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_index_with_its_defaults_reads_back_from_its_name(name: str) -> None:
    chosen = Chosen.parse(name, 64)
    assert Chosen.parse(str(chosen), 64) == chosen
    assert 0 < chosen.bytes_per_row(64) < 1024
    assert set(chosen.index.plans) <= {"filter", "oversample"}


def test_fewer_lists_than_the_default_probes_are_all_probed() -> None:
    assert Chosen.parse("IVF_FLAT:nlist=16", 64).values["nprobe"] == 16


@given(st.sampled_from(sorted(CATALOGUE)), st.text(max_size=30))
def test_any_parameters_are_taken_or_refused_in_one_line(name: str, text: str) -> None:
    try:
        Chosen.parse(f"{name}:{text}", 64)
    except DresdError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("HNWS", "there is no index 'HNWS'; use auto or one of FLAT, HNSW"),
        ("HNSW:M=4096", r"HNSW: M must lie in \[2, 2048\], not 4096"),
        ("HNSW:M=many", "HNSW: M is a number"),
        ("HNSW:nlist=3", "HNSW has no parameter 'nlist'; it takes M, efConstruction, ef"),
        ("FLAT:M=3", "FLAT has no parameter 'M'; it takes none"),
        ("IVF_FLAT:nlist=16,nprobe=32", "nprobe must not exceed nlist"),
        ("GPU_IVF_PQ:m=7", "m must divide the 64 dimensions"),
        ("GPU_CAGRA:graph_degree=64", "graph_degree must be smaller than intermediate_graph_degree"),
        ("GPU_CAGRA:build_algo=BEST", "build_algo is one of NN_DESCENT"),
        ("HNSW_SQ:sq_type=SQ4", "sq_type is one of SQ6, SQ8"),
        ("SCANN:with_raw_data=perhaps", "with_raw_data is true or false"),
    ],
)
def test_wrong_parameters_are_refused_before_a_server_sees_them(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        Chosen.parse(text, 64)


@pytest.mark.parametrize(
    ("server", "rows", "name"),
    [
        (LITE, 10**6, "FLAT"),
        (OLD, EXACT_ROWS, "FLAT"),
        (OLD, EXACT_ROWS + 1, "HNSW"),
        (OLD, GRAPH_ROWS + 1, "HNSW"),  # it has no HNSW_SQ
        (NEW, GRAPH_ROWS + 1, "HNSW_SQ"),
        (GPU, EXACT_ROWS_GPU, "GPU_BRUTE_FORCE"),
        (GPU, EXACT_ROWS_GPU + 1, "GPU_CAGRA"),
    ],
)
def test_auto_suits_the_server_and_the_number_of_rows(server: Server, rows: int, name: str) -> None:
    assert server.choose("auto", rows, 64, float16=False).index.name == name


@pytest.mark.parametrize(
    ("server", "asked", "nearest"),
    [
        (NEW, "GPU_CAGRA", "is no GPU build of Milvus; the nearest it has is --index HNSW"),
        (OLD, "GPU_IVF_PQ", "is no GPU build of Milvus; the nearest it has is --index HNSW"),
        (NEW, "GPU_IVF_PQ", "the nearest it has is --index HNSW_SQ"),
        (OLD, "GPU_BRUTE_FORCE", "the nearest it has is --index FLAT"),
        (OLD, "HNSW_SQ", "it is Milvus 2.3.5; the nearest it has is --index HNSW"),
        (LITE, "DISKANN", "it is Milvus Lite; the nearest it has is --index HNSW"),
    ],
)
def test_an_index_that_the_server_lacks_names_the_nearest(server: Server, asked: str, nearest: str) -> None:
    with pytest.raises(StoreError, match=f"this server has no {asked}, .*{nearest}$"):
        server.choose(asked, 1000, 64, float16=False)


def test_half_precision_needs_a_server_and_an_index_that_take_it() -> None:
    assert NEW.choose("HNSW", 1, 64, float16=True)
    for server, index in ((OLD, "HNSW"), (LITE, "FLAT"), (GPU, "GPU_IVF_FLAT")):
        with pytest.raises(StoreError, match="does not take float16 keys; give --vectors float32"):
            server.choose(index, 1, 64, float16=True)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("v2.3.5-lite", Server((2, 3, 5))),
        ("v3.0.2-gpu", Server((3, 0, 2), gpu=True)),
        ("2.6", Server((2, 6, 0))),
        ("master-20260919-abc-gpu", Server((99, 0, 0), gpu=True)),
    ],
)
def test_a_server_is_known_by_what_it_says(version: str, expected: Server) -> None:
    with FakeMilvus(version) as fake:
        client = connect(fake.uri)
        assert Server.of(client, fake.uri) == expected
        disconnect(client, fake.uri)


def searched(server: Server, index: str, k: int, plan: str, token: int | None = 7, **layout: object):
    """The request that reaches a server, and its parameters."""
    with FakeMilvus("v9") as fake:
        manifest = example_manifest(64, **layout)
        searcher = Searcher(fake.uri, "", "rows", manifest, Chosen.parse(index, 64), server.version, plan)
        key = np.linspace(-1, 1, 64, dtype=np.float32)[None]
        hits = searcher(key, None if token is None else np.array([token]), k)
        searcher.close()
        assert np.isneginf(hits.scores).all()
        request = fake.searches[0]
        sent = common_pb2.PlaceholderGroup.FromString(request.placeholder_group).placeholders[0]
        dtype = np.float16 if layout.get("vectors") == "float16" else np.float32
        np.testing.assert_array_equal(np.frombuffer(sent.values[0], dtype), key[0].astype(dtype))
        params = {pair.key: pair.value for pair in request.search_params}
        return request, sent, params, json.loads(params["params"])


def test_a_filtered_request_asks_for_rows_of_the_first_token() -> None:
    request, _, params, inner = searched(OLD, "HNSW:ef=64", 50, "filter")
    assert request.dsl == "next_token == 7" and list(request.output_fields) == ["next_tokens"]
    assert params["topk"] == "50" and params["metric_type"] == "IP" and inner["ef"] == 64
    assert request.consistency_level == common_pb2.ConsistencyLevel.Value("Eventually")


def test_an_oversampled_request_asks_for_more_rows_of_any_token() -> None:
    request, _, params, inner = searched(OLD, "HNSW:ef=64", 50, "oversample")
    assert request.dsl == "" and params["topk"] == str(50 * OVERSAMPLE)
    assert inner["ef"] == 50 * OVERSAMPLE  # a beam narrower than what is asked for cannot answer
    assert searched(OLD, "HNSW", 50, "oversample", token=None)[2]["topk"] == "50"


def test_cagra_draws_enough_starting_points_where_the_server_knows_how() -> None:
    assert searched(GPU, "GPU_CAGRA", 50, "oversample")[3]["num_random_samplings"] == 16
    assert "num_random_samplings" not in searched(EARLY_GPU, "GPU_CAGRA", 50, "oversample")[3]
    inner = searched(GPU, "GPU_CAGRA", 50, "oversample")[3]
    assert inner["itopk_size"] >= 200 and max(inner["itopk_size"], 32 * inner["search_width"]) >= 200
    with pytest.raises(InputError, match="finds 1024 neighbours at most"):
        searched(GPU, "GPU_CAGRA", 2000, "oversample", token=None)


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name.startswith("GPU_")])
def test_gpu_requests_are_well_formed(name: str) -> None:
    plan = CATALOGUE[name].plans[0]
    _, sent, params, inner = searched(GPU, name, 50, plan)
    assert params["metric_type"] == "IP" and int(params["topk"]) <= CATALOGUE[name].max_k
    assert set(inner) >= {parameter.name for parameter in CATALOGUE[name].search}
    assert sent.type == common_pb2.PlaceholderType.Value("FloatVector")


def test_half_precision_keys_are_sent_in_half_precision() -> None:
    assert searched(NEW, "HNSW", 5, "filter", vectors="float16")[1].type == 102  # PlaceholderType.Float16Vector
