"""A store in Attu, by the calls of its SDK to a real server."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dresd_milvus.milvus import MilvusStore, admin
from dresd_milvus.milvus.schema import MANIFEST
from tests.milvus_server import ENVIRONMENT
from tests.oracle import example_manifest, example_projection, example_rows

SDK = ENVIRONMENT / "attu"


@pytest.mark.skipif(
    not (shutil.which("node") and (SDK / "node_modules").exists()), reason="Attu's SDK is not here: make server"
)
def test_attu_opens_a_store_and_a_person_understands_it(server_uri: str) -> None:
    manifest = example_manifest(source="the standard library", template="Question: {prompt}\n", index="HNSW")
    with MilvusStore.create(server_uri, "rows", manifest, example_projection()) as store:
        store.write(replace(example_rows(40), origin="json/encoder.py"))
        store.seal(manifest)
        admin.publish(store, "live")
    command = ["node", str(Path(__file__).with_name("attu.mjs")), str(SDK), server_uri.removeprefix("http://"), "rows"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)

    schema = seen["describeCollection"]["schema"]
    assert schema["description"].startswith("DReSD continuations: for a state of the model, the tokens")
    described = {field["name"]: field["description"] for field in schema["fields"]}
    assert set(described) == {"pk", "vector", "next_token", "next_tokens", "origin", "preview"}
    assert all(described.values())
    properties = {pair["key"]: pair["value"] for pair in seen["describeCollection"]["properties"]}
    assert json.loads(properties[MANIFEST])["source"] == "the standard library"
    assert seen["getLoadState"]["state"] == "LoadStateLoaded" and int(seen["count"]["data"]) == 40
    index = {pair["key"]: pair["value"] for pair in seen["describeIndex"]["index_descriptions"][0]["params"]}
    assert index["index_type"] == "HNSW" and index["metric_type"] == "IP"

    page = seen["query"]["data"]
    assert len(page) == 10 and all("⟶" in row["preview"] and row["origin"] == "json/encoder.py" for row in page)
    hits = seen["search"]["results"]
    assert len(hits) == 5 and hits[0]["score"] == pytest.approx(1.0, abs=1e-4) and hits[0]["preview"]
