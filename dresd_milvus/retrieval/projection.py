"""The projection of hidden states to keys: z-score, PCA to d dimensions, length 1 (DReSD, 2502.15572, section 3.2).

It is fitted in one pass over a stream of states. scikit-learn's StandardScaler keeps means and variances; the axes of
the PCA are eigenvectors of the correlation matrix, which the sum of the outer products gives exactly. (scikit-learn's
IncrementalPCA needs a second pass over scaled states and is an approximation: see docs/lab-log.md.)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dresd_milvus.errors import DamagedFileError, InputError, StoreError
from dresd_milvus.files.atomic import atomic_file
from dresd_milvus.files.digests import read_checked, write_checked

ROWS_AT_ONCE = 2048
"""States that are added at once while fitting; this bounds the memory of copies (64 MiB each at H = 4096)."""


@dataclass(frozen=True, eq=False)
class Projection:
    """Maps a hidden state [..., H] to a key [..., d]: normalise(weight @ hidden + bias). One matrix scales and rotates.

    weight: float32 [d, H]. bias: float32 [d]. explained: float32 [d], share of the variance that each axis explains.
    samples: number of states that it was fitted on. layer: hidden states that it projects ('last': the input of the
    output head).
    """

    weight: Tensor
    bias: Tensor
    explained: Tensor
    samples: int
    layer: str = "last"

    @property
    def dim(self) -> int:
        """d, dimensions of a key."""
        return self.weight.shape[0]

    @property
    def hidden_size(self) -> int:
        """H, size of a hidden state."""
        return self.weight.shape[1]

    def __call__(self, hidden: Tensor) -> Tensor:
        """Keys, float32 [..., d] of length 1, of hidden states [..., H] of any dtype; both on the same device."""
        keys = torch.nn.functional.linear(hidden.float(), self._on(hidden.device)[0], self._on(hidden.device)[1])
        return torch.nn.functional.normalize(keys, dim=-1)

    def query(self, states: Tensor) -> NDArray[np.float32]:
        """States [Q, H], or one [H], of any dtype and device -> their keys as queries [Q, d], on the host."""
        return self(states.reshape(-1, states.shape[-1])).cpu().numpy()

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._copies:
            self._copies[device] = (self.weight.to(device), self.bias.to(device))
        return self._copies[device]

    @cached_property
    def _copies(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        return {}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of layer, weight and bias, 16 hex digits: projections with the same fingerprint give the same keys."""
        digest = hashlib.sha256(self.layer.encode())
        for tensor in (self.weight, self.bias):
            digest.update(str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write projection.safetensors and then projection.json, whose existence shows that both are complete."""
        from safetensors.torch import save

        tensors = {"weight": self.weight, "bias": self.bias, "explained": self.explained}
        with atomic_file(folder / "projection.safetensors") as file:
            file.write(save(tensors))
        about = {
            "fingerprint": self.fingerprint,
            "hidden_size": self.hidden_size,
            "dim": self.dim,
            "layer": self.layer,
            "samples": self.samples,
            "explained_variance": round(float(self.explained.sum()), 6),
        }
        write_checked(folder / "projection.json", about)

    @classmethod
    def load(cls, folder: Path) -> Projection:
        """Read a projection from a folder; StoreError when it is missing or damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            about = read_checked(folder / "projection.json")
            tensors = load_file(folder / "projection.safetensors")
            projection = cls(**tensors, samples=about["samples"], layer=about["layer"])
        except FileNotFoundError as error:
            raise StoreError(f"there is no projection in {folder}; run the ingestion that builds it") from error
        except (ValueError, KeyError, TypeError, SafetensorError, DamagedFileError) as error:
            raise StoreError(f"the projection in {folder} is damaged; remove the folder and ingest again") from error
        if projection.fingerprint != about.get("fingerprint"):
            raise StoreError(f"the projection in {folder} is not the one its JSON names; ingest again")
        return projection


class ProjectionFit:
    """Fits a projection to a stream of hidden states: `add` them, then take the `result`.

    Memory: a float64 matrix [H, H] (134 MB at H = 4096), and the eigensolver's own.
    """

    def __init__(self, hidden_size: int) -> None:
        from sklearn.preprocessing import StandardScaler

        self._scaler = StandardScaler()
        self._products = torch.zeros(hidden_size, hidden_size, dtype=torch.float64)
        self._shift: Tensor | None = None

    @property
    def samples(self) -> int:
        """Number of states so far."""
        return int(getattr(self._scaler, "n_samples_seen_", 0))

    def add(self, hidden: Tensor) -> None:
        """Add states [n, H] of any dtype. Sums are float64, relative to the first batch's mean to keep digits."""
        for part in hidden.split(ROWS_AT_ONCE):
            states = part.double().cpu()
            if self._shift is None:
                self._shift = states.mean(0)
            self._scaler.partial_fit(states.numpy())
            states = states - self._shift  # a copy: float64 states may share memory with the caller's
            self._products.addmm_(states.T, states)

    def result(self, dim: int, layer: str = "last") -> Projection:
        """The projection to `dim` dimensions.

        Raises InputError when dim is larger than the hidden size or than the number of states.
        """
        from scipy.linalg import eigh

        size = len(self._products)
        check_dim(dim, size)
        if self.samples < dim:
            raise InputError(
                f"{self.samples} token states are too few to fit {dim} dimensions; ingest more text or lower --dim"
            )
        assert self._shift is not None
        mean, scale = np.asarray(self._scaler.mean_), np.asarray(self._scaler.scale_)
        offset = mean - self._shift.numpy()
        correlation = self._products.numpy() / self.samples
        correlation -= np.outer(offset, offset)
        correlation /= np.outer(scale, scale)
        values, axes = eigh(correlation, subset_by_index=[size - dim, size - 1], overwrite_a=True)
        values, axes = values[::-1], _fix_signs(axes[:, ::-1].T)
        weight = axes / scale
        varying = float(np.count_nonzero(np.asarray(self._scaler.var_)))  # each z-scored dimension has variance 1
        return Projection(
            weight=torch.from_numpy(weight.astype(np.float32)),
            bias=torch.from_numpy((-weight @ mean).astype(np.float32)),
            explained=torch.from_numpy((np.maximum(values, 0) / max(varying, 1.0)).astype(np.float32)),
            samples=self.samples,
            layer=layer,
        )


def check_dim(dim: int, hidden_size: int) -> None:
    """Raise InputError unless 1 <= dim <= hidden_size."""
    if not 1 <= dim <= hidden_size:
        raise InputError(
            f"cannot project hidden states of size {hidden_size} to {dim} dimensions; give --dim 1 to {hidden_size}"
        )


def _fix_signs(axes: NDArray[Any]) -> NDArray[Any]:
    """Make each axis's largest entry positive, so that the same stream always gives the same fingerprint."""
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1)
    return axes * np.where(largest < 0, -1.0, 1.0)
