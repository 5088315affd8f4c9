"""Where a model comes from: what --model may name, and the files that it stands for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dresd_milvus.errors import InputError
from dresd_milvus.models.gguf_file import FLOATS, check_file
from dresd_milvus.models.named import NAMED, conversion_note, on_hub, place

SAMPLE = "sample"
SAMPLE_FOLDER = Path(__file__).parents[1] / "sample"

HUB_SECONDS = 20.0
"""How long the hub may take to say whether it has a model."""


@dataclass(frozen=True)
class Checkpoint:
    """A model that can be read. where: a folder or a hub name, for transformers. file: in the folder, if it is a GGUF
    file. note: what was done to the weights, '' where they are the model's own.
    """

    name: str
    where: str
    file: str = ""
    note: str = ""

    @property
    def title(self) -> str:
        """The name as it is shown, with what was done to the weights."""
        return f"{self.name} ({self.note})" if self.note else self.name

    @property
    def how(self) -> dict[str, str]:
        """What transformers has to be told besides `where`."""
        return {"gguf_file": self.file} if self.file else {}

    @property
    def path(self) -> Path:
        """The GGUF file, or the folder of the files; of a hub name it is in the hub's cache, after loading."""
        from huggingface_hub import try_to_load_from_cache

        if self.file or Path(self.where).is_dir():
            return Path(self.where) / self.file
        cached = try_to_load_from_cache(self.where, "config.json")
        if not isinstance(cached, str):
            raise InputError(f"the files of the model '{self.name}' are not in the hub's cache")
        return Path(cached).parent


def find_checkpoint(name: str) -> Checkpoint:
    """What a name stands for: 'sample', a named model, a GGUF file, a folder, or a model on the hub.

    Raises InputError for a folder without a model, for a GGUF file that would be read wrongly, and for a name that the
    hub does not answer for. It is asked once and at once: loading would try again for most of a minute before it says
    that there is no network.
    """
    where = str(SAMPLE_FOLDER) if name == SAMPLE else place(name) if name in NAMED else name
    path = Path(where)
    if path.is_file():
        kind = check_file(path).kind
        return Checkpoint(name, str(path.parent), path.name, "" if kind in FLOATS else f"{kind}, dequantised")
    if path.is_dir():
        if not (path / "config.json").exists():
            raise InputError(f"the folder {name} holds no model: config.json is missing")
        return Checkpoint(name, where, note=conversion_note(path))
    if where.startswith((".", "/", "~")) or where.count("/") > 1 or where.endswith(".gguf"):
        raise InputError(f"there is no model folder or file {name}; give {KINDS}")
    try:
        return Checkpoint(name, on_hub(where, HUB_SECONDS))
    except Exception as error:  # whatever the hub's client of the day raises, it means one thing here
        raise cannot_load(name, error) from error


KINDS = f"a folder, a GGUF file, a hub name or one of {', '.join((SAMPLE, *NAMED))}"


def cannot_load(name: str, error: Exception) -> InputError:
    """One line for what a library says of a model that it cannot read."""
    lines = str(error).strip().splitlines() or [""]
    plain = isinstance(error, OSError | ValueError) and lines[0]
    reason = lines[0].rstrip(".:, ") if plain else f"{type(error).__name__} {lines[0]}".strip()
    return InputError(f"cannot load the model '{name}': {reason}; give {KINDS}")
