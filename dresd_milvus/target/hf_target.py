"""A transformers model as the target of the decoding loop, and the batched passes that ingestion needs of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from itertools import takewhile
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from dresd_milvus.decoding.scores import Scored
from dresd_milvus.decoding.tree import DraftTree, Int64
from dresd_milvus.target.cache import TreeCache
from dresd_milvus.target.cuda_graphs import CudaGraphRunner
from dresd_milvus.target.families import attention_windows, head_to_logits, longrope_border, refuse_unsupported
from dresd_milvus.target.tree_mask import ModelInputs, tree_inputs

Method = TypeVar("Method", bound=Callable[..., Any])


def inference_mode(method: Method) -> Method:
    """Run a method in torch's inference mode.

    Unlike torch's decorator it does not enter the mode twice: the loop has entered it, and a second entry at every step
    takes longer than making the tree's masks.
    """

    @wraps(method)
    def wrapped(*args: Any, **keywords: Any) -> Any:
        if torch.is_inference_mode_enabled():
            return method(*args, **keywords)
        with torch.inference_mode():
            return method(*args, **keywords)

    return cast(Method, wrapped)


class HFTarget:
    """A decoder-only transformers model that implements the Target protocol.

    The hidden state is the input of the output head, read by a hook, so that it means the same for every architecture.
    Attention masks are 4-D, which SDPA and eager attention accept.

    model: a causal language model of transformers. eos_ids: tokens that end a text. cuda_graphs: verify trees in
    passes of fixed shapes, which are CUDA graphs on a GPU (see cuda_graphs).
    Raises InputError for a family on which trees cannot be verified exactly.
    """

    def __init__(self, model: Any, eos_ids: frozenset[int], cuda_graphs: bool = False) -> None:
        refuse_unsupported(model.config)
        self.model = model.eval()
        self.eos_ids = eos_ids
        config = model.config.get_text_config()
        self.family: str = config.model_type
        self.vocab_size: int = config.vocab_size
        # Some OPT models project hidden states to the narrower embeddings before the output head.
        self.hidden_size: int = getattr(config, "word_embed_proj_dim", None) or config.hidden_size
        self.context: int = config.max_position_embeddings
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self._on_cuda = self.device.type == "cuda"
        self._layers: int = config.num_hidden_layers
        self._cache = TreeCache(self._layers)
        self._committed: list[int] = []  # token ids, a row of the cache each
        self._tree = DraftTree.root_only(0)
        self._windows = attention_windows(config)
        self._border = longrope_border(config)
        shapes = (self._windows, self.device, self.dtype, self._on_cuda)
        self.cuda_graphs = CudaGraphRunner(self._forward, self._cache, *shapes) if cuda_graphs else None
        # transformers 5.24 renames the argument.
        self._cache_name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        self._head_input: Tensor | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._store_head_input)

    def _store_head_input(self, _module: Any, args: tuple[Tensor, ...]) -> None:
        self._head_input = args[0]

    @inference_mode
    def prefill(self, tokens: Sequence[int], reuse_prefix: bool = False) -> Tensor | None:
        known = self._shared_prefix(tokens) if reuse_prefix else 0
        self.truncate(known)
        if not tokens:
            return None
        # The next token lies beyond the border of longrope. One more token makes this pass use the long factors too.
        beyond = [tokens[-1]] if len(tokens) == self._border else []
        ids = torch.as_tensor([*tokens[known:], *beyond], dtype=torch.long, device=self.device)[None]
        positions = torch.arange(known, len(tokens) + len(beyond), device=self.device)[None]
        scored = self._forward(ModelInputs(ids, positions, None), logits_to_keep=1 + len(beyond))
        self._cache.length = len(tokens)
        self._committed = list(tokens)
        self._synchronize()
        return scored.hidden[0]

    def _shared_prefix(self, tokens: Sequence[int]) -> int:
        """The number of committed tokens with which these begin. Their last never counts: its state is computed anew.

        0 with longrope, where a longer text may need other factors for all of its tokens.
        """
        if self._border is not None:
            return 0
        shared = zip(self._committed, tokens[:-1], strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], shared))

    @inference_mode
    def verify(self, tree: DraftTree) -> Scored:
        start = self._cache.length
        if self.cuda_graphs is not None and self.cuda_graphs.fits(tree):
            scored = self.cuda_graphs(tree, start)
        else:
            inputs = tree_inputs(tree, start, self._windows, self.device, self.dtype)
            scored = self._forward(inputs if len(tree) else inputs._replace(masks=None))
        self._synchronize()
        self._tree = tree
        return scored

    def commit(self, path: Int64) -> None:
        self._cache.commit(path)
        self._committed += self._tree.tokens[path].tolist()

    def context_left(self, prompt: int) -> int:
        """The most tokens that may follow a prompt of this length: up to the end of the context, and with longrope not
        across its border (see longrope_border)."""
        if self._border is not None and prompt <= self._border:
            return self._border + 1 - prompt  # the last token of a text does not go through the model
        return self.context - prompt

    def truncate(self, length: int) -> None:
        """Drop all but the first `length` committed tokens."""
        del self._committed[length:]
        self._cache.length = min(length, self._cache.length)

    @torch.inference_mode()
    def embed(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states [B, T, H] of texts [B, T], padded on the right; without the output head and without the cache.

        attention_mask: [B, T], 1 for tokens and 0 for padding.
        """
        tokens, attention_mask = tokens.to(self.device), attention_mask.to(self.device)
        body = self.model.base_model
        return body(input_ids=tokens, attention_mask=attention_mask, use_cache=False).last_hidden_state

    @torch.inference_mode()
    def embed_layers(self, tokens: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Hidden states [B, T, H] of every layer: first the token embeddings, last what `embed` returns.

        Arguments: see `embed`.
        """
        tokens, attention_mask = tokens.to(self.device), attention_mask.to(self.device)
        body = self.model.base_model
        output = body(input_ids=tokens, attention_mask=attention_mask, use_cache=False, output_hidden_states=True)
        return (*output.hidden_states[:-1], output.last_hidden_state)

    @torch.inference_mode()
    def score(self, hidden: Tensor) -> Tensor:
        """Logits [N, V] of hidden states [N, H], the inputs of the output head."""
        output = self.model.get_output_embeddings()(hidden.to(self.device, self.dtype))
        return head_to_logits(output, self.model.config)

    @torch.inference_mode()
    def generate_batch(
        self, tokens: Tensor, attention_mask: Tensor, max_new_tokens: int, pad: int, **options: Any
    ) -> Tensor:
        """Continue a batch of prompts without drafts; returns prompts and continuations [B, T + max_new_tokens].

        There are fewer columns if all texts end before. tokens: prompts [B, T], padded on the left. attention_mask:
        [B, T], 1 for tokens and 0 for padding. pad: token id behind a text that has ended. options: of transformers'
        `generate`.
        """
        return self.model.generate(
            tokens.to(self.device),
            attention_mask=attention_mask.to(self.device),
            max_new_tokens=max_new_tokens,
            pad_token_id=pad,
            eos_token_id=sorted(self.eos_ids) or None,
            **options,
        )

    def _forward(self, inputs: ModelInputs, logits_to_keep: int = 0) -> Scored:
        """One forward pass over N tokens behind the committed text: logits [K, V] and hidden states [K, H].

        K is logits_to_keep, the number of last tokens that logits are computed for; 0 means all N.
        """
        masks: Any = inputs.masks
        if masks is not None and len(masks) == 1:
            (masks,) = masks.values()  # with one kind of layers, most families expect the mask itself
        logits = self.model.forward(  # instead of calling the model, which would look for hooks of the whole model
            input_ids=inputs.ids,
            position_ids=inputs.positions,
            attention_mask=masks,
            use_cache=True,
            logits_to_keep=logits_to_keep,
            **{self._cache_name: self._cache},
        ).logits
        assert self._head_input is not None
        return Scored(logits, self._head_input)

    def _synchronize(self) -> None:
        """Wait for the GPU, so that measured times include its work. The picks would wait for it next anyway."""
        if self._on_cuda:
            torch.cuda.synchronize(self.device)
