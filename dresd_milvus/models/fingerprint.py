"""Fingerprints of models and tokenizers: 16 hexadecimal digits that say whether two of them are the same.

A model's fingerprint is made of its checkpoint's files. They are the same for every dtype, number of ranks and engine
that the checkpoint is loaded with; loaded weights are not.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch

from dresd_milvus.errors import InputError
from dresd_milvus.models.gguf_file import read_header

SAMPLES = 4
"""Pieces that are read of every tensor, at equal distances from its first byte to its last."""

SAMPLE_BYTES = 64
"""Bytes of a piece."""


class StoredTensor(NamedTuple):
    """A tensor in a file. form: its dtype and shape. begin, size: its place in the file, in bytes."""

    name: str
    form: str
    file: Path
    begin: int
    size: int


def checkpoint_fingerprint(path: Path) -> str:
    """The fingerprint of a checkpoint, which is a folder or a GGUF file.

    It is a hash of names, dtypes, shapes and some bytes of all tensors, however they are divided into shards. For a
    folder without safetensors it is a hash of the names, sizes and CRC-32 sums inside the files of `torch.save`, which
    cover every byte. Raises InputError for a folder with neither, and for a damaged file.
    """
    digest = hashlib.sha256()
    try:
        if path.is_dir() and not _weights(path, "model.safetensors"):
            for line in _in_torch_files(_weights(path, "pytorch_model.bin")):
                digest.update(line)
        else:
            for tensor in sorted(_in_gguf(path) if path.is_file() else _in_safetensors(path)):
                digest.update(f"{tensor.name} {tensor.form} {tensor.size}\n".encode())
                with tensor.file.open("rb") as file:
                    digest.update(_pieces(file, tensor))
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"the weights in {path} cannot be read: {error}; fetch them again") from error
    return digest.hexdigest()[:16]


def weight_files(folder: Path) -> list[Path]:
    """The files of a checkpoint's weights; [] if there are none, or if one of them is missing."""
    files = _weights(folder, "model.safetensors") or _weights(folder, "pytorch_model.bin")
    return files if all(file.exists() for file in files) else []


def _weights(folder: Path, name: str) -> list[Path]:
    """The file `name` of a folder, or the shards that `name`.index.json lists; [] if there is neither."""
    if (folder / name).exists():
        return [folder / name]
    index = folder / f"{name}.index.json"
    shards = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else set()
    return [folder / shard for shard in sorted(shards)]


def _in_safetensors(folder: Path) -> Iterator[StoredTensor]:
    for path in _weights(folder, "model.safetensors"):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, path.stat().st_size)))
        for name, tensor in header.items():
            if name != "__metadata__":
                begin, end = tensor["data_offsets"]
                yield StoredTensor(name, f"{tensor['dtype']} {tensor['shape']}", path, 8 + length + begin, end - begin)


def _in_gguf(path: Path) -> Iterator[StoredTensor]:
    for name, kind, shape, begin, size in read_header(path).tensors:
        yield StoredTensor(name, f"{kind} {list(shape)}", path, begin, size)


def _pieces(file: BinaryIO, tensor: StoredTensor) -> bytes:
    """SAMPLES pieces of a tensor's bytes, or all of a small tensor; ValueError if the file ends before."""
    if tensor.size <= SAMPLES * SAMPLE_BYTES:
        starts, length = [0], tensor.size
    else:
        starts, length = [at * (tensor.size - SAMPLE_BYTES) // (SAMPLES - 1) for at in range(SAMPLES)], SAMPLE_BYTES
    found = b""
    for start in starts:
        file.seek(tensor.begin + start)
        found += file.read(length)
    if len(found) < length * len(starts):
        raise ValueError(f"{tensor.file.name} ends within the tensor {tensor.name}")
    return found


def _in_torch_files(files: list[Path]) -> Iterator[bytes]:
    """The bytes to hash of files of `torch.save`: the directory of a zip file, some pieces of an older file."""
    if not files:
        raise ValueError("there is neither model.safetensors nor pytorch_model.bin")
    for path in files:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                yield _pieces(file, StoredTensor(path.name, "", path, 0, path.stat().st_size))
            continue
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                yield f"{path.name} {entry.filename.partition('/')[2]} {entry.file_size} {entry.CRC}\n".encode()


def weights_fingerprint(model: Any) -> str:
    """A fingerprint of loaded weights: the architecture and up to 64 numbers of every tensor, rounded to bfloat16.

    Earlier versions identified models by it. Models without a file are still identified so.
    """
    digest = hashlib.sha256(model.config.model_type.encode())
    for name, tensor in model.state_dict().items():
        flat = tensor.detach().reshape(-1)
        last = flat.numel() - 1
        # linspace computes in float32, which rounds indices above 2^24: the last could lie behind the tensor's end.
        places = torch.linspace(0, last, min(64, flat.numel()), device=flat.device).long().clamp(max=last)
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(flat[places].to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def tokenizer_hash(tokenizer: Any) -> str:
    """The fingerprint of a tokenizer: a hash of its vocabulary and special tokens."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0]))
    content = json.dumps([vocabulary, sorted(map(str, tokenizer.special_tokens_map.items()))])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
