"""Dense retrieval for speculative decoding (DReSD, ACL Findings 2025) on Milvus.

The Python API; docs/api.md shows it with examples. Its module, and PyTorch with it, is imported when a name of it is
first used, so that `import dresd_milvus` and the command line's --help stay fast.
"""

from typing import TYPE_CHECKING

from dresd_milvus.errors import DresdError

__version__ = "0.2.0"

__all__ = [
    "DresdError",
    "LoadedModel",
    "Manifest",
    "PreparedDrafter",
    "Result",
    "Store",
    "generate",
    "ingest",
    "load_model",
    "make_drafter",
    "open_store",
    "stream",
]

if TYPE_CHECKING:
    from dresd_milvus.api import Store, ingest, load_model, make_drafter, open_store
    from dresd_milvus.models.loading import LoadedModel
    from dresd_milvus.retrieval.store import Manifest
    from dresd_milvus.systems.answering import Result, generate, stream
    from dresd_milvus.systems.prepared import PreparedDrafter
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from dresd_milvus import api

        return getattr(api, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
