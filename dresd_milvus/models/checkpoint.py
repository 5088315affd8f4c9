"""Checkpoints: the files that a value of --model stands for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dresd_milvus.errors import InputError
from dresd_milvus.models.gguf_file import FLOATS, check_gguf
from dresd_milvus.models.named import NAMED, conversion_note, resolve_hub, resolve_named

SAMPLE = "sample"
SAMPLE_FOLDER = Path(__file__).parents[1] / "sample"

HUB_SECONDS = 20.0
"""Time limit for the hub's answer whether it has a model."""


@dataclass(frozen=True)
class Checkpoint:
    """The files of a model.

    name: the value of --model. location: a folder or a hub name, as transformers accepts it. file: a GGUF file in that
    folder, '' for other formats. note: how the weights were converted, '' for original weights.
    """

    name: str
    location: str
    file: str = ""
    note: str = ""

    @property
    def display_name(self) -> str:
        """The name for people and results: with the note on converted weights."""
        return f"{self.name} ({self.note})" if self.note else self.name

    @property
    def load_options(self) -> dict[str, str]:
        """Arguments of transformers' `from_pretrained` besides the location."""
        return {"gguf_file": self.file} if self.file else {}

    @property
    def path(self) -> Path:
        """The GGUF file or the folder of the checkpoint. A hub name is found in the hub's cache once it was loaded.

        Raises InputError for a hub name that is not in the cache.
        """
        from huggingface_hub import try_to_load_from_cache

        if self.file or Path(self.location).is_dir():
            return Path(self.location) / self.file
        cached = try_to_load_from_cache(self.location, "config.json")
        if not isinstance(cached, str):
            raise InputError(f"the files of the model '{self.name}' are not in the hub's cache; load it again")
        return Path(cached).parent


def find_checkpoint(name: str) -> Checkpoint:
    """The checkpoint that a value of --model stands for: 'sample', a named model, a GGUF file, a folder or a hub name.

    Raises InputError for a folder without a model, for a GGUF file that transformers would read wrongly, and for a name
    that the hub does not have. The hub is asked once, with a time limit: without a network, loading would retry for
    most of a minute.
    """
    location = str(SAMPLE_FOLDER) if name == SAMPLE else resolve_named(name) if name in NAMED else name
    path = Path(location)
    if path.is_file():
        kind = check_gguf(path).kind
        return Checkpoint(name, str(path.parent), path.name, "" if kind in FLOATS else f"{kind}, dequantised")
    if path.is_dir():
        if not (path / "config.json").exists():
            raise InputError(f"the folder {name} holds no model: config.json is missing; give {ACCEPTED}")
        return Checkpoint(name, location, note=conversion_note(path))
    if location.startswith((".", "/", "~")) or location.count("/") > 1 or location.endswith(".gguf"):
        raise InputError(f"there is no model folder or file {name}; give {ACCEPTED}")
    try:
        return Checkpoint(name, resolve_hub(location, HUB_SECONDS))
    except Exception as error:  # the exceptions differ between versions of the hub's client
        raise cannot_load(name, error) from error


ACCEPTED = f"a folder, a GGUF file, a hub name or one of {', '.join((SAMPLE, *NAMED))}"
"""The values of --model, for messages."""


def cannot_load(name: str, error: Exception) -> InputError:
    """A one-line InputError from the exception of a library that cannot read a model."""
    lines = str(error).strip().splitlines() or [""]
    plain = isinstance(error, OSError | ValueError) and lines[0]
    reason = lines[0].rstrip(".:, ") if plain else f"{type(error).__name__} {lines[0]}".strip()
    return InputError(f"cannot load the model '{name}': {reason}; give {ACCEPTED}")
