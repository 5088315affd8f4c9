"""The hybrid drafter: one draft tree from several sources."""

from dresd_milvus.drafters.hybrid.drafter import PRIOR, Hybrid, Source

__all__ = ["PRIOR", "Hybrid", "Source"]
