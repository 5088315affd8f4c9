"""The errors a user can meet. Every message is one line: what is wrong, then what to do."""


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
