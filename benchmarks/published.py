"""What others have published, as baselines: written again from its description, or called through its own package."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from dresd_milvus.decoding.protocols import Context, Step
from dresd_milvus.decoding.tree import DraftTree
from dresd_milvus.drafters.dense import Dense
from dresd_milvus.retrieval.replica import Replica
from dresd_milvus.retrieval.store import Hits
from dresd_milvus.retrieval.suffix_store import SuffixStore
from dresd_milvus.target.hf_target import HFTarget

DRAFT_ROWS, DRAFT_LENGTH = 10, 10
"""Rows and tokens of a draft of DReSD."""


@torch.inference_mode()
def dresd_loop(target: HFTarget, dense: Dense, ids: Sequence[int], max_new_tokens: int) -> list[int]:
    """Decode greedily with DReSD's loop, as its paper (arXiv 2502.15572, section 3) and code describe it.

    The nearest ten rows that begin with the last token are verified as a batch with a repeated cache, and the row with
    the longest match wins. ids: the prompt. Returns the new token ids.
    """
    model, tokens = target.model, list(ids)
    cache = DynamicCache(config=model.config)
    out = model(torch.tensor([tokens[:-1]]), past_key_values=cache, output_hidden_states=True, logits_to_keep=1)
    hidden = out.hidden_states[-1][0, -1]
    while len(tokens) - len(ids) < max_new_tokens and tokens[-1] not in target.eos_ids:
        hits = dense.store.search(dense.projection.query(hidden), np.array([tokens[-1]]), dense.neighbours)
        rows = hits.continuations[0][hits.continuations[0, :, 0] == tokens[-1]][:DRAFT_ROWS, 1 : DRAFT_LENGTH + 1]
        rows = np.where(rows < 0, tokens[-1], rows) if len(rows) else np.empty((1, 0), np.int32)
        batch = torch.tensor([[tokens[-1], *row] for row in rows.tolist()])
        repeated = copy.deepcopy(cache)
        repeated.batch_repeat_interleave(len(rows))
        out = model(batch, past_key_values=repeated, output_hidden_states=True)
        picks = out.logits.argmax(-1).numpy()
        right = (picks[:, :-1] == rows).cumprod(1).sum(1)
        best = int(right.argmax())
        new = picks[best, : right[best] + 1].tolist()
        end = next((at + 1 for at, token in enumerate(new) if token in target.eos_ids), len(new))
        repeated.batch_select_indices(torch.tensor([best]))
        repeated.crop(len(new) - batch.shape[1])
        cache, hidden = repeated, out.hidden_states[-1][best, right[best]]
        tokens += new[:end]
    return tokens[len(ids) : len(ids) + max_new_tokens]


class Oversampled:
    """A store that a nearest-neighbour library searches: over all rows, whatever their first token.

    find: (query [1, d], k) -> (row numbers [K], scores [K]).
    """

    def __init__(self, replica: Replica, find: Any) -> None:
        self.manifest, self.replica, self.find = replica.manifest, replica, find

    def search(self, queries: NDArray[np.float32], next_tokens: NDArray[np.int64] | None, k: int) -> Hits:
        rows, scores = self.find(queries, k)
        rows = np.asarray(rows)
        found = self.replica.rows
        return Hits(np.asarray(scores, np.float32)[None], found.pk[rows][None], found.continuations[rows][None])


def scann_search(replica: Replica) -> Any:
    """Search with ScaNN in the settings of DReSD: 5 sqrt(n) leaves, 250 of them searched, 250 hits reordered."""
    import scann

    keys, leaves = replica.rows.keys.vectors(), int(5 * np.sqrt(len(replica)))
    builder = scann.scann_ops_pybind.builder(keys, 50, "dot_product")
    builder = builder.tree(leaves, min(250, leaves), training_sample_size=len(keys))
    index = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(250).build()
    return lambda query, k: index.search(query[0], final_num_neighbors=k)


def faiss_search(replica: Replica) -> Any:
    """Search with HNSW of FAISS: 32 links, ef 128."""
    import faiss

    faiss.omp_set_num_threads(1)
    keys = replica.rows.keys.vectors()
    index = faiss.IndexHNSWFlat(keys.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = 128
    index.add(keys)

    def find(query: NDArray[np.float32], k: int) -> tuple[Any, Any]:
        scores, rows = index.search(query, k)
        return rows[0], scores[0]

    return find


class RestPackage:
    """Drafts with REST's own reader and its selection of paths (PyPI: draftretriever)."""

    name = "REST's package"

    def __init__(self, store: SuffixStore, texts: Sequence[NDArray[np.int32]], vocabulary: int, folder: Path) -> None:
        import draftretriever

        writer = draftretriever.Writer(str(folder / "rest.idx"), vocabulary)
        for text in texts:
            writer.add_entry(text.tolist())
        writer.finalize()
        del writer  # its destructor writes once more, and would panic after the folder was removed
        self.reader, self.store = draftretriever.Reader(str(folder / "rest.idx")), store

    def begin(self, prompt: Sequence[int]) -> None:
        pass

    def observe(self, step: Step) -> None:
        pass

    def draft(self, context: Context) -> DraftTree:
        root = context.tokens[-1]
        match = self.store.longest(context.tokens[-16:], 16)
        if match is None or match.length < 2 or context.max_nodes <= 0:
            return DraftTree.root_only(root, self.name)
        drafted = self.reader.search(list(context.tokens[-match.length :]), choices=context.max_nodes)[0]
        if not drafted:
            return DraftTree.root_only(root, self.name)
        paths = np.array(drafted, np.int32)
        paths[paths < 0] = -1
        # REST's tree is the union of these paths. What fits the budget is taken, in REST's order.
        weights = np.linspace(2, 1, len(paths))
        return DraftTree.from_paths(root, paths, weights, context.max_nodes, context.max_depth, self.name)


class SuffixDecoding:
    """Drafts with SuffixDecoding's own suffix trees (ArcticInference) of corpus and text; the higher score wins.

    core: the compiled module of ArcticInference's csrc/suffix_decoding.
    """

    name = "SuffixDecoding's core"

    def __init__(self, core: Any, texts: Sequence[NDArray[np.int32]]) -> None:
        self.core, self.corpus = core, core.SuffixTree(64)
        for number, text in enumerate(texts):
            self.corpus.extend(number, text.tolist())

    def begin(self, prompt: Sequence[int]) -> None:
        self.text = self.core.SuffixTree(64)
        self.text.extend(0, list(prompt))

    def observe(self, step: Step) -> None:
        self.text.extend(0, step.new.tolist())

    def draft(self, context: Context) -> DraftTree:
        if context.max_nodes <= 0 or context.max_depth <= 0:
            return DraftTree.root_only(context.tokens[-1], self.name)
        end = list(context.tokens[-64:])
        drafts = [tree.speculate(end, context.max_nodes, 4.0, 0.0, 0.0, True) for tree in (self.text, self.corpus)]
        best = max(drafts, key=lambda draft: draft.score)
        tokens, parents = [context.tokens[-1], *best.token_ids], [-1, *(parent + 1 for parent in best.parents)]
        return DraftTree(np.array(tokens, np.int32), np.array(parents, np.int32), self.name)
