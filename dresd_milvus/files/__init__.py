"""Atomic writing, and the cache folder."""
