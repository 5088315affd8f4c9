"""The transformers model as the target: cache, tree masks, CUDA graphs, model families."""
