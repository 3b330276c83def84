"""Worker processes on a Kafka, what they are given, and what they should have made of it. No test of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Self

import orjson
import polars as pl
from aiokafka import TopicPartition

from streamflow.base.errors import StreamFlowError
from streamflow.model.time import MAX_US
from streamflow.topics import codec
from streamflow.topics.kafka import KafkaLog
from streamflow.topics.protocol import Producer, TopicConfig

PARTITIONS = 4
SENSORS = 11
WINDOW_US = 10_000_000
STEP_US = 50_000
PIPELINE = Path(__file__).with_name("cluster_pipeline.py")


def wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_s, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.1)


class ClusterRun:
    """`rounds` times `batch` events go to each partition, with `pause_s` between the rounds, from a thread; then, with
    `end`, the topic is ended. Processes that are left are killed at the end."""

    def __init__(
        self,
        url: str,
        folder: Path,
        name: str,
        *,
        rounds: int,
        batch: int,
        pause_s: float = 0.0,
        table: bool = False,
        end: bool = True,
    ) -> None:
        self.url, self.folder, self.name, self.table = url, folder, name, table
        self.rounds, self.batch, self.pause_s, self.end = rounds, batch, pause_s, end
        self.log = KafkaLog(url)
        self.workers: list[subprocess.Popen[bytes]] = []
        for topic in ("in", "odd", "sums"):
            self.log.create_topic(f"{name}-{topic}", TopicConfig(partitions=PARTITIONS))
        self._publisher = threading.Thread(target=self._publish, daemon=True)
        self.failed: list[BaseException] = []

    def __enter__(self) -> Self:
        self._publisher.start()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        self._publisher.join(60)
        self.log.close()

    @property
    def publishing(self) -> bool:
        return self._publisher.is_alive()

    @property
    def running(self) -> list[subprocess.Popen[bytes]]:
        return [worker for worker in self.workers if worker.poll() is None]

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "streamflow", "worker", str(PIPELINE), "--on", self.url]
        command += ["--until", "finished", *(("--data", str(self.folder)) if self.table else ()), *more]
        environment = {**os.environ, "STREAMFLOW_TEST_NAME": self.name, "POLARS_MAX_THREADS": "1"}
        environment |= {"STREAMFLOW_TEST_TABLE": "yes"} if self.table else {}
        with self.log_of(len(self.workers)).open("wb") as output:
            worker = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        self.workers.append(worker)
        return worker

    def log_of(self, number: int) -> Path:
        return self.folder / f"worker-{number}.log"

    def wait_finished(self, timeout_s: float) -> None:
        """All workers that are still there end by themselves."""
        self._publisher.join(timeout_s)
        assert not self.failed, self.failed
        try:
            wait_for(lambda: not self.running, timeout_s, "the workers to finish")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.told()}") from error
        codes = {worker.returncode for worker in self.workers}
        # Who is told to stop before it listens for that is ended by it.
        assert codes <= {0, -signal.SIGKILL, -signal.SIGTERM}, f"{codes}\n{self.told()}"

    def told(self) -> str:
        """The end of what each worker wrote."""
        logs = [self.log_of(number).read_text(errors="replace") for number in range(len(self.workers))]
        return "\n".join(f"— worker {number}\n{text[-3000:]}" for number, text in enumerate(logs))

    def events(self, topic: str) -> pl.DataFrame:
        """All that a reader of committed messages gets."""
        frames = [
            codec.decode(record)
            for partition in range(PARTITIONS)
            for record in self.log.read(f"{self.name}-{topic}", partition, 0)
        ]
        return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()

    def first_kept(self, step: str) -> list[int]:
        """Kafka's offsets from which on what goes to a step of the pipeline is still there."""
        places = [TopicPartition(f"{self.name}.{step}", partition) for partition in range(PARTITIONS)]
        return [self.log._loop.run(self.log._client.bounds(place))[0] for place in places]

    def assert_exact(self) -> None:
        """Each odd event once; each sensor and window once, with its sum."""
        odd = Counter(self.events("odd")["value"].to_list())
        assert odd == Counter(value for value in range(PARTITIONS * self.rounds * self.batch) if value % 2)
        sums = self.events("sums")
        got = sorted(
            zip(sums["window_start"].dt.epoch("us"), sums["sensor"], sums["readings"], sums["total"], strict=True)
        )
        assert got == self.expected_sums()

    def expected_sums(self) -> list[tuple[int, int, int, int]]:
        expected: dict[tuple[int, int], list[int]] = {}
        for number in range(self.rounds):
            for partition in range(PARTITIONS):
                for event in self._events(number, partition):
                    start = event["at_us"] // WINDOW_US * WINDOW_US
                    expected.setdefault((start, event["sensor"]), []).append(event["value"])
        return sorted((start, sensor, len(of), sum(of)) for (start, sensor), of in expected.items())

    def _events(self, number: int, partition: int) -> list[dict[str, int]]:
        first = number * self.batch
        return [
            {"sensor": n % SENSORS, "at_us": n * STEP_US, "value": n * PARTITIONS + partition}
            for n in range(first, first + self.batch)
        ]

    def _publish(self) -> None:
        try:
            for number in range(self.rounds):
                self._publish_round(number)
                time.sleep(self.pause_s)
            if self.end:
                self.log.advance_watermark(f"{self.name}-in", MAX_US)
        except BaseException as error:
            self.failed.append(error)

    def _publish_round(self, number: int) -> None:
        records = []
        for partition in range(PARTITIONS):
            events = self._events(number, partition)
            raws = [orjson.dumps(event) for event in events]
            records.append(codec.encode_json(f"{self.name}-in", partition, raws, [e["at_us"] for e in events]))
        try:
            self.log.publish(records, Producer("test", number))
        except StreamFlowError:
            time.sleep(1.0)  # the broker is away; a name makes it harmless to try again
            self.log.publish(records, Producer("test", number))
