"""`dresd stack`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dresd_milvus.options import UriOption

if TYPE_CHECKING:
    from infra.compose import Service, Stack

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

ProjectOption = Annotated[Path, typer.Option(help="The folder with docker-compose.yml and .env.")]

FilesOption = Annotated[list[Path], typer.Option("--file", help="Override files, after docker-compose.yml.")]


@app.callback()
def root() -> None:
    """The Milvus stack on this machine: etcd, MinIO, Milvus, Attu."""


@app.command()
def up(
    project: ProjectOption = Path(),
    files: FilesOption = [],  # noqa: B006
    deadline: Annotated[float, typer.Option(min=1, help="Seconds to wait for health.")] = 300.0,
) -> None:
    """Start it and wait until every service is healthy."""
    from infra.stack import StackError
    from infra.stack import up as start

    stack = _stack(project, files)
    try:
        services = start(stack, deadline, _show)
    except StackError as error:
        if error.log:
            print(error.log, file=sys.stderr)
        raise
    names = ", ".join(service.name for service in services)
    port, attu = stack.settings.get("MILVUS_PORT") or 19530, stack.settings.get("ATTU_PORT") or 8000
    print(f"healthy: {names}")
    print(f"Milvus at http://127.0.0.1:{port}, Attu at http://127.0.0.1:{attu} (user admin)")


@app.command()
def down(
    project: ProjectOption = Path(),
    files: FilesOption = [],  # noqa: B006
    volumes: Annotated[bool, typer.Option("--volumes", help="Remove all data as well.")] = False,
) -> None:
    """Stop it. Data stays unless --volumes is given."""
    from infra.stack import StackError
    from infra.stack import down as stop

    try:
        stop(_stack(project, files), volumes)
    except StackError as error:
        print(error.log, file=sys.stderr)
        raise
    print("stopped" + (", all data removed" if volumes else ", data kept"))


@app.command()
def status(project: ProjectOption = Path()) -> None:
    """What runs, and whether it is healthy. Exits with 1 unless all of it is."""
    from rich.table import Table

    from dresd_milvus.console import wide_console

    services = _stack(project, []).services()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("service", "state", "image", "ports"):
        table.add_column(heading)
    for service in services:
        published = sorted(
            f"{to['HostIp']}:{to['HostPort']}" for on in service.container.ports.values() for to in on or ()
        )
        image = service.container.attrs["Config"]["Image"]
        table.add_row(service.name, service.what, image, ", ".join(published))
    wide_console().print(table if services else "nothing runs; start it with: dresd stack up")
    if not services or not all(service.ready for service in services):
        sys.exit(1)


@app.command()
def logs(
    service: Annotated[str | None, typer.Argument(help="One service; default: all.")] = None,
    project: ProjectOption = Path(),
    follow: Annotated[bool, typer.Option("--follow", help="Go on showing what comes.")] = False,
    tail: Annotated[int, typer.Option(min=1, help="Last lines of each.")] = 100,
) -> None:
    """The services' logs."""
    from dresd_milvus.errors import InputError

    stack = _stack(project, [])
    names = [each.name for each in stack.services()]
    if service and service not in names:
        raise InputError(f"there is no service '{service}' running; there is: {', '.join(names) or 'none'}")
    wanted = [service] if service else names
    running = stack.start(["logs", "--tail", str(tail), *(["--follow"] if follow else []), *wanted])
    try:
        sys.exit(running.wait())
    finally:
        running.terminate()


@app.command()
def doctor(project: ProjectOption = Path()) -> None:
    """Check what this machine has for the stack, and say what to do. Exits with 1 if something is missing."""
    from dresd_milvus.console import wide_console
    from infra.doctor import examine

    console = wide_console()
    failed = False
    for check in examine(project):
        mark = {True: "[green]ok[/green]     ", None: "[yellow]little[/yellow] ", False: "[red]missing[/red]"}[check.ok]
        console.print(f"{mark}  [bold]{check.name}[/bold]  {check.found}")
        if not check.ok:
            console.print(f"         {check.remedy}")
        failed |= check.ok is False
    sys.exit(1 if failed else 0)


@app.command()
def init_users(
    project: ProjectOption = Path(),
    uri: UriOption = "",
) -> None:
    """Make the users 'reader' (may search) and 'writer' (may build stores), with the passwords in .env."""
    from dresd_milvus.errors import InputError
    from dresd_milvus.milvus.users import make_users
    from infra.compose import read_settings

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
    continuation: Annotated[int, typer.Option(min=1, help="Tokens of a continuation.")] = 20,
    half: Annotated[bool, typer.Option("--half", help="Keys in float16.")] = False,
) -> None:
    """The memory that each index needs, from a million rows to a billion. Derived, not measured."""
    from rich.table import Table

    from dresd_milvus.console import wide_console
    from infra.sizing import GPU_GB, GPU_SHARE, ROWS, needs, payload_bytes, stored_bytes

    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = [f"{count // 10**6:,} M" for count in ROWS]
    for heading in ("index", "B/row", f"rows on {GPU_GB} GB", *(f"GB at {each}" for each in rows), "GPUs"):
        table.add_column(heading, justify="left" if heading == "index" else "right")
    for need in needs(dim, half):
        per_gpu = f"{need.rows_per_gpu / 1e6:,.0f} M" if need.rows_per_gpu else "CPU"
        gpus = " ".join(map(str, need.gpus)) if need.gpus else ""
        table.add_row(need.name, f"{need.index_bytes:,.0f}", per_gpu, *(f"{gb:,.1f}" for gb in need.index_gb), gpus)
    console = wide_console()
    console.print(table)
    console.print(
        f"\nbeside the index: {payload_bytes(continuation)} B a row in the query nodes' memory and "
        f"{stored_bytes(dim, continuation, half)} B in object storage. GPUs: of {GPU_GB} GB, {GPU_SHARE:.0%} of it "
        f"used, for {', '.join(rows)} rows."
    )


def _stack(project: Path, files: list[Path]) -> Stack:
    from infra.compose import Stack

    return Stack(project, tuple(files))


def _show(services: list[Service]) -> None:
    print("  ".join(f"{service.name}: {service.what}" for service in services), file=sys.stderr, flush=True)
