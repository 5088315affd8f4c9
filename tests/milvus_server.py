"""A real Milvus server for tests and benchmarks, from `make server`: no containers, its own folder, its own ports."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".venv-server"
MISSING = "the packaged Milvus server is not installed; run: make server"
PORTS = (
    *("etcd", "root-coord", "proxy", "proxy-internal", "query-coord"),
    *("query-node", "index-coord", "index-node", "data-coord", "data-node"),
)


def installed() -> bool:
    """Whether `make server` has been run here."""
    return (ENVIRONMENT / "server" / "bin" / "milvus").exists()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on; taken together, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class MilvusServer:
    """Starts when it is made; `stop` it. options: further ones of `milvus-server`, such as --authorization-enabled."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bin").symlink_to(ENVIRONMENT / "server" / "bin")
        *ports, peer = free_ports(len(PORTS) + 1)
        self.ports = dict(zip(PORTS, ports, strict=True))
        self.port = self.ports["proxy"]
        # etcd's peer port is fixed unless etcd has a file of its own; with one, servers live side by side.
        client, peers = (f"http://127.0.0.1:{port}" for port in (self.ports["etcd"], peer))
        (folder / "etcd.yaml").write_text(
            f"listen-client-urls: {client}\nadvertise-client-urls: {client}\nlisten-peer-urls: {peers}\n"
            f"initial-advertise-peer-urls: {peers}\ninitial-cluster: default={peers}\n"
        )
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, deadline: float = 120.0) -> None:
        """Start it, or start it again on the same data after a kill; returns when it answers."""
        command = [str(ENVIRONMENT / "bin" / "milvus-server"), "--data", str(self.folder), *self.options]
        command += [text for name, port in self.ports.items() for text in (f"--{name}-port", str(port))]
        environment = {**os.environ, "ETCD_CONFIG_PATH": str(self.folder / "etcd.yaml")}
        log = (self.folder / "launcher.log").open("ab")
        self.launcher = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=self.folder)
        log.close()
        end, before = time.monotonic() + deadline, (self.folder / "launcher.log").read_bytes().count(b"Welcome")
        while (self.folder / "launcher.log").read_bytes().count(b"Welcome") == before:
            if self.launcher.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"the Milvus server did not start; see {self.folder}/launcher.log and logs/")
            time.sleep(0.1)
        self.process = psutil.Process(self.launcher.pid).children()[0]

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.process.kill()
        self.launcher.kill()
        self.process.wait()
        self.launcher.wait()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it whatever state it is in; its data is left."""
        for process in [*psutil.Process(self.launcher.pid).children(), self.launcher] if self.running else []:
            process.kill()
        self.launcher.wait()

    @property
    def running(self) -> bool:
        return self.launcher.poll() is None
