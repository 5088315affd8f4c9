"""Evaluation: systems side by side on the same prompts, losslessness checked. Imports only `dresd_milvus`."""
