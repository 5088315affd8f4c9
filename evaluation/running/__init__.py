"""Running systems on prompts: harness, results, provenance."""
