"""Spark Structured Streaming on `local[cores]`: append mode, available-now trigger, checkpoints.

A file is never divided among micro-batches, so all events are one batch, which two cores share; a marker event closes
the last windows. The ads are joined by broadcast.
"""

import sys
from pathlib import Path

from loadgen.jvm import installed, once, program

WORKS = ("W1-json", "W2-json")
PROGRAM = Path(__file__).parent / "programs" / "spark_job.py"

_REQUIREMENT = "pyspark==4.3.0"
_JVM = ("--driver-memory", "4g", "--driver-java-options", "-XX:+UseParallelGC")
"""The parallel collector takes an eighth less CPU than G1 on two cores."""


def prepare(home: Path) -> None:
    """A virtual environment with Spark, which brings its jars. NotFoundError without Java."""
    program("java", "openjdk-17-jre-headless")

    def install(home: Path) -> None:
        installed([sys.executable, "-m", "venv", "venv"], home)
        installed(["venv/bin/pip", "install", "--quiet", _REQUIREMENT], home)

    once(home, _REQUIREMENT, install)


def command(home: Path, job: Path, cores: int) -> list[str]:
    """spark-submit: its JVM is the parent of the Python program, so that the CPU time of both is seen."""
    python = home.resolve() / "venv" / "bin" / "python"
    settings = {
        "spark.pyspark.python": str(python),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(job.resolve().parent),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(cores),
        "spark.ui.enabled": "false",
    }
    options = [option for name, value in settings.items() for option in ("--conf", f"{name}={value}")]
    submit = _spark(home.resolve()) / "bin" / "spark-submit"
    return [str(submit), "--master", f"local[{cores}]", *_JVM, *options, str(PROGRAM), str(job.resolve())]


def _spark(home: Path) -> Path:
    """Where pip put it."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return home / "venv" / "lib" / version / "site-packages" / "pyspark"
