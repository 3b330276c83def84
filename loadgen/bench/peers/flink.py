"""Flink SQL, streaming, in one JVM: a cluster within it with a slot per core, and a checkpoint each second.

The source is Flink's file system connector with its JSON format, which reads the file once and in order and pushes the
projection into the parser; the ads are joined by a Java function; the sink's files become visible with checkpoints.
"""

import shutil
from pathlib import Path

from loadgen.jvm import installed, once, program

WORKS = ("W1-json", "W2-json")
PROGRAM = Path(__file__).parent / "programs" / "flink"

_CLASSES = "target/classes"
_JARS = "jars"
_JVM = (
    "-Xmx4g",  # as Spark has
    "-XX:+UseParallelGC",  # a sixth less CPU than G1 on two cores
    "--add-opens=java.base/java.lang=ALL-UNNAMED",  # Flink's own start script opens these
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.time=ALL-UNNAMED",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
)


def prepare(home: Path) -> None:
    """Compile the program and bring Flink's jars, with Maven. NotFoundError without Maven or Java."""
    program("java", "openjdk-17-jdk-headless")
    maven = program("mvn", "maven")
    sources = sorted(path for path in PROGRAM.rglob("*") if path.suffix in (".java", ".xml"))

    def build(home: Path) -> None:
        shutil.copytree(PROGRAM, home, dirs_exist_ok=True)
        goals = ("compile", "dependency:copy-dependencies", f"-DoutputDirectory={_JARS}")
        installed([maven, "--batch-mode", "--quiet", *goals], home)

    once(home, "".join(path.read_text() for path in sources), build)


def command(home: Path, job: Path, cores: int) -> list[str]:
    """The JVM that does the job; it reads the number of cores from there."""
    home = home.resolve()
    classpath = f"{home / _CLASSES}:{home / _JARS}/*"
    return [program("java", "openjdk-17-jdk-headless"), *_JVM, "-cp", classpath, "loadgen.Peer", str(job.resolve())]
