"""Kafka brokers of this machine: brought by Maven once, started in a second or two, gone with the folder they live in.

Each broker is a JVM of its own and a KRaft controller too, so a cluster needs no other process. All listen on loopback.
"""

import base64
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from loadgen.jvm import installed, once, program
from streamflow.base.errors import StreamFlowError

POM = Path(__file__).parent / "pom.xml"
HOST = "127.0.0.1"
START_S_MAX = 120.0
"""A start takes 2 s on a free machine."""

_JARS = "jars"
_JVM = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # starts in half the time
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
_STORAGE_JVM = (*_JVM, "-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
_POLL_S = 0.05
_LOG_LINES = 20


def home_default() -> Path:
    """Where the jars are kept: 45 MB."""
    return Path.home() / ".cache" / "streamflow" / "kafka"


def prepare(home: Path) -> None:
    """Bring Kafka's jars into `home` with Maven, once. NotFoundError without Maven or Java."""
    program("java", "openjdk-17-jdk-headless")
    maven = program("mvn", "maven")

    def bring(home: Path) -> None:
        shutil.copy(POM, home)
        goals = ("dependency:copy-dependencies", f"-DoutputDirectory={_JARS}")
        installed([maven, "--batch-mode", "--quiet", *goals], home)

    once(home, POM.read_text(), bring)


@dataclass(frozen=True, slots=True)
class _Ports:
    broker: int
    controller: int
    more: Sequence[int] = ()


class Cluster:
    """Brokers that keep their data in `folder`: `brokers` on free ports, or those that are in the folder already.

    `settings` go to each broker's server.properties; `listeners` are protocols that it speaks besides PLAINTEXT, each
    on a free port: SASL_PLAINTEXT, SSL, SASL_SSL, as the settings say. As a context manager it is started, and stopped
    at the end."""

    def __init__(
        self,
        folder: Path,
        *,
        home: Path | None = None,
        brokers: int = 1,
        settings: Mapping[str, str] | None = None,
        listeners: Sequence[str] = (),
    ) -> None:
        self.folder, self.home = folder.absolute(), home or home_default()
        self.ports = _kept_ports(self.folder) or _free_ports(brokers, len(listeners))
        self._listeners = tuple(listeners)
        self._settings = dict(settings or {})
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def servers(self) -> str:
        """`host:port,…`, as clients want it."""
        return ",".join(f"{HOST}:{ports.broker}" for ports in self.ports)

    def servers_of(self, listener: str) -> str:
        """The same for one of `listeners`."""
        nth = self._listeners.index(listener)
        return ",".join(f"{HOST}:{ports.more[nth]}" for ports in self.ports)

    @property
    def url(self) -> str:
        return f"kafka://{self.servers}"

    def start(self) -> None:
        """Format the folder if it is new, start all brokers, and wait until each takes part.

        StreamFlowError with the last lines of its log if one does not within two minutes."""
        prepare(self.home)
        cluster, *directories = (_id() for _ in range(1 + len(self.ports)))
        for index in range(len(self.ports)):
            self._format(index, cluster, directories)
        for index in range(len(self.ports)):
            self.restart(index, wait=False)
        for index in range(len(self.ports)):
            self._wait(index)

    def restart(self, index: int, *, wait: bool = True) -> None:
        """Start one that was stopped or killed."""
        log = (self._folder(index) / "broker.log").open("ab")
        self._processes[index] = subprocess.Popen(
            self._java(_JVM, "kafka.Kafka", str(self._properties(index))), stdout=log, stderr=log
        )
        log.close()
        if wait:
            self._wait(index)

    def kill(self, index: int) -> None:
        """With SIGKILL."""
        self._end(index, signal.SIGKILL)

    def pause(self, index: int) -> None:
        """With SIGSTOP; `resume` lets it go on."""
        self._processes[index].send_signal(signal.SIGSTOP)

    def resume(self, index: int) -> None:
        self._processes[index].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """All of them, at once: nobody waits for leaders to move."""
        for index in list(self._processes):
            self._end(index, signal.SIGKILL)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _end(self, index: int, how: signal.Signals) -> None:
        process = self._processes.pop(index)
        process.send_signal(how)
        process.wait()

    def _folder(self, index: int) -> Path:
        return self.folder / f"broker-{index + 1}"

    def _properties(self, index: int) -> Path:
        return self._folder(index) / "server.properties"

    def _format(self, index: int, cluster: str, directories: Sequence[str]) -> None:
        if self._properties(index).exists():
            return
        self._folder(index).mkdir(parents=True)
        lines = {**_properties(index, self.ports, self._listeners, self._folder(index) / "data"), **self._settings}
        self._properties(index).write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        voters = ",".join(
            f"{nth + 1}@{HOST}:{ports.controller}:{directory}"
            for nth, (ports, directory) in enumerate(zip(self.ports, directories, strict=True))
        )
        storage = ("kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--initial-controllers", voters)
        installed(self._java(_STORAGE_JVM, *storage, "--config", str(self._properties(index))), self._folder(index))

    def _java(self, options: Sequence[str], *words: str) -> list[str]:
        java = program("java", "openjdk-17-jdk-headless")
        return [java, *options, "-cp", f"{self.home.absolute() / _JARS}/*", *words]

    def _wait(self, index: int) -> None:
        give_up = time.monotonic() + START_S_MAX
        while not _answers(self.ports[index].broker):
            code = self._processes[index].poll()
            if code is not None or time.monotonic() > give_up:
                what = f"ended with exit code {code}" if code is not None else f"is not there after {START_S_MAX:.0f} s"
                tail = (self._folder(index) / "broker.log").read_text(errors="replace").splitlines()[-_LOG_LINES:]
                raise StreamFlowError(f"Kafka broker {index + 1} {what}. The end of its log:\n" + "\n".join(tail))
            time.sleep(_POLL_S)


def _id() -> str:
    """As Kafka has them. With a hyphen in front it would be taken for an option."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return made


def _properties(index: int, ports: Sequence[_Ports], listeners: Sequence[str], data: Path) -> dict[str, str]:
    copies = str(min(3, len(ports)))
    own = ports[index]
    spoken = [("PLAINTEXT", own.broker), ("CONTROLLER", own.controller), *zip(listeners, own.more, strict=True)]
    return {
        "process.roles": "broker,controller",
        "node.id": str(index + 1),
        "controller.quorum.bootstrap.servers": ",".join(f"{HOST}:{each.controller}" for each in ports),
        "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in spoken),
        "listener.security.protocol.map": ",".join(
            f"{name}:{'PLAINTEXT' if name == 'CONTROLLER' else name}" for name, _ in spoken
        ),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": "4",  # the 50 of the default take seconds to make
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.num.partitions": "4",
        "transaction.state.log.min.isr": str(max(1, min(2, len(ports)))),
        "group.initial.rebalance.delay.ms": "0",
    }


def _kept_ports(folder: Path) -> list[_Ports]:
    """Of the brokers that are in the folder; what they keep knows them by these."""
    found: list[_Ports] = []
    while (properties := folder / f"broker-{len(found) + 1}" / "server.properties").exists():
        told = dict(line.partition("=")[::2] for line in properties.read_text().splitlines())
        numbers = [int(each.rpartition(":")[2]) for each in told["listeners"].split(",")]
        found.append(_Ports(numbers[0], numbers[1], numbers[2:]))
    return found


def _free_ports(brokers: int, more: int) -> list[_Ports]:
    """Ports that nobody listens on now. They are held together until all are known, so no two are the same."""
    sockets = [socket.socket() for _ in range((2 + more) * brokers)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        numbers = [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
    size = 2 + more
    return [_Ports(numbers[at], numbers[at + 1], numbers[at + 2 : at + size]) for at in range(0, len(numbers), size)]


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False
