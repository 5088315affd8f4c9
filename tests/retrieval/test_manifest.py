"""What a store says of itself, and what it refuses."""

from dataclasses import replace

import pytest

from dresd_milvus.errors import MismatchError, StoreError
from dresd_milvus.retrieval.store import Manifest
from tests.oracle import example_manifest


def test_a_manifest_names_every_difference() -> None:
    manifest = example_manifest()
    manifest.require(dim=8)
    with pytest.raises(MismatchError, match=r"its dim is 8, not 9; its projection is"):
        manifest.require(dim=9, projection="other")


def test_a_manifest_survives_json_and_refuses_a_newer_one() -> None:
    manifest = replace(example_manifest(), template="Q: {prompt}\n", rows=3, seal="s")
    assert Manifest.from_json(manifest.to_json()) == manifest
    with pytest.raises(StoreError, match="newer version"):
        Manifest.from_json(manifest.to_json().replace('"version": 1', '"version": 2'))
    with pytest.raises(StoreError, match="cannot be read"):
        Manifest.from_json("{")
