"""Apache Beam's module of this name: files that a test writes and reads."""

import glob
from pathlib import Path

__all__ = ["create_file", "read_files_from_pattern"]


def create_file(path: str, contents: str) -> str:
    """Writes a text file, with the folders it stands in, and gives its path back."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(contents)
    return path


def read_files_from_pattern(file_pattern: str) -> str:
    """The texts of all files of the pattern, one after the other."""
    return "".join(Path(path).read_text() for path in sorted(glob.glob(file_pattern)))
