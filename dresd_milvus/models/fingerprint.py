"""What a model and a tokenizer are, in 16 letters: of a model, by its checkpoint's files.

Files are the same for every dtype, number of ranks and engine that a checkpoint is loaded with; loaded weights are not.
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

PIECES = 4
PIECE = 64
"""So many pieces of so many bytes are read of every tensor, from its first byte to its last, evenly apart."""


class Stored(NamedTuple):
    """A tensor in a file. about: its dtype and shape; begin, size: where its bytes are."""

    name: str
    about: str
    file: Path
    begin: int
    size: int


def checkpoint_fingerprint(path: Path) -> str:
    """A short hash of a checkpoint, a folder or a GGUF file: names, dtypes, shapes and some bytes of its tensors.

    How they are divided into shards does not matter. Of a folder without safetensors, the files of `torch.save` count
    by the names, sizes and CRC-32 sums of what is in them, which cover every byte. Raises InputError for a folder with
    neither, and for a file that is damaged.
    """
    digest = hashlib.sha256()
    try:
        if path.is_dir() and not _weights(path, "model.safetensors"):
            for line in _saved(_weights(path, "pytorch_model.bin")):
                digest.update(line)
        else:
            for tensor in sorted(_in_gguf(path) if path.is_file() else _in_safetensors(path)):
                digest.update(f"{tensor.name} {tensor.about} {tensor.size}\n".encode())
                with tensor.file.open("rb") as file:
                    digest.update(_pieces(file, tensor))
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"the weights in {path} cannot be read: {error}") from error
    return digest.hexdigest()[:16]


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a checkpoint's weights; [] where there are none, or some of them are missing."""
    files = _weights(folder, "model.safetensors") or _weights(folder, "pytorch_model.bin")
    return files if all(file.exists() for file in files) else []


def _weights(folder: Path, name: str) -> list[Path]:
    """The files of a checkpoint whose weights are in `name`, or in the shards that `name`.index.json lists."""
    if (folder / name).exists():
        return [folder / name]
    index = folder / f"{name}.index.json"
    shards = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else set()
    return [folder / shard for shard in sorted(shards)]


def _in_safetensors(folder: Path) -> Iterator[Stored]:
    for path in _weights(folder, "model.safetensors"):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, path.stat().st_size)))
        for name, tensor in header.items():
            if name != "__metadata__":
                begin, end = tensor["data_offsets"]
                yield Stored(name, f"{tensor['dtype']} {tensor['shape']}", path, 8 + length + begin, end - begin)


def _in_gguf(path: Path) -> Iterator[Stored]:
    for name, kind, shape, begin, size in read_header(path).tensors:
        yield Stored(name, f"{kind} {list(shape)}", path, begin, size)


def _pieces(file: BinaryIO, tensor: Stored) -> bytes:
    if tensor.size <= PIECES * PIECE:
        starts, length = [0], tensor.size
    else:
        starts, length = [at * (tensor.size - PIECE) // (PIECES - 1) for at in range(PIECES)], PIECE
    found = b""
    for start in starts:
        file.seek(tensor.begin + start)
        found += file.read(length)
    if len(found) < length * len(starts):
        raise ValueError(f"{tensor.file.name} ends within the tensor {tensor.name}")
    return found


def _saved(files: list[Path]) -> Iterator[bytes]:
    """What tells files of `torch.save` apart: of a zip its directory, of an older file some of its bytes."""
    if not files:
        raise ValueError("there is neither model.safetensors nor pytorch_model.bin")
    for path in files:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                yield _pieces(file, Stored(path.name, "", path, 0, path.stat().st_size))
            continue
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                yield f"{path.name} {entry.filename.partition('/')[2]} {entry.file_size} {entry.CRC}\n".encode()


def weights_fingerprint(model: Any) -> str:
    """A short hash of loaded weights: what fingerprints were before they were made of files, and of models without one.

    The architecture, and up to 64 places of every tensor, in float32 and rounded to bfloat16.
    """
    digest = hashlib.sha256(model.config.model_type.encode())
    for name, tensor in model.state_dict().items():
        flat = tensor.detach().reshape(-1)
        last = flat.numel() - 1
        # float32 says 2^24 and smaller places exactly, so a larger tensor's last place can come out behind its end.
        places = torch.linspace(0, last, min(64, flat.numel()), device=flat.device).long().clamp(max=last)
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(flat[places].to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def tokenizer_hash(tokenizer: Any) -> str:
    """A short hash of the vocabulary and the special tokens."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0]))
    content = json.dumps([vocabulary, sorted(map(str, tokenizer.special_tokens_map.items()))])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
