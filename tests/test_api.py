"""The Python API: what the README and docs/api.md print runs, its texts are plain decoding's and the command line's."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dresd_milvus as dresd
from dresd_milvus.corpus.chat import CHAT
from dresd_milvus.corpus.conversation import Conversation
from dresd_milvus.decoding.loop import FixedBudget
from dresd_milvus.decoding.loop import generate as decoded
from dresd_milvus.decoding.sampling import Greedy
from dresd_milvus.drafters.base import Vanilla
from dresd_milvus.errors import InputError, MismatchError, StoreError
from dresd_milvus.models.loading import LoadedModel
from tests.helpers import dresd as command
from tests.samples import write_chat_model, write_corpus

ROOT = Path(__file__).parent.parent
PROMPT = "Write a Python function `close`. Close the file."
TOKENS = 40
SAMPLED: dict[str, Any] = {"temperature": 0.7, "top_p": 0.95, "seed": 3}
FILTERED: dict[str, Any] = {"temperature": 1.2, "top_k": 20, "min_p": 0.02, "repetition_penalty": 1.2, "seed": 3}
FUNCTIONS = ("load_model", "ingest", "open_store", "make_drafter", "generate")


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, code) of every block of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def run(code: str, names: dict[str, Any]) -> None:
    """Run code as it is printed, with the model of the tests, in float32: there no text depends on tree sizes."""
    code = code.replace('load_model("smollm2")', 'load_model("sample", dtype="float32")').replace("smollm2", "sample")
    exec(compile(code, "printed", "exec"), names)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus."""
    folder = tmp_path_factory.mktemp("home")
    write_corpus(folder / "answers.jsonl", 30)
    return folder


@pytest.fixture(scope="module")
def built(sample: LoadedModel, home: Path) -> dresd.Manifest:
    return dresd.ingest(sample, home / "answers.jsonl", home / "code.db", "code", quiet=True)


@pytest.fixture(scope="module")
def store(sample: LoadedModel, home: Path, built: dresd.Manifest) -> Iterator[dresd.Store]:
    with dresd.open_store(home / "code.db", "code", sample, quiet=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def drafter(sample: LoadedModel, store: dresd.Store) -> dresd.PreparedDrafter:
    return dresd.make_drafter("hybrid", sample, store, nodes=8)


def test_the_first_code_of_the_readme_runs_as_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(tmp_path / "answers.jsonl", 30)
    monkeypatch.chdir(tmp_path)
    (first, _), (language, code) = blocks("README.md")[:2]
    assert (first, language) == ("bash", "python"), "it follows the two commands"
    names: dict[str, Any] = {}
    run(code, names)
    result, shown = names["result"], capsys.readouterr().out
    assert result.text and len(result.tokens) <= 128 and result.mat >= 1 and result.tokens_per_second > 0
    printed = f"{result.text} {result.mat} {result.tokens_per_second}\n"
    assert shown.startswith(printed) and shown.removeprefix(printed).startswith(result.text), "it was streamed, too"
    names["store"].close()


def test_the_examples_of_the_page_run_as_they_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(tmp_path / "answers.jsonl", 30)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for language, code in blocks("docs/api.md"):
        if language == "python":
            run(code, names)
    assert names["store"].sources.closed and names["same"].mat == 1
    assert "the system 'dense' needs a store" in capsys.readouterr().out


def test_the_page_has_every_public_name_and_the_signatures_as_they_are() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    headed = re.findall(r"^## `(\w+)`$", page, re.MULTILINE)
    listed = re.findall(r"`(\w+)`", page.split("## Types")[1].split("are exported")[0])
    assert sorted(headed + listed) == sorted(dresd.__all__)
    written = "".join(code for language, code in blocks("docs/api.md") if not language)
    assert plainly(written) == "".join(
        plainly(f"{name}{inspect.signature(getattr(dresd, name))}") for name in FUNCTIONS
    )
    assert inspect.signature(dresd.stream).parameters == inspect.signature(dresd.generate).parameters
    for name in (*FUNCTIONS, "stream"):
        assert f"dresd.{name}(" in inspect.getdoc(getattr(dresd, name)), "a docstring has an example"


def plainly(text: str) -> str:
    """Without spaces and quotes."""
    return re.sub(r"[\s'\"]", "", text)


def test_importing_it_is_fast_and_imports_no_torch() -> None:
    code = "import sys, dresd_milvus as d; print({'torch', 'numpy'} & set(sys.modules), set(d.__all__) <= set(dir(d)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.split() == ["set()", "True"], done.stderr
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dresd.nothing  # noqa: B018


@pytest.mark.parametrize("how", [{}, SAMPLED, FILTERED], ids=["greedy", "sampled", "filtered"])
def test_texts_are_plain_decodings_and_the_command_lines(
    sample: LoadedModel, store: dresd.Store, drafter: dresd.PreparedDrafter, home: Path, how: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    plain = dresd.make_drafter("vanilla", sample, store)
    for prompt in (PROMPT, "Write a Python function `open`."):  # with the same drafter
        result = dresd.generate(sample, prompt, drafter=drafter, max_new_tokens=TOKENS, **how)
        right = dresd.generate(sample, prompt, drafter=plain, max_new_tokens=TOKENS, **how)
        assert result.tokens == right.tokens and result.text == right.text and right.mat == 1
    options = [word for name, value in how.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    done = command(
        capsys, "generate", prompt, "--uri", home / "code.db", "--collection", "code", "--dtype", "float32",
        "--nodes", "8", "--max-new-tokens", str(TOKENS), *options,
    )  # fmt: skip
    assert done.code == 0 and done.out.rsplit("\n", 2)[0] == result.text


@pytest.mark.parametrize("how", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_the_pieces_of_a_stream_are_the_text(
    sample: LoadedModel, drafter: dresd.PreparedDrafter, how: dict[str, Any]
) -> None:
    for used in (drafter, None):
        pieces = list(dresd.stream(sample, PROMPT, drafter=used, max_new_tokens=TOKENS, **how))
        text = dresd.generate(sample, PROMPT, drafter=used, max_new_tokens=TOKENS, **how).text
        assert "".join(pieces) == text and len(pieces) > 1 and all(pieces)


def test_a_stream_may_be_left_early_and_no_older_one_goes_on(
    sample: LoadedModel, drafter: dresd.PreparedDrafter
) -> None:
    right = dresd.generate(sample, PROMPT, drafter=drafter, max_new_tokens=TOKENS).text
    left, older = (dresd.stream(sample, PROMPT, drafter=drafter, max_new_tokens=TOKENS) for _ in range(2))
    assert right.startswith(next(left))
    left.close()
    assert list(left) == []
    next(older)
    assert "".join(dresd.stream(sample, PROMPT, drafter=drafter, max_new_tokens=TOKENS)) == right
    with pytest.raises(InputError, match="begun another text"):
        next(older)


def test_a_text_ends_before_the_first_stop_string(
    sample: LoadedModel, store: dresd.Store, drafter: dresd.PreparedDrafter, home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    plain = dresd.make_drafter("vanilla", sample, store)
    whole = dresd.generate(sample, PROMPT, drafter=plain, max_new_tokens=TOKENS)
    stop = whole.text[30:36]
    text = whole.text[: whole.text.index(stop)]
    for used in (plain, drafter):
        result = dresd.generate(sample, PROMPT, drafter=used, max_new_tokens=TOKENS, stop=["never written", stop])
        assert (result.text, result.reason) == (text, "stop")
        assert result.tokens == whole.tokens[: len(result.tokens)] and len(result.tokens) < len(whole.tokens)
        assert "".join(dresd.stream(sample, PROMPT, drafter=used, max_new_tokens=TOKENS, stop=stop)) == text
    done = command(
        capsys, "generate", PROMPT, "--uri", home / "code.db", "--collection", "code", "--dtype", "float32",
        "--nodes", "8", "--max-new-tokens", str(TOKENS), "--stop", "never written", "--stop", stop,
    )  # fmt: skip
    shown, figures = done.out.rstrip("\n").rsplit("\n", 1)
    assert shown == text and "ended by stop" in figures
    assert "stop string is empty" in command(capsys, "generate", PROMPT, "--stop", "").error


def test_a_text_that_ends_by_itself_has_no_end_token_in_it(sample: LoadedModel, drafter: dresd.PreparedDrafter) -> None:
    result = dresd.generate(sample, PROMPT, drafter=drafter)
    assert result.reason == "eos" and result.tokens[-1] in sample.target.eos_ids
    assert "</s>" not in result.text and result.text == "".join(dresd.stream(sample, PROMPT, drafter=drafter))


def test_a_chat_model_is_asked_in_its_template(sample: LoadedModel, tmp_path: Path) -> None:
    model = dresd.load_model(str(write_chat_model(tmp_path / "chat")), dtype="float32")
    for system in (None, "Answer in one word."):
        ids = Conversation(model.tokenizer, CHAT, system).begin(PROMPT)
        right = decoded(model.target, Vanilla(), Greedy(), ids, 8, FixedBudget())
        assert dresd.generate(model, PROMPT, system_prompt=system, max_new_tokens=8).tokens == right.tokens
    bare = decoded(model.target, Vanilla(), Greedy(), model.tokenizer(PROMPT)["input_ids"], 8, FixedBudget())
    assert dresd.generate(model, PROMPT, template="{prompt}", max_new_tokens=8).tokens == bare.tokens


def test_ingestion_goes_on_and_can_be_replaced(sample: LoadedModel, home: Path, built: dresd.Manifest) -> None:
    source = str(home / "answers.jsonl")
    assert built.suffixes and built.rows > 0
    assert dresd.ingest(sample, [source], str(home / "code.db"), "code", quiet=True) == built, "it was built"
    with pytest.raises(InputError, match="limit was None and is 5"):
        dresd.ingest(sample, source, home / "code.db", "code", limit=5, quiet=True)
    first = dresd.ingest(sample, source, home / "other.db", "other", also_rest=False, quiet=True)
    again = dresd.ingest(sample, source, home / "other.db", "other", limit=20, replace=True, quiet=True)
    assert not first.suffixes and 0 < again.rows < first.rows and again.suffixes


def test_progress_is_shown_unless_it_is_not_wanted(
    sample: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_corpus(tmp_path / "answers.jsonl", 12)
    dresd.ingest(sample, source, tmp_path / "a.db", "a", quiet=True)
    dresd.open_store(tmp_path / "a.db", "a", sample, quiet=True).close()
    assert capsys.readouterr() == ("", "")
    dresd.ingest(sample, source, tmp_path / "b.db", "b")
    assert "embedding" in capsys.readouterr().err


CALLS: dict[str, Callable[[LoadedModel, dresd.Store, dresd.PreparedDrafter], object]] = {
    "there is no system 'magic'": lambda model, store, _: dresd.make_drafter("magic", model, store),
    "the system 'dense' needs a store": lambda model, *_: dresd.make_drafter("dense", model),
    "the system 'rest' needs a store with suffixes": lambda model, *_: dresd.make_drafter("rest", model),
    "number of draft nodes is a number or 'auto'": lambda model, store, _: dresd.make_drafter(
        "hybrid", model, store, nodes=-1
    ),
    "max_new_tokens must be at least 1": lambda model, *_: dresd.generate(model, PROMPT, max_new_tokens=0),
    "temperature must be a number above 0": lambda model, *_: dresd.stream(model, PROMPT, temperature=-1),
    "top-p must be above 0": lambda model, *_: dresd.generate(model, PROMPT, temperature=1, top_p=2),
    "shorten the prompt": lambda model, *_: dresd.stream(model, "word " * 2000),
    "must hold {prompt}": lambda model, *_: dresd.generate(model, PROMPT, template="nothing"),
    "a stop string is empty": lambda model, *_: dresd.stream(model, PROMPT, stop=["a", ""]),
    "top-k must be 0": lambda model, *_: dresd.generate(model, PROMPT, temperature=1, top_k=-1),
    "give draft_model": lambda model, *_: dresd.make_drafter("small_lm", replace(model, name="other")),
    "system_prompt is for models": lambda model, *_: dresd.generate(model, PROMPT, system_prompt="Be kind."),
    "cannot load the model 'no-such-model'": lambda *_: dresd.load_model("no-such-model"),
    "there is no source": lambda model, *_: dresd.ingest(model, [], "none.db", "none"),
    "no source": lambda model, *_: dresd.ingest(model, "nowhere.jsonl", "none.db", "none"),
}


@pytest.mark.parametrize("message", CALLS)
def test_what_cannot_be_used_is_one_clear_line(
    sample: LoadedModel, store: dresd.Store, drafter: dresd.PreparedDrafter, message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        CALLS[message](sample, store, drafter)
    assert isinstance(raised.value, dresd.DresdError) and "\n" not in str(raised.value)
    assert "--" not in str(raised.value), "keywords, not options"
    assert not list(tmp_path.iterdir())


def test_what_belongs_to_another_model_is_refused(
    sample: LoadedModel, store: dresd.Store, drafter: dresd.PreparedDrafter, home: Path
) -> None:
    other = replace(sample, fingerprint="another", weights_fingerprint="another")
    with pytest.raises(MismatchError, match="model fingerprint"):
        dresd.open_store(home / "code.db", "code", other, quiet=True)
    with pytest.raises(MismatchError, match="model fingerprint"):
        dresd.make_drafter("hybrid", other, store)
    with pytest.raises(MismatchError, match="made for another model"):
        dresd.generate(other, PROMPT, drafter=drafter)


def test_a_store_that_is_closed_or_missing_is_refused(sample: LoadedModel, home: Path, built: dresd.Manifest) -> None:
    with dresd.open_store(home / "code.db", "code", sample, quiet=True) as opened:
        used = dresd.make_drafter("dense", sample, opened)
        assert repr(opened).endswith(f"{built.rows:,} rows>") and opened.failure_summary() == ""
    opened.close()
    assert repr(opened).endswith(", closed>")
    with pytest.raises(StoreError, match="the store was closed"):
        dresd.generate(sample, PROMPT, drafter=used)
    with pytest.raises(StoreError, match="the store was closed"):
        dresd.make_drafter("dense", sample, opened)
    with pytest.raises(StoreError, match="no collection 'nothing'"):
        dresd.open_store(home / "code.db", "nothing", sample)
    with pytest.raises(StoreError, match="dresd ingest run --uri"):  # a whole command stays as it is
        dresd.open_store(home / "none.db", "code", sample)
