"""The compose CLI and the containers that it makes. Files and profiles are read by compose alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from dotenv import dotenv_values

from dresd_milvus.errors import InputError

LABEL = "com.docker.compose"
"""Every compose version labels its containers so."""


def compose_command() -> list[str]:
    """`docker compose` where Docker has it, else docker-compose; raises InputError when there is neither."""
    if shutil.which("docker"):
        asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if asked.returncode == 0:
            return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise InputError("there is no compose; install Docker's compose plugin (or docker-compose 1.29)")


def read_settings(path: Path) -> dict[str, str]:
    """NAME=value of an .env file, the environment's own values before it; InputError when there is no file."""
    if not path.exists():
        raise InputError(f"there is no {path}; copy .env.example to .env beside it, and set the passwords")
    settings = {name: value or "" for name, value in dotenv_values(path, interpolate=False).items()}
    return {name: os.environ.get(name, value) for name, value in settings.items()}


@dataclass(frozen=True)
class Service:
    """One container of the stack. state: Docker's (running, exited, restarting, ...); health: '' without a check;
    identity: of the container, another when compose makes it anew."""

    name: str
    state: str
    health: str
    restarts: int
    exit_code: int
    identity: str
    container: Any

    @property
    def ready(self) -> bool:
        """Whether the service runs and is not known to be unhealthy."""
        return self.state == "running" and self.health in ("healthy", "")

    @property
    def failed(self) -> bool:
        """Whether the service has ended or is unhealthy."""
        return self.state in ("exited", "dead") or self.health == "unhealthy"

    @property
    def what(self) -> str:
        """In words."""
        if self.state == "exited":
            return f"exited with {self.exit_code}"
        return f"{self.health or self.state}" + (f", restarted {self.restarts} times" if self.restarts else "")

    def log(self, lines: int) -> str:
        """The last lines of its log."""
        return str(self.container.logs(tail=lines).decode(errors="replace")).rstrip()


class Stack:
    """A compose project: its folder, settings and containers."""

    def __init__(self, folder: Path, files: tuple[Path, ...] = ()) -> None:
        if not (folder / "docker-compose.yml").exists():
            raise InputError(f"there is no docker-compose.yml in {folder}; give the folder of a clone with --project")
        self.folder, self.files = folder, files
        self.settings = read_settings(folder / ".env")
        self.project = self.settings.get("COMPOSE_PROJECT_NAME") or folder.resolve().name

    @cached_property
    def docker(self) -> Any:
        """A client of the Docker engine; InputError when it cannot be reached."""
        import docker

        try:
            return docker.from_env()
        except docker.errors.DockerException as error:
            raise InputError(
                f"the Docker engine does not answer ({error}); start it, and see that this user may use it"
            ) from error

    def start(self, arguments: list[str], output: IO[Any] | int | None = None) -> subprocess.Popen[bytes]:
        """Run compose with these arguments."""
        # Naming any file makes compose forget those that it would take by itself.
        base = self.settings.get("COMPOSE_FILE", "docker-compose.yml").split(os.pathsep)
        named = [*base, *(str(path.resolve()) for path in self.files)] if self.files else []
        files = [part for name in named for part in ("--file", name)]
        command = [*compose_command(), "--project-name", self.project, *files, *arguments]
        errors = None if output is None else subprocess.STDOUT
        return subprocess.Popen(command, cwd=self.folder, stdout=output, stderr=errors)

    def services(self) -> list[Service]:
        """The containers that there are, by name."""
        filters = {"label": [f"{LABEL}.project={self.project}", f"{LABEL}.oneoff=False"]}
        found = []
        for container in self.docker.containers.list(all=True, filters=filters, ignore_removed=True):
            state = container.attrs["State"]
            found.append(
                Service(
                    container.labels[f"{LABEL}.service"],
                    state["Status"],
                    (state.get("Health") or {}).get("Status", ""),
                    container.attrs["RestartCount"],
                    state["ExitCode"],
                    container.id,
                    container,
                )
            )
        return sorted(found, key=lambda service: service.name)
