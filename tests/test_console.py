"""What people see of a command: errors in one line, and progress in lines where there is no terminal."""

import errno
from collections.abc import Callable

import pytest
import typer

from dresd_milvus.console import LINE_EVERY, Phases, run_app, wide_console
from dresd_milvus.errors import InputError

Capture = pytest.CaptureFixture[str]


def ended(capsys: Capture, error: BaseException | None) -> tuple[int, str]:
    """(exit code, standard error) of a command that raises this."""
    app = typer.Typer()

    @app.command()
    def work() -> None:
        if error:
            raise error

    app.callback()(lambda: None)
    with pytest.raises(SystemExit) as exit_:
        run_app(app, "dresd")
    return int(exit_.value.code or 0), capsys.readouterr().err


@pytest.fixture(autouse=True)
def arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["dresd", "work"])


def test_what_a_person_can_mend_is_one_line(capsys: Capture) -> None:
    assert ended(capsys, InputError("there is\n  no such thing")) == (1, "error: there is no such thing\n")
    assert ended(capsys, None) == (0, "")


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.ENOSPC, "No space left on device"),
        (errno.EDQUOT, "Disk quota exceeded"),
        (errno.EACCES, "Permission denied"),
        (errno.EROFS, "Read-only file system"),
        (errno.ENOTDIR, "Not a directory"),
        (errno.EISDIR, "Is a directory"),
        (errno.ENAMETOOLONG, "File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(capsys: Capture, number: int, why: str) -> None:
    said = f"error: cannot use /there/it.is: {why}; free or choose another place and run again\n"
    assert ended(capsys, OSError(number, why, "/there/it.is")) == (1, said)
    assert "cannot use a file: " in ended(capsys, OSError(number, why))[1]


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.ENOENT, "No such file", "it")], ids=str)
def test_what_nobody_expected_keeps_its_trace(capsys: Capture, error: Exception) -> None:
    with pytest.raises(type(error)):
        ended(capsys, error)


def test_an_interrupted_command_says_how_to_go_on(capsys: Capture) -> None:
    code, said = ended(capsys, KeyboardInterrupt())
    assert code == 130 and "run the same command again to go on" in said


class Clock:
    """Seconds that pass when they are told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("dresd_milvus.console.monotonic", made)
    return made


def shown(capsys: Capture, work: Callable[[Phases], None], **how: bool) -> list[str]:
    """The lines that phases write where there is no terminal."""
    with Phases(**how) as phases:
        work(phases)
    return capsys.readouterr().err.splitlines()


def test_a_phase_is_a_line_at_its_end_and_one_now_and_then(capsys: Capture, clock: Clock) -> None:
    def work(phases: Phases) -> None:
        phases.phase("loading", None, "")
        clock.now += 2
        phases.phase("embedding", 3000, "tokens", done=500)
        for _ in range(3):
            clock.now += LINE_EVERY / 2 + 1
            phases.advance(600)
        phases.message("by the way")
        clock.now += 2

    assert shown(capsys, work) == [
        "loading  2.0 s",
        "embedding  1,700 of about 3,000 tokens, 100/s  13 s left",
        "by the way",
        "embedding  2,300 tokens, 90/s  20.0 s",
    ]


def test_workers_are_counted_apart(capsys: Capture, clock: Clock) -> None:
    def work(phases: Phases) -> None:
        phases.phase("embedding with 2 workers", 100, "tokens")
        clock.now += 4
        for worker, tokens in ((1, 20), (0, 40), (1, 20)):
            phases.advance(tokens, worker)

    assert shown(capsys, work) == ["embedding with 2 workers (0: 10/s, 1: 10/s)  80 tokens, 20/s  4.0 s"]


def test_ranks_that_follow_another_show_nothing(capsys: Capture, clock: Clock) -> None:
    def work(phases: Phases) -> None:
        phases.phase("copying", 10, "rows")
        phases.advance(10)
        phases.message("a line")

    assert shown(capsys, work, silent=True) == []
    assert len(shown(capsys, work)) == 2


def test_tables_keep_their_shape_in_a_file(capsys: Capture) -> None:
    wide_console().print("x" * 110)
    assert capsys.readouterr().out == "x" * 110 + "\n"
