"""Where a model computes, and in which numbers."""

from __future__ import annotations

import pytest
import torch

from dresd_milvus.errors import InputError
from dresd_milvus.models.devices import DTYPES, pick_device, pick_dtype
from dresd_milvus.models.loading import load_model

CPU = torch.device("cpu")


def refusal(*arguments: str) -> str:
    """What load_model says when it refuses; checked to be one line."""
    with pytest.raises(InputError) as caught:
        load_model(*arguments)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


@pytest.mark.parametrize("dtype", ["float8", "int8", "Float32", ""])
def test_a_bad_dtype_is_refused(dtype):
    assert "float32" in refusal("sample", dtype, "cpu")


@pytest.mark.parametrize("device", ["nonsense", "", "cpu:x", "meta"])
def test_a_bad_device_is_refused(device):
    refusal("sample", "float32", device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_is_refused_where_there_is_none(device):
    assert "CUDA" in refusal("sample", "float32", device)


def test_auto_is_a_device_and_a_dtype_that_work():
    assert pick_device("auto").type in ("cpu", "cuda")
    assert pick_dtype("auto", CPU) in (torch.bfloat16, torch.float32)
    assert [pick_dtype(dtype, CPU) for dtype in DTYPES[1:]] == [getattr(torch, dtype) for dtype in DTYPES[1:]]


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16)])
def test_auto_is_bfloat16_on_a_gpu_that_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    assert pick_dtype("auto", torch.device("cuda")) == dtype


def test_auto_is_float32_on_a_processor_without_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    assert pick_dtype("auto", CPU) == torch.float32


def test_a_gpu_beyond_those_that_are_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="there is no device 'cuda:2': this machine has 2 CUDA devices"):
        pick_device("cuda:2")


def test_every_rank_of_a_launcher_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert pick_device("auto") == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert pick_device("auto") == torch.device("cuda:3")
