"""What a machine needs for the stack, checked one by one, each with what to do where it is missing."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dresd_milvus.errors import DresdError
from infra.compose import Stack, compose_command
from infra.stack import require_settings

OLDEST_COMPOSE = (1, 29)

OLDEST_DRIVER = 575
"""Milvus's GPU images since 2.6.19 carry CUDA 12.9."""

FREE_GIB, MEMORY_GIB = 50, 8

PORTS = {"MILVUS_PORT": 19530, "MILVUS_METRICS_PORT": 9091, "ATTU_PORT": 8000}


class Check(NamedTuple):
    """ok: None where it only is a warning. remedy: what to do unless ok."""

    name: str
    ok: bool | None
    found: str
    remedy: str = ""


def examine(folder: Path) -> Iterator[Check]:
    """All checks, in the order in which they are worth mending."""
    yield _compose()
    try:
        stack = Stack(folder)
        require_settings(stack.settings)
        settings = stack.settings
        yield Check("settings", True, f"{folder / '.env'}, profile {settings['COMPOSE_PROFILES']}")
    except DresdError as error:
        yield Check("settings", False, str(error), "copy .env.example to .env and set what is missing")
        return
    running, check = _engine(stack)
    yield check
    yield from _ports(settings, running)
    yield _disk(_data_folder(stack) if check.ok else Path("/"))
    yield _memory()
    if "gpu" in settings["COMPOSE_PROFILES"].split(","):
        yield from _gpu(stack if check.ok else None)


def _compose() -> Check:
    try:
        command = compose_command()
    except DresdError as error:
        return Check("compose", False, "there is none", str(error))
    text = subprocess.run([*command, "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    version = tuple(int(part) for part in found.groups()) if found else (0, 0, 0)
    fine = version[:2] >= OLDEST_COMPOSE
    return Check("compose", fine, f"{' '.join(command)} {'.'.join(map(str, version))}", "upgrade it to 1.29 or newer")


def _engine(stack: Stack) -> tuple[bool, Check]:
    """(whether the stack runs already, the check)."""
    try:
        version = stack.docker.version()["Version"]
        return bool(stack.services()), Check("Docker engine", True, version)
    except Exception as error:  # whatever the engine says, it is not usable
        return False, Check("Docker engine", False, str(error).splitlines()[0], "start it: systemctl start docker")


def _ports(settings: dict[str, str], running: bool) -> Iterator[Check]:
    for name, default in PORTS.items():
        given = settings.get(name) or str(default)
        if not given.isdigit():
            yield Check(name, False, f"'{given}' is no port", f"set {name} in .env to a number")
            continue
        port = int(given)
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
                yield Check(f"port {port}", True, "free")
            except OSError:
                remedy = f"stop what listens there, or set {name} in .env"
                yield Check(f"port {port}", running, "taken" + " (the stack runs)" * running, remedy)


def _data_folder(stack: Stack) -> Path:
    return Path(stack.docker.info()["DockerRootDir"])


def _disk(folder: Path) -> Check:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    remedy = f"have {FREE_GIB} GiB for images and data; about 350 bytes a row on top"
    return Check("disk", True if free >= FREE_GIB else None, f"{free:.0f} GiB free at {folder}", remedy)


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    remedy = f"Milvus wants {MEMORY_GIB} GiB, and an index on the CPU 400 bytes a row"
    return Check("memory", True if total >= MEMORY_GIB else None, f"{total:.0f} GiB", remedy)


def _gpu(stack: Stack | None) -> Iterator[Check]:
    remedy = f"install NVIDIA's driver, {OLDEST_DRIVER} or newer, or set COMPOSE_PROFILES=cpu in .env"
    if not shutil.which("nvidia-smi"):
        yield Check("GPU", False, "there is no nvidia-smi", remedy)
        return
    query = ["nvidia-smi", "--query-gpu=index,name,driver_version,memory.total", "--format=csv,noheader"]
    asked = subprocess.run(query, capture_output=True, text=True, check=False)
    if asked.returncode:
        yield Check("GPU", False, (asked.stdout + asked.stderr).strip().splitlines()[0], remedy)
        return
    for line in asked.stdout.strip().splitlines():
        index, name, driver, memory = (part.strip() for part in line.split(","))
        major = driver.split(".")[0]
        fine = major.isdigit() and int(major) >= OLDEST_DRIVER
        yield Check(f"GPU {index}", fine, f"{name}, driver {driver}, {memory}", remedy)
    if stack is not None:
        runtimes = stack.docker.info().get("Runtimes", {})
        remedy = "install nvidia-container-toolkit, run: nvidia-ctk runtime configure, and restart Docker"
        yield Check("GPU in containers", "nvidia" in runtimes or None, ", ".join(sorted(runtimes)), remedy)
