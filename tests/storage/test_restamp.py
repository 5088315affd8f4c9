"""Stores and runs of an earlier version, whose model fingerprint is of the loaded weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dresd_milvus.errors import InputError, MismatchError
from dresd_milvus.milvus import MilvusStore
from dresd_milvus.models.checkpoint import SAMPLE_FOLDER
from dresd_milvus.models.loading import LoadedModel, load_model
from dresd_milvus.storage.opening import open_retrieval, restamp
from ingestion.run import Run
from tests.helpers import dresd
from tests.samples import build, write_corpus

NOTE = "dresd store restamp"


@pytest.fixture(scope="module")
def built(sample: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of an earlier version and its run."""
    folder = tmp_path_factory.mktemp("built")
    build(sample, write_corpus(folder / "corpus.jsonl", 8), folder / "a.db")
    with MilvusStore.open(str(folder / "a.db"), "code") as store:
        store.save(replace(store.manifest, model_fingerprint=sample.weights_fingerprint))
    return folder


@pytest.fixture
def uri(built: Path, tmp_path: Path) -> str:
    """A copy of that store, to change."""
    return str(shutil.copytree(built, tmp_path / "copy") / "a.db")


def test_a_store_of_the_version_before_opens_with_a_line_and_is_stamped_anew_by_a_command(
    sample: LoadedModel, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    open_retrieval(uri, "code", sample).close()
    assert capsys.readouterr().err.count(NOTE) == 1
    command = ["store", "restamp", "--uri", uri, "--collection", "code", "--model", "sample"]
    done = dresd(capsys, *command)
    assert (done.code, done.out.strip()) == (0, "code knows sample by its files") and NOTE not in done.err
    with MilvusStore.open(uri, "code") as store:
        assert store.manifest.model_fingerprint == sample.fingerprint
    open_retrieval(uri, "code", sample).close()
    assert NOTE not in capsys.readouterr().err
    assert dresd(capsys, *command).out.strip() == "code knows sample by its files already"


def test_a_store_of_another_model_is_not_stamped(sample: LoadedModel, uri: str) -> None:
    other = load_model(str(SAMPLE_FOLDER / "draft"), "float32", "cpu")
    with MilvusStore.open(uri, "code") as store:
        with pytest.raises(MismatchError, match="model fingerprint"):
            restamp(store, other)
        assert store.manifest.model_fingerprint == sample.weights_fingerprint


def test_a_run_of_the_version_before_goes_on(sample: LoadedModel, uri: str) -> None:
    folder = Path(uri).with_suffix(".run")
    about = json.loads((folder / "model.json").read_text())
    del about["digest"]
    assert about == {
        "name": "sample", "model": sample.fingerprint, "tokenizer": sample.tokenizer_hash, "dtype": "float32"
    }  # fmt: skip
    del about["name"]
    (folder / "model.json").write_text(json.dumps({**about, "model": sample.weights_fingerprint}))
    assert Run.open(folder, model=sample).model is sample
    assert json.loads((folder / "model.json").read_text())["model"] == sample.fingerprint
    (folder / "model.json").write_text(json.dumps({**about, "model": "another"}))
    with pytest.raises(InputError, match="begun with another model: model was another"):
        _ = Run.open(folder, model=sample).model
