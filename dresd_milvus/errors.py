"""The errors a user can meet. Every message is one line: what is wrong, then what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

OPTIONS = re.compile(r"(\b(?:dresd|llama-gguf-split) .*)|--([a-z][a-z-]*)")
"""Options in a message that are not part of a whole command."""


class DresdError(Exception):
    """Base of all expected failures; the command line prints it as one line and exits with 1."""


class InputError(DresdError):
    """What the user gave (a model, a file, an option) cannot be used."""


class StoreError(DresdError):
    """A collection, or the Milvus that holds it, cannot be used."""


class DamagedFileError(StoreError):
    """A file of rows is not what was written; it can be made again."""


class LostRowsError(StoreError):
    """A collection does not hold the number of rows that it was sent."""


class MismatchError(StoreError):
    """A store was built with another model, tokenizer, layer or projection than the one at hand."""


@contextmanager
def keywords() -> Iterator[None]:
    """Messages of the Python API name keywords (draft_model) where those of the command line name options
    (--draft-model)."""
    try:
        yield
    except DresdError as error:
        error.args = (OPTIONS.sub(lambda found: found[1] or found[2].replace("-", "_"), str(error)),)
        raise
