"""Trains a model like the one in dresd_milvus/sample: a small Llama on pairs of a docstring and its function.

The data are on every machine with the packages installed: functions with a docstring from the standard library and from
installed packages, and, in one sequence of five, parts of whole source files. Sequences have 512 tokens. Muon optimises
the matrices of the layers, AdamW the rest. The learning rate warms up for 50 steps, is constant, and falls linearly to
2 % over the last 40 %. One pair in fifty is held out. At every evaluation the model is saved, and its loss on training
and held-out pairs is appended to OUT/training.jsonl.

    python scripts/train_sample_model.py --out runs/model --steps 3800
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import random
import sysconfig
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import torch
import typer
from rich.progress import track
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from dresd_milvus.console import run_app
from dresd_milvus.corpus import Template, stdlib
from dresd_milvus.errors import InputError
from dresd_milvus.models.devices import multiplies_bfloat16

SPECIALS = ["<s>", "</s>", "<pad>"]
PACKAGES = "numpy,scipy,sklearn,torch,transformers,datasets,deepspeed,pymilvus,networkx,sympy,huggingface_hub"
HELD_OUT = 50
WARM_UP = 50
FILE_SHARE = 0.2


def main(
    out: Annotated[Path, typer.Option(help="Folder of the model, its tokenizer and training.jsonl.")],
    packages: Annotated[
        str, typer.Option(help="Installed packages to train on, besides the standard library.")
    ] = PACKAGES,
    steps: Annotated[int, typer.Option(min=1)] = 3800,
    hidden: int = 320,
    layers: int = 6,
    heads: int = 5,
    mlp: int = 864,
    vocabulary: int = 8192,
    length: int = 512,
    batch: int = 8,
    eval_every: int = 100,
    seed: int = 0,
) -> None:
    """Collect the texts, train a tokenizer and a model on them, and save both."""
    torch.manual_seed(seed)
    logging.disable_progress_bar()
    folders = {"stdlib": Path(sysconfig.get_paths()["stdlib"])}
    folders |= {name: package_folder(name) for name in packages.split(",") if name}
    train, held_out, files = collect(folders)
    print(f"{len(train)} pairs to train on, {len(held_out)} held out, {len(files)} source files")
    tokenizer = train_tokenizer([*train, *files], vocabulary)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(out)
    model = make_model(tokenizer, hidden, layers, heads, mlp)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")
    sequences = sequences_of(tokenizer, train, files, length, random.Random(seed))
    validation = [encode(tokenizer, text)[:length] for text in held_out[:200]]
    optimisers = make_optimisers(model)
    start, losses = perf_counter(), []
    with (out / "training.jsonl").open("w") as log:
        for step in track(range(1, steps + 1), "training"):
            set_learning_rate(optimisers, step, steps)
            losses.append(train_step(model, optimisers, torch.tensor([next(sequences) for _ in range(batch)])))
            if step % eval_every == 0 or step in (1, steps):
                line = {
                    "step": step,
                    "tokens": step * batch * length,
                    "train_loss": round(sum(losses) / len(losses), 4),
                    "held_out_loss": round(held_out_loss(model, validation), 4),
                    "seconds": round(perf_counter() - start, 1),
                }
                log.write(json.dumps(line) + "\n")
                log.flush()
                print(json.dumps(line))
                losses = []
                save(model, out)


def package_folder(name: str) -> Path:
    """The source folder of an installed package. Raises InputError when it is not installed."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise InputError(f"the package '{name}' is not installed; leave it out of --packages")
    return Path(next(iter(found.submodule_search_locations)))


def collect(folders: dict[str, Path]) -> tuple[list[str], list[str], list[str]]:
    """(training texts, held-out texts, source files). Each function is there once; a hash of its text splits them."""
    texts: dict[str, str] = {}
    files = []
    for name, folder in folders.items():
        for pair in stdlib.functions(folder, name):
            texts.setdefault(pair.response, Template()(pair.prompt) + pair.response)
        for path in sorted(folder.rglob("*.py")):
            if not stdlib.SKIPPED & set(path.relative_to(folder).parts):
                files.append(path.read_text(encoding="utf-8", errors="ignore"))
    held_out_keys = {key for key in texts if int(hashlib.sha256(key.encode()).hexdigest(), 16) % HELD_OUT == 0}
    return [texts[key] for key in texts if key not in held_out_keys], [texts[key] for key in held_out_keys], files


def train_tokenizer(texts: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, which splits digits and puts `<s>` before every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=SPECIALS, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=1024
    )


def make_model(tokenizer: PreTrainedTokenizerFast, hidden: int, layers: int, heads: int, mlp: int) -> LlamaForCausalLM:
    """A Llama of this size with tied embeddings and a context of 1 024 tokens."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            intermediate_size=mlp,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=2,
        )
    )


def encode(tokenizer: Any, text: str) -> list[int]:
    """`<s>` text `</s>`."""
    return [*tokenizer(text, verbose=False)["input_ids"], tokenizer.eos_token_id]


def sequences_of(
    tokenizer: Any, pairs: list[str], files: list[str], length: int, chance: random.Random
) -> Iterator[list[int]]:
    """Endless training sequences of `length` tokens: pairs one after another, or a part of a source file."""
    waiting: list[int] = []
    while True:
        if chance.random() < FILE_SHARE:
            ids = encode(tokenizer, chance.choice(files)[:20_000])
            if len(ids) > length:
                start = chance.randrange(len(ids) - length)
                yield ids[start : start + length]
            continue
        while len(waiting) < length:
            waiting += encode(tokenizer, chance.choice(pairs))
        yield waiting[:length]
        waiting = waiting[length:]


def make_optimisers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers." in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "layers." not in name]
    return [torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95))]


def set_learning_rate(optimisers: list[torch.optim.Optimizer], step: int, steps: int) -> None:
    """Set the learning rate of a step: warm-up, constant, and over the last 40 % of steps linear to 2 %."""
    left = (steps - step) / max(0.4 * steps, 1)
    share = min(step / WARM_UP, 1.0, 0.02 + 0.98 * left)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group.setdefault("full", group["lr"])
            group["lr"] = group["full"] * share


def autocast() -> Any:
    """Autocast to bfloat16 where the processor multiplies it natively."""
    native = multiplies_bfloat16(torch.device("cpu"))
    return torch.autocast("cpu", torch.bfloat16) if native else nullcontext()


def train_step(model: LlamaForCausalLM, optimisers: list[torch.optim.Optimizer], ids: Tensor) -> float:
    """Do one training step on ids [batch, length]; returns the loss in nats per token."""
    with autocast():
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad()
    return float(loss.detach())


@torch.inference_mode()
def held_out_loss(model: LlamaForCausalLM, sequences: list[list[int]]) -> float:
    """Loss in nats per token on the held-out texts."""
    total = tokens = 0.0
    for ids in sequences:
        with autocast():
            loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss
        total += float(loss) * (len(ids) - 1)
        tokens += len(ids) - 1
    return total / tokens


def save(model: LlamaForCausalLM, out: Path) -> None:
    """Save the model in bfloat16, as the sample is saved."""
    state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    model.config.dtype = torch.bfloat16
    model.save_pretrained(out, state_dict=state)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_app(app)
