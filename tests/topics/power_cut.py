"""What a power cut may leave of a folder, made from what a process really asked of the kernel (seen by strace).

Of each file the bytes of its last sync are there. Of what was written since, each sector is there, or not, or torn, or
noughts, or noise, and the size may be any in between; of the names made or removed since their folder was synced, the
first few are done. Files mapped into memory (SQLite's index of its log, the reads of segments) are not recorded: the
index is made anew by whoever comes first after a cut, and is left as noise here.
"""

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import recorded_log

SECTOR = 512
_CALLS = "open,openat,write,pwrite64,pwritev,pwritev2,writev,ftruncate,fsync,fdatasync,rename,mkdir,unlink,unlinkat"
_CALL = re.compile(rb"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)(?:<([^>]*)>)?", re.DOTALL)
_FD = re.compile(rb"^(\d+)<([^>]*)>")
_TEXT = re.compile(rb'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True, slots=True)
class Op:
    """`kind`: create, folder, remove, write, cut (to `at`), sync, or says."""

    kind: str
    path: str
    at: int = 0
    data: bytes = b""


def record(folder: Path, trace: Path) -> list[Op]:
    """Run `recorded_log.py` on `folder`, which must not exist yet; what it did there."""
    strace = ["strace", "-f", "-y", "-xx", "-s", "4000000", "-e", f"trace={_CALLS}", "-o", str(trace)]
    child = [sys.executable, recorded_log.__file__, str(folder)]
    script = 'exec 3>"$0"; exec "$@"'
    says = trace.with_suffix(".says")
    subprocess.run(["sh", "-c", script, str(says), *strace, *child], check=True, timeout=120)
    ops: list[Op] = []
    known: set[str] = set()
    for line in _whole(trace.read_bytes().splitlines()):
        ops += _ops(line, str(folder), str(says), known)
    return ops


def _whole(lines: list[bytes]) -> Iterator[bytes]:
    """A call during which another thread did something (Polars has some) stands in two lines."""
    begun: dict[bytes, bytes] = {}
    for line in lines:
        thread = line.partition(b" ")[0]
        if line.endswith(b"<unfinished ...>"):
            begun[thread] = line.removesuffix(b" <unfinished ...>")
        elif b" resumed>" in line[:60]:
            yield begun.pop(thread) + line.partition(b" resumed>")[2]
        else:
            yield line


def _ops(line: bytes, folder: str, says: str, known: set[str]) -> list[Op]:
    found = _CALL.match(line)
    if found is None:
        return []
    call, arguments, result = found[1].decode(), found[2], int(found[3])
    if result < 0:
        return []
    texts = [_unhexed(text) for text in _TEXT.findall(arguments)]
    on = _FD.match(arguments)
    path = _unhexed(on[2]).decode() if on else texts[0].decode() if texts else ""
    if call in ("open", "openat"):
        path = _unhexed(found[4] or b"").decode()
    if path == says:
        return [Op("says", "", 0, texts[0])] if call == "write" else []
    if path != folder and not path.startswith(folder + "/"):
        return []
    name = path[len(folder) + 1 :]
    match call:
        case "open" | "openat":
            fresh = b"O_CREAT" in arguments and name not in known
            known.add(name)
            return [Op("create", name)] if fresh else []
        case "mkdir":
            return [Op("folder", name)] if name else []
        case "fsync" | "fdatasync":
            return [Op("sync", name)]
        case "unlink":
            known.discard(name)
            return [Op("remove", name)]
        case "ftruncate":
            return [Op("cut", name, int(arguments.rsplit(b",", 1)[1]))]
        case "pwrite64" | "pwritev" | "pwritev2":
            numbers = [int(each) for each in re.findall(rb", (\d+)", arguments[arguments.rindex(b'"') :])]
            at = numbers[-2] if call == "pwritev2" else numbers[-1]
            data = b"".join(texts)
            assert len(data) == result
            return [Op("write", name, at, data)]
    raise AssertionError(f"{call} of '{name}' is not known here")


def _unhexed(text: bytes) -> bytes:
    return bytes.fromhex(text.replace(b"\\x", b"").decode())


@dataclass
class _File:
    is_folder: bool
    synced: bytes = b""
    now: bytearray = field(default_factory=bytearray)
    since: list[Op] = field(default_factory=list)

    def apply(self, op: Op) -> None:
        if op.kind == "sync":
            self.synced, self.since = bytes(self.now), []
            return
        self.since.append(op)
        if op.kind == "cut":
            self.now = self.now[: op.at].ljust(op.at, b"\0")
        else:
            self.now = self.now.ljust(op.at, b"\0")
            self.now[op.at : op.at + len(op.data)] = op.data

    def left(self, chance: random.Random) -> bytes:
        """One of the contents that a cut may leave."""
        if not self.since or (fate := chance.random()) < 0.15:
            return self.synced
        if fate < 0.25:
            return bytes(self.now)
        sizes = [len(self.synced), len(self.now), *(op.at for op in self.since if op.kind == "cut")]
        sizes += [end for op in self.since if (end := op.at + len(op.data)) > len(self.synced)]
        size = chance.choice([*sizes, chance.randint(min(sizes), max(sizes))])
        found = bytearray(self.synced[:size].ljust(size, b"\0"))
        kept = chance.choice([0.1, 0.5, 0.9])
        for op in self.since:
            if op.kind == "cut":
                continue
            for at in range(op.at - op.at % SECTOR, op.at + len(op.data), SECTOR):
                start, end = max(at, op.at), min(at + SECTOR, op.at + len(op.data), size)
                if start < end:
                    new = op.data[start - op.at : end - op.at]
                    found[start:end] = new if chance.random() < kept else _spoilt(chance, new, bytes(found[start:end]))
        return bytes(found)


def _spoilt(chance: random.Random, new: bytes, old: bytes) -> bytes:
    torn = chance.randrange(len(new))
    flipped = bytearray(new)
    flipped[torn] ^= 1 << chance.randrange(8)
    choices = [old, old, new[:torn] + old[torn:], bytes(len(new)), bytes(flipped), chance.randbytes(len(new))]
    return chance.choice(choices)


@dataclass
class Disk:
    """What the kernel has been told so far. `confirmed`: how many changes the process has said to be done."""

    confirmed: int = 0
    files: dict[str, _File] = field(default_factory=dict)
    durable: dict[str, _File] = field(default_factory=dict)
    renamed: dict[str, list[tuple[str, _File | None]]] = field(default_factory=dict)

    def apply(self, op: Op) -> None:
        folder = op.path.rpartition("/")[0]
        if op.kind == "says":
            self.confirmed += op.data == recorded_log.DONE
        elif op.kind in ("create", "folder"):
            made = _File(op.kind == "folder")
            if op.kind == "create":
                self.files[op.path] = made
            self.renamed.setdefault(folder, []).append((op.path, made))
        elif op.kind == "remove":
            del self.files[op.path]
            self.renamed.setdefault(folder, []).append((op.path, None))
        elif op.path in self.files:
            self.files[op.path].apply(op)
        else:
            # A folder: its names are durable now.
            self._name(self.durable, self.renamed.pop(op.path, []))

    def cut(self, chance: random.Random, folder: Path) -> None:
        """Write one of the images that a cut may leave now."""
        names = dict(self.durable)
        for changes in self.renamed.values():
            self._name(names, changes[: chance.randint(0, len(changes))])
        for name, file in sorted(names.items()):
            path = folder / name
            if not path.parent.is_dir():
                continue  # the name of its folder is lost
            if file.is_folder:
                path.mkdir()
            else:
                content = file.left(chance)
                path.write_bytes(chance.randbytes(32_768) if name.endswith("-shm") else content)

    @staticmethod
    def _name(names: dict[str, _File], changes: list[tuple[str, _File | None]]) -> None:
        for name, file in changes:
            if file is None:
                names.pop(name, None)
            else:
                names[name] = file
