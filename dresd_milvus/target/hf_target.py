"""The target model: what the decoding loop asks of it, and the transformers model that answers."""

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
from dresd_milvus.target.cuda_graphs import FixedPasses
from dresd_milvus.target.families import attention_windows, head_to_logits, refuse_unsupported, rope_border
from dresd_milvus.target.tree_mask import Inputs, tree_inputs

Method = TypeVar("Method", bound=Callable[..., Any])


def without_gradients(method: Method) -> Method:
    """In torch's inference mode, which is entered only where a loop has not done so for all of its steps: that takes
    longer than laying out a tree."""

    @wraps(method)
    def lean(*args: Any, **keywords: Any) -> Any:
        if torch.is_inference_mode_enabled():
            return method(*args, **keywords)
        with torch.inference_mode():
            return method(*args, **keywords)

    return cast(Method, lean)


class HFTarget:
    """A decoder-only transformers model behind the Target protocol.

    The hidden state is the input of the output head, caught by a hook, so that it is the same quantity for every
    architecture. Attention masks are 4-D, which SDPA and eager attention take. fixed: trees are verified in passes of a
    few fixed shapes, on a GPU as CUDA graphs.
    """

    def __init__(self, model: Any, eos_ids: frozenset[int], fixed: bool = False) -> None:
        refuse_unsupported(model.config)
        self.model = model.eval()
        self.eos_ids = eos_ids
        config = model.config.get_text_config()
        self.family: str = config.model_type
        self.vocab_size: int = config.vocab_size
        # A few OPT models project their states to narrower words before the output head.
        self.hidden_size: int = getattr(config, "word_embed_proj_dim", None) or config.hidden_size
        self.context: int = config.max_position_embeddings
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self._apart = self.device.type == "cuda"
        self._layers: int = config.num_hidden_layers
        self._cache = TreeCache(self._layers)
        self._read: list[int] = []  # the committed tokens
        self._tree = DraftTree.root_only(0)
        self._windows = attention_windows(config)
        self._border = rope_border(config)
        shapes = (self._windows, self.device, self.dtype, self._apart)
        self.fixed = FixedPasses(self._forward, self._cache, *shapes) if fixed else None
        # transformers 5.24 renames the argument.
        self._cache_name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
        self._head_input: Tensor | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._catch)

    def _catch(self, _module: Any, args: tuple[Tensor, ...]) -> None:
        self._head_input = args[0]

    @without_gradients
    def prefill(self, tokens: Sequence[int], reuse: bool = False) -> Tensor | None:
        known = self._known(tokens) if reuse else 0
        self.rewind(known)
        if not tokens:
            return None
        # The next token lies beyond the border of longrope: with a token more, this pass takes the same factors.
        beyond = [tokens[-1]] if len(tokens) == self._border else []
        ids = torch.as_tensor([*tokens[known:], *beyond], dtype=torch.long, device=self.device)[None]
        positions = torch.arange(known, len(tokens) + len(beyond), device=self.device)[None]
        scored = self._forward(Inputs(ids, positions, None), logits_to_keep=1 + len(beyond))
        self._cache.length = len(tokens)
        self._read = list(tokens)
        self._wait()
        return scored.hidden[0]

    def _known(self, tokens: Sequence[int]) -> int:
        """How many committed tokens these begin with, but for their last, which is read again for its state.

        None with longrope: beyond its border a whole text is read with other factors.
        """
        if self._border is not None:
            return 0
        shared = zip(self._read, tokens[:-1], strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], shared))

    @without_gradients
    def verify(self, tree: DraftTree) -> Scored:
        start = self._cache.length
        if self.fixed is not None and self.fixed.fit(tree):
            scored = self.fixed(tree, start)
        else:
            inputs = tree_inputs(tree, start, self._windows, self.device, self.dtype)
            scored = self._forward(inputs if len(tree) else inputs._replace(masks=None))
        self._wait()
        self._tree = tree
        return scored

    def keep(self, path: Int64) -> None:
        self._cache.keep(path)
        self._read += self._tree.tokens[path].tolist()

    def room(self, prompt: int) -> int:
        if self._border is not None and prompt <= self._border:
            return self._border + 1 - prompt  # the last token of a text does not go through the model
        return self.context - prompt

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` committed tokens."""
        del self._read[length:]
        self._cache.length = min(length, self._cache.length)

    @torch.inference_mode()
    def embed(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states [B, T, H] of right-padded texts [B, T] (attention_mask: 1 for tokens); the head is not run."""
        tokens, attention_mask = tokens.to(self.device), attention_mask.to(self.device)
        body = self.model.base_model
        return body(input_ids=tokens, attention_mask=attention_mask, use_cache=False).last_hidden_state

    @torch.inference_mode()
    def embed_layers(self, tokens: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Like embed, the states [B, T, H] of every layer: 0 is the embedding, the last one is what embed gives."""
        tokens, attention_mask = tokens.to(self.device), attention_mask.to(self.device)
        body = self.model.base_model
        found = body(input_ids=tokens, attention_mask=attention_mask, use_cache=False, output_hidden_states=True)
        return (*found.hidden_states[:-1], found.last_hidden_state)

    @torch.inference_mode()
    def score(self, hidden: Tensor) -> Tensor:
        """Logits [N, V] of hidden states [N, H], the input of the output head."""
        numbers = self.model.get_output_embeddings()(hidden.to(self.device, self.dtype))
        return head_to_logits(numbers, self.model.config)

    @torch.inference_mode()
    def write(self, tokens: Tensor, attention_mask: Tensor, max_new_tokens: int, pad: int, **how: Any) -> Tensor:
        """Texts [B, T] padded on the left, with what the model adds [B, T + max_new_tokens]; how: see `generate` of
        transformers."""
        return self.model.generate(
            tokens.to(self.device),
            attention_mask=attention_mask.to(self.device),
            max_new_tokens=max_new_tokens,
            pad_token_id=pad,
            eos_token_id=sorted(self.eos_ids) or None,
            **how,
        )

    def _forward(self, inputs: Inputs, logits_to_keep: int = 0) -> Scored:
        """One pass over N tokens behind the committed text -> logits [N or kept, V], hidden [N or kept, H]."""
        masks: Any = inputs.masks
        if masks is not None and len(masks) == 1:
            (masks,) = masks.values()  # where all layers are of one kind, few families know its name
        logits = self.model.forward(  # as calling it does, but for looking whether the whole model has hooks
            input_ids=inputs.ids,
            position_ids=inputs.positions,
            attention_mask=masks,
            use_cache=True,
            logits_to_keep=logits_to_keep,
            **{self._cache_name: self._cache},
        ).logits
        assert self._head_input is not None
        return Scored(logits, self._head_input)

    def _wait(self) -> None:
        """Until the device is done, so that times are of what they say; the picks would wait for it next anyway."""
        if self._apart:
            torch.cuda.synchronize(self.device)
