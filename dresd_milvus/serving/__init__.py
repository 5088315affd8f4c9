"""Drafts for a serving engine: chains for all requests of a step, from the sources and the mixer of `hybrid`.

engine -> vllm_speculator (the only module that touches vLLM) -> drafting (all requests of a step) -> sessions (what is
kept of each request) and chain_budget (how long the chains may be).
"""
