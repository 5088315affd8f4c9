"""The errors that a user can meet. Every message is one line: what is wrong, then what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

OPTIONS = re.compile(r"(\b(?:dresd|llama-gguf-split) .*)|--([a-z][a-z-]*)")
"""Options in a message that are not part of a whole command."""


class DresdError(Exception):
    """Base class of all expected errors. The command line prints the message as one line and exits with 1."""


class InputError(DresdError):
    """An input of the user (a model, a file, an option) cannot be used."""


class StoreError(DresdError):
    """A collection, or the Milvus database that holds it, cannot be used."""


class DamagedFileError(StoreError):
    """A file of rows has another content than was written. It can be made again."""


class LostRowsError(StoreError):
    """A collection has other rows than were sent to it, or cannot be read at all."""


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
