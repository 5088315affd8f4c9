"""Evaluation without decoding: teacher forcing, recordings and replays, studies, sweeps."""
