"""Starting, watching and stopping the stack."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Protocol

from dresd_milvus.errors import DresdError, InputError
from infra.compose import Service, Stack

SECRETS = ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MILVUS_ROOT_PASSWORD", "ATTU_PASSWORD")

PROFILES = ("gpu", "cpu")

LOG_LINES = 40


class StackError(DresdError):
    """The stack cannot be brought up or down. log: the last lines of the service that failed."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class Watch(Protocol):
    """Is told what the services are doing whenever that changes."""

    def __call__(self, services: list[Service]) -> None: ...


def require_settings(settings: dict[str, str]) -> None:
    """Raise InputError unless the passwords are set and a profile is chosen."""
    missing = [name for name in SECRETS if not settings.get(name)]
    if missing:
        raise InputError(f"{', '.join(missing)} in .env must be set; nothing was started")
    if len(set(settings.get("COMPOSE_PROFILES", "").split(",")) & set(PROFILES)) != 1:
        raise InputError("COMPOSE_PROFILES in .env must be gpu or cpu; nothing was started")
    strange = [name for name in SECRETS if set(settings[name]) & set("$#\"' \\")]
    if strange:
        raise InputError(
            f"{', '.join(strange)} in .env must not hold blanks, quotes, $, # or \\, which compose reads itself"
        )
    if len(settings["MILVUS_ROOT_PASSWORD"]) > 72:
        raise InputError("MILVUS_ROOT_PASSWORD in .env is longer than the 72 characters that Milvus takes")


def up(stack: Stack, deadline: float, watch: Watch) -> list[Service]:
    """Start the stack and return when every service is healthy.

    Raises StackError, with the log of the service that failed or is not healthy yet, when one fails or after `deadline`
    seconds; what was started is left as it is, to be looked at.
    """
    require_settings(stack.settings)
    there = stack.services()
    other = ({*PROFILES} - {*stack.settings["COMPOSE_PROFILES"].split(",")}).pop()
    if any(service.name.endswith(f"-{other}") for service in there):
        raise StackError(f"the stack is there with the profile {other}; run first (data stays): dresd stack down")
    # What ran or failed before is not what is started now; a restart counts from here.
    old = {service.identity: service.restarts for service in there}
    before = ""
    end = time.monotonic() + deadline
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+b") as log:
        running = stack.start(["up", "--detach", "--remove-orphans"], log)
        try:
            while True:
                ended = running.poll()
                services = stack.services()
                now = ", ".join(f"{service.name} {service.what}" for service in services)
                if now != before:
                    watch(services)
                    before = now
                _raise_for_failed([service for service in services if newly_failed(service, old, ended)])
                if ended:
                    log.seek(0)
                    said = log.read().decode(errors="replace").strip().splitlines() or ["it does not say why"]
                    raise StackError(f"compose could not start the stack: {said[-1]}", "\n".join(said[-LOG_LINES:]))
                if ended == 0 and services and all(service.ready for service in services):
                    return services
                if time.monotonic() > end:
                    late = [service for service in services if not service.ready]
                    names = ", ".join(f"{service.name} is {service.what}" for service in late) or "nothing runs"
                    raise StackError(
                        f"the stack is not healthy after {deadline:.0f} s: {names}; wait for it with: dresd stack "
                        "status, or look at: dresd stack logs",
                        late[0].log(LOG_LINES) if late else "",
                    )
                time.sleep(0.5)
        finally:
            if running.poll() is None:
                running.terminate()
                running.wait()


def newly_failed(service: Service, old: dict[str, int], ended: int | None) -> bool:
    """Whether a service has failed since: one that compose has not touched yet may still be left from before.

    Some restarts are normal while others start; once compose has given up, a single one says which service it was.
    """
    untouched = ended is None and service.identity in old
    looping = service.restarts > old.get(service.identity, 0) + (0 if ended else 2)
    return (service.failed or looping) and not untouched


def _raise_for_failed(services: list[Service]) -> None:
    for service in services:
        raise StackError(
            f"the service {service.name} failed ({service.what}); its log ends as above; all of it: dresd stack logs",
            service.log(LOG_LINES),
        )


def down(stack: Stack, volumes: bool) -> None:
    """Stop the stack and remove its containers; volumes: and all data. Raises StackError when compose cannot."""
    profiles = [part for name in (*PROFILES, "tools", "serve") for part in ("--profile", name)]
    arguments = [*profiles, "down", "--remove-orphans", *(["--volumes"] if volumes else [])]
    running = stack.start(arguments, subprocess.PIPE)
    output, _ = running.communicate()
    if running.returncode:
        said = output.decode(errors="replace").strip().splitlines() or ["it does not say why"]
        raise StackError(f"compose could not stop the stack: {said[-1]}", "\n".join(said[-LOG_LINES:]))
