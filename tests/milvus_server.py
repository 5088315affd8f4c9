"""A real Milvus server for tests and benchmarks, from `make server`: no containers, its own folder, its own ports."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".venv-server"
CONFIGURE = """
import milvus
milvus.MilvusServer.start = lambda server: server.config.resolve()
milvus.MilvusServer.wait = lambda server: None
milvus.main()
"""

MISSING = "the packaged Milvus server is not installed; run: make server"
PORTS = (
    *("etcd", "root-coord", "proxy", "proxy-internal", "query-coord"),
    *("query-node", "index-coord", "index-node", "data-coord", "data-node"),
)


def installed() -> bool:
    """Whether `make server` has been run here."""
    return (ENVIRONMENT / "server" / "bin" / "milvus").exists()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, below those that a system gives to outgoing connections.

    One of those could be taken while a server is down, by a client that tries to reach it.
    """
    ports: list[int] = []
    for port in random.sample(range(20_000, 32_000), 12_000):
        with suppress(OSError), socket.socket() as tried:
            tried.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError("there are no free ports")


class MilvusServer:
    """Starts when it is made; `stop` it. options: further ones of `milvus-server`, such as --authorization-enabled."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bin").symlink_to(ENVIRONMENT / "server" / "bin")
        *ports, peer, self.health = free_ports(len(PORTS) + 2)
        self.ports = dict(zip(PORTS, ports, strict=True))
        self.port = self.ports["proxy"]
        # etcd's peer port is fixed unless etcd has a file of its own; with one, servers live side by side.
        client, peers = (f"http://127.0.0.1:{port}" for port in (self.ports["etcd"], peer))
        (folder / "etcd.yaml").write_text(
            f"listen-client-urls: {client}\nadvertise-client-urls: {client}\nlisten-peer-urls: {peers}\n"
            f"initial-advertise-peer-urls: {peers}\ninitial-cluster: default={peers}\n"
        )
        self._configure(options)
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _configure(self, options: tuple[str, ...]) -> None:
        """Have the package write its configuration, and no more: it would move to other ports after a crash."""
        command = [str(ENVIRONMENT / "bin" / "python"), "-c", CONFIGURE, "--data", str(self.folder), *options]
        command += [text for name, port in self.ports.items() for text in (f"--{name}-port", str(port))]
        subprocess.run(command, check=True, capture_output=True)

    def start(self, deadline: float = 120.0) -> None:
        """Start it, or start it again on the same data after a kill; returns when it says that it is healthy."""
        environment = {
            **os.environ,
            "ETCD_CONFIG_PATH": str(self.folder / "etcd.yaml"),
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(self.health),
            "MILVUS_RUN_DIR": str(self.folder / "run"),
            "LD_LIBRARY_PATH": str(self.folder / "bin"),
        }
        command = [str(self.folder / "bin" / "milvus"), "run", "standalone"]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=self.folder)
        end = time.monotonic() + deadline
        while not self._healthy():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"the Milvus server did not start; see {self.folder}/server.log")
            time.sleep(0.1)

    def _healthy(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.health}/healthz", timeout=5) as answer:
            return b"OK" in answer.read()
        return False

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it whatever state it is in; its data is left."""
        self.kill()
