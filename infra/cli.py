"""`dresd stack`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dresd_milvus.console import print_rows, wide_console
from dresd_milvus.errors import InputError
from dresd_milvus.options import UriOption
from infra import stack
from infra.compose import Service, Stack, read_settings
from infra.doctor import examine

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

ProjectOption = Annotated[Path, typer.Option(help="Folder with docker-compose.yml and .env.")]

FilesOption = Annotated[list[Path], typer.Option("--file", help="Override file, after docker-compose.yml; repeatable.")]


@app.callback()
def root() -> None:
    """The Milvus stack on this machine: etcd, MinIO, Milvus, Attu."""


@app.command()
def up(
    project: ProjectOption = Path(),
    files: FilesOption = [],  # noqa: B006
    deadline: Annotated[float, typer.Option(min=1, help="Longest wait for all to be healthy (seconds).")] = 300.0,
) -> None:
    """Start it and wait until every service is healthy."""
    project_stack = Stack(project, tuple(files))
    with _log_of_failures():
        services = stack.up(project_stack, deadline, _show)
    names, settings = ", ".join(service.name for service in services), project_stack.settings
    port, attu = settings.get("MILVUS_PORT") or 19530, settings.get("ATTU_PORT") or 8000
    print(f"healthy: {names}")
    print(f"Milvus at http://127.0.0.1:{port}, Attu at http://127.0.0.1:{attu} (user admin)")


@app.command()
def down(
    project: ProjectOption = Path(),
    files: FilesOption = [],  # noqa: B006
    volumes: Annotated[bool, typer.Option("--volumes", help="Removal of all data as well.")] = False,
) -> None:
    """Stop it. Data stays unless --volumes is given."""
    with _log_of_failures():
        stack.down(Stack(project, tuple(files)), volumes)
    print("stopped" + (", all data removed" if volumes else ", data kept"))


@app.command()
def status(project: ProjectOption = Path()) -> None:
    """What runs, and whether it is healthy. Exits with 1 unless all of it is."""
    services, heads = Stack(project).services(), ["service", "state", "image", "ports"]
    if not services:
        print("nothing runs; start it with: dresd stack up")
        sys.exit(1)
    print_rows([heads, *([each.name, each.what, each.image, each.ports] for each in services)], left=heads)
    if not all(service.ready for service in services):
        sys.exit(1)


@app.command()
def logs(
    service: Annotated[str | None, typer.Argument(help="Service whose log is shown; default: all.")] = None,
    project: ProjectOption = Path(),
    follow: Annotated[bool, typer.Option("--follow", help="New lines as they come, until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option(min=1, help="Number of last lines of each service.")] = 100,
) -> None:
    """The services' logs."""
    named = Stack(project)
    names = [each.name for each in named.services()]
    if service and service not in names:
        raise InputError(f"there is no service '{service}' running; there is: {', '.join(names) or 'none'}")
    wanted = [service] if service else names
    running = named.start(["logs", "--tail", str(tail), *(["--follow"] if follow else []), *wanted])
    try:
        sys.exit(running.wait())
    finally:
        running.terminate()


@app.command()
def doctor(project: ProjectOption = Path()) -> None:
    """Check what this machine has for the stack, and say what to do. Exits with 1 if something is missing."""
    console, checks = wide_console(), list(examine(project))
    for check in checks:
        mark = {True: "[green]ok[/green]     ", None: "[yellow]little[/yellow] ", False: "[red]missing[/red]"}[check.ok]
        console.print(f"{mark}  [bold]{check.name}[/bold]  {check.found}")
        if not check.ok:
            console.print(f"         {check.remedy}")
    sys.exit(any(check.ok is False for check in checks))


@app.command()
def init_users(project: ProjectOption = Path(), uri: UriOption = "") -> None:
    """Make the users 'reader' (may search) and 'writer' (may build stores), with the passwords in .env."""
    from dresd_milvus.milvus.users import make_users

    settings = read_settings(project / ".env")
    passwords = {}
    for role in ("root", "reader", "writer"):
        name = f"MILVUS_{role.upper()}_PASSWORD"
        if not settings.get(name):
            raise InputError(f"{name} in .env must be set; no user was made")
        passwords[role] = settings[name]
    root = passwords.pop("root")
    address = uri or f"http://127.0.0.1:{settings.get('MILVUS_PORT') or 19530}"
    for name, what in make_users(address, root, passwords).items():
        print(f"{name}: {what}")


@app.command()
def sizing(
    dim: Annotated[int, typer.Option(min=1, help="Dimensions of a key.")] = 64,
    continuation: Annotated[int, typer.Option(min=1, help="Length of a continuation (tokens).")] = 20,
    half: Annotated[bool, typer.Option("--half", help="Keys in float16.")] = False,
) -> None:
    """The memory that each index needs, from a million rows to a billion. Derived, not measured."""
    from infra.sizing import GPU_GB, GPU_SHARE, ROWS, needs, payload_bytes, stored_bytes

    rows = [f"{count // 10**6:,} M" for count in ROWS]
    lines = [["index", "B/row", f"rows on {GPU_GB} GB", *(f"GB at {each}" for each in rows), "GPUs"]]
    for need in needs(dim, half):
        per_gpu = f"{need.rows_per_gpu / 1e6:,.0f} M" if need.rows_per_gpu else "CPU"
        gpus = " ".join(map(str, need.gpus)) if need.gpus else ""
        lines.append([need.name, f"{need.index_bytes:,.0f}", per_gpu, *(f"{gb:,.1f}" for gb in need.index_gb), gpus])
    print_rows(lines)
    wide_console().print(
        f"\nbeside the index: {payload_bytes(continuation)} B a row in the query nodes' memory and "
        f"{stored_bytes(dim, continuation, half)} B in object storage. GPUs: of {GPU_GB} GB, {GPU_SHARE:.0%} of it "
        f"used, for {', '.join(rows)} rows."
    )


@contextmanager
def _log_of_failures() -> Iterator[None]:
    """Print the log of a service that failed, before the error itself."""
    try:
        yield
    except stack.StackError as error:
        if error.log:
            print(error.log, file=sys.stderr)
        raise


def _show(services: list[Service]) -> None:
    print("  ".join(f"{service.name}: {service.what}" for service in services), file=sys.stderr, flush=True)
