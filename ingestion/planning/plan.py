"""The plan of an ingestion: its settings, and its corpus in shards that any worker can take."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from dresd_milvus.corpus import Document, ReadOptions, Source, Template, encode_documents, read_documents
from dresd_milvus.corpus.chat import CHAT, chat_template
from dresd_milvus.corpus.conversation import choose_template
from dresd_milvus.corpus.duplicates import DuplicateFilter
from dresd_milvus.corpus.sources import content_hash
from dresd_milvus.errors import InputError
from dresd_milvus.files.atomic import write_text
from dresd_milvus.models.fingerprint import tokenizer_hash
from ingestion.options import AUTO, Settings
from ingestion.planning.documents import split_long, write_documents
from ingestion.planning.run_folder import RunFolder

LEAST_SHARE, MARGIN = 0.1, 1.25
"""Of a shard's documents, when the fit needs few: reading a shard for less would not pay. And how many more are taken
than should do, for documents differ in length; the fit stops when it has enough."""

SAMPLED = 200
"""Documents that are tokenised to judge how many tokens the corpus has."""

SAMPLED_CHARACTERS = 10_000
"""Of a turn of each."""


@dataclass(frozen=True)
class Plan:
    """build: marks the collection that this run creates. stamps: of the sources, as they were. template: what prompts
    were put into, as the manifest has it. shards: (first document, documents, characters) of each. tokens, rows: about
    how many there are in all; what --drop-same and --per-token will drop is not known before. skipped: documents passed
    over, by reason.
    """

    settings: Settings
    tokenizer: str
    template: str | None
    stamps: tuple[str, ...]
    documents: int
    shards: tuple[tuple[int, int, int], ...]
    tokens: int
    rows: int
    skipped: dict[str, int]
    build: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    @property
    def fit_share(self) -> float:
        """The share of every shard's documents that the fit may read."""
        return min(max(MARGIN * self.settings.fit_tokens / max(self.tokens, 1), LEAST_SHARE), 1.0)

    @property
    def fingerprint(self) -> str:
        """A short hash of it all, which every marker names."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """As in plan.json, where the field skip_incomplete has an older name."""
        settings = asdict(self.settings)
        settings["incomplete"] = "skip" if settings.pop("skip_incomplete") else "refuse"
        return json.dumps({**asdict(self), "settings": settings}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Raises ValueError, TypeError or KeyError for anything else."""
        content = json.loads(text)
        settings = content["settings"]
        settings["skip_incomplete"] = settings.pop("incomplete") == "skip"
        content["shards"] = tuple((first, count, characters) for first, count, characters in content["shards"])
        return cls(**{**content, "settings": Settings(**settings), "stamps": tuple(content["stamps"])})

    def require(self, settings: Settings, folder: Path) -> None:
        """Raise InputError, naming what differs, when a run would go on with other settings or another corpus."""
        before, now = self.settings, settings
        differs = [
            f"{f.name.replace('_', ' ')} was {getattr(before, f.name)!r} and is {getattr(now, f.name)!r}"
            for f in fields(Settings)
            if getattr(before, f.name) != getattr(now, f.name)
        ]
        if not differs and tuple(content_hash(Source.parse(text)) for text in now.sources) != self.stamps:
            differs.append("the corpus has changed")
        if differs:
            raise InputError(
                f"the run in {folder} was begun with other settings: {'; '.join(differs)}; "
                "use those, give --replace to start over, or another --collection"
            )


def load_plan(folder: Path) -> Plan:
    """The plan of a run folder; InputError when there is none or it is of another version."""
    try:
        return Plan.from_json((folder / "plan.json").read_text())
    except FileNotFoundError as error:
        raise InputError(f"there is no plan in {folder}; run dresd ingest plan or dresd ingest run") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder} is not a run folder of this version; give another --run-dir") from error


def make_plan(
    settings: Settings, folder: Path, tokenizer: Any, advance: Callable[[int], None] = lambda documents: None
) -> Plan:
    """Read the sources, write the shards and then the plan. Raises InputError when no document holds text."""
    sources = [Source.parse(text) for text in settings.sources]
    template = _template(settings, tokenizer)
    recorded = template.text if isinstance(template, Template) else chat_template(tokenizer) if template else None
    skipped: Counter[str] = Counter()
    shards = _Shards(RunFolder(folder), settings.shard_size)
    for document in _documents(settings, sources, template, tokenizer, skipped):
        shards.add(document)
        advance(1)
    shards.close()
    if not shards.count:
        told = ", ".join(f"{count} {reason}" for reason, count in (+skipped).items()) or "nothing at all"
        raise InputError(f"the corpus {', '.join(settings.sources)} is empty: no document holds text ({told})")
    plan = Plan(
        settings,
        tokenizer_hash(tokenizer),
        recorded,
        tuple(content_hash(source) for source in sources),
        shards.count,
        tuple(shards.made),
        *_estimate(settings, tokenizer, shards.sample, sum(characters for _, _, characters in shards.made)),
        dict(+skipped),
    )
    write_text(folder / "plan.json", plan.to_json() + "\n")
    return plan


def _template(settings: Settings, tokenizer: Any) -> Template | str | None:
    """What prompts go into: a template, CHAT, or None for nothing."""
    if settings.template == AUTO:
        return choose_template(tokenizer)
    return settings.template if settings.template in (None, CHAT) else Template(settings.template)


def _documents(
    settings: Settings, sources: list[Source], template: Template | str | None, tokenizer: Any, skipped: Counter[str]
) -> Iterator[Document]:
    """Every document that holds an answer, once, long ones in parts."""
    duplicates, own = DuplicateFilter(settings.dedup), settings.answers == "own"
    for source in sources:
        reading = ReadOptions(
            settings.prompt_key,
            settings.response_key,
            template,
            tokenizer,
            split=settings.split,
            config=settings.config,
            streaming=settings.streaming,
            answers=own,
            incomplete="skip" if settings.skip_incomplete else "refuse",
            skipped=skipped,
        )
        for document in read_documents(source, reading, settings.limit):
            if not any(map(str.strip, document.turns[1 if own else 0 :: 2])):
                skipped["empty documents"] += 1
            elif duplicates.seen(document):
                skipped["duplicates"] += 1
            else:
                parts = split_long(document) if own else [document]
                skipped["cuts of long documents"] += len(parts) - 1
                yield from parts


class _Shards:
    """Gathers documents and writes them as shards of about `size` characters."""

    def __init__(self, run: RunFolder, size: int) -> None:
        self.run, self.size = run, size
        self.made: list[tuple[int, int, int]] = []
        self.sample: list[Document] = []
        self.count = 0
        self._held: list[Document] = []
        self._characters = 0

    def add(self, document: Document) -> None:
        self._held.append(document)
        self._characters += sum(map(len, document.turns))
        if self.count % max(self.count // SAMPLED, 1) == 0:  # ever sparser, spread over the whole
            self.sample = [*self.sample[-2 * SAMPLED :], document]
        self.count += 1
        if self._characters >= self.size:
            self.close()

    def close(self) -> None:
        """Write what is held."""
        if self._held:
            first = self.count - len(self._held)
            write_documents(self.run.file("documents", len(self.made)), first, self._held)
            self.made.append((first, len(self._held), self._characters))
            self._held, self._characters = [], 0


def _estimate(settings: Settings, tokenizer: Any, sample: list[Document], characters: int) -> tuple[int, int]:
    """About how many (tokens, rows) so many characters are, judged by the beginnings of the sampled documents.

    Answers that the target has still to write count as the longest that they may be.
    """
    tokens = rows = read = 0
    pruning = settings.pruning()
    for document in sample:  # one by one: tokenised, a text takes some 80 times its own memory
        begins = document._replace(turns=tuple(turn[:SAMPLED_CHARACTERS] for turn in document.turns))
        (encoded,) = encode_documents(tokenizer, [begins])
        written = 0 if settings.answers == "own" else settings.answer_tokens * (len(document.turns) // 2)
        tokens, read = tokens + len(encoded.ids) + written, read + len(encoded.text)
        rows += len(pruning.positions(encoded, 0, len(encoded.ids) - 1)) + written // settings.keep_every
    return tokens * characters // max(read, 1), rows * characters // max(read, 1)
