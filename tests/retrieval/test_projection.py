"""The projection: fitting a stream gives the same result as scikit-learn in memory; files are checked."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from dresd_milvus.errors import InputError, StoreError
from dresd_milvus.retrieval.projection import Projection, ProjectionFit
from tests.oracle import example_projection


def states(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Correlated states with a large mean and very different scales, as hidden states have."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator) * torch.logspace(0, -2, size)[:, None]
    scale = torch.logspace(-1, 2, size)
    return (torch.randn(count, size, generator=generator) @ mixing + 5) * scale


def fitted(hidden: torch.Tensor, dim: int, batch: int) -> Projection:
    fit = ProjectionFit(hidden.shape[1])
    for part in hidden.split(batch):
        fit.add(part)
    return fit.result(dim)


@given(batch=st.integers(1, 700), dim=st.integers(1, 24), seed=st.integers(0, 99))
def test_similarities_are_those_of_scikit_learn(batch: int, dim: int, seed: int) -> None:
    hidden = states(600, 24, seed)
    plain = make_pipeline(StandardScaler(), PCA(dim)).fit(hidden.double().numpy())
    expected = normalize(plain.transform(hidden[:50].double().numpy()))
    keys = fitted(hidden, dim, batch)(hidden[:50]).numpy()
    np.testing.assert_allclose(keys @ keys.T, expected @ expected.T, atol=1e-3)


def test_explained_variance_is_that_of_scikit_learn() -> None:
    hidden = states(500, 16)
    plain = PCA(16).fit(StandardScaler().fit_transform(hidden.double().numpy()))
    np.testing.assert_allclose(fitted(hidden, 16, 100).explained.numpy(), plain.explained_variance_ratio_, atol=1e-5)


def test_keys_have_norm_one_and_batching_changes_nothing() -> None:
    hidden = states(300, 20)
    whole, parts = fitted(hidden, 8, 300), fitted(hidden, 8, 7)
    np.testing.assert_allclose(whole(hidden).norm(dim=1).numpy(), 1, atol=1e-5)
    np.testing.assert_allclose(whole(hidden).numpy(), parts(hidden).numpy(), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_fitting_leaves_the_states_as_they_were(dtype: torch.dtype) -> None:
    hidden = states(50, 10).to(dtype)
    before = hidden.clone()
    fitted(hidden, 4, 20)
    assert torch.equal(hidden, before)


def test_a_constant_dimension_does_no_harm() -> None:
    hidden = states(300, 10)
    hidden[:, 3] = 7.0
    assert torch.isfinite(fitted(hidden, 4, 50)(hidden)).all()


def test_fingerprints_tell_projections_apart() -> None:
    assert example_projection(seed=0).fingerprint == example_projection(seed=0).fingerprint
    assert example_projection(seed=0).fingerprint != example_projection(seed=1).fingerprint


def test_save_and_load(tmp_path: Path) -> None:
    example_projection().save(tmp_path)
    assert Projection.load(tmp_path).fingerprint == example_projection().fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["projection.json", "projection.safetensors"]


def test_a_missing_a_damaged_and_a_foreign_projection_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no projection"):
        Projection.load(tmp_path)
    example_projection().save(tmp_path)
    whole = (tmp_path / "projection.safetensors").read_bytes()
    (tmp_path / "projection.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="damaged"):
        Projection.load(tmp_path)
    example_projection(seed=1).save(tmp_path / "other")
    (tmp_path / "projection.safetensors").write_bytes((tmp_path / "other/projection.safetensors").read_bytes())
    with pytest.raises(StoreError, match="not the one"):
        Projection.load(tmp_path)


def test_impossible_dimensions_are_refused() -> None:
    with pytest.raises(InputError, match="hidden states of size 10 to 11"):
        fitted(states(50, 10), 11, 50)
    with pytest.raises(InputError, match="too few"):
        fitted(states(5, 10), 8, 5)


@pytest.mark.parametrize("name", ["fingerprint", "samples", "layer"])
def test_a_key_that_was_changed_is_damage(tmp_path: Path, name: str) -> None:
    example_projection().save(tmp_path)
    path = tmp_path / "projection.json"
    path.write_text(path.read_text().replace(name, "x" + name[1:]))
    with pytest.raises(StoreError, match="is damaged"):
        Projection.load(tmp_path)
