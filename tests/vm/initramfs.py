"""Writes the guest's root: cpio archives (newc), and what a program needs to run in there.

The kernel unpacks several archives that follow each other, so the part that never changes is
written once, and what a test needs is appended.
"""
import os
import pathlib
import re
import stat
import subprocess

BLOCK = 512
STANDARD = re.compile(r"(/usr)?/lib(64)?/")


class Cpio:
    def __init__(self):
        self.parts = []
        self.known = set()
        self.size = 0

    def directory(self, name):
        self._parents(name)
        self._entry(name, stat.S_IFDIR | 0o755, b"")

    def link(self, name, target):
        self._parents(name)
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def file(self, name, data, mode=0o755):
        self._parents(name)
        self._entry(name, stat.S_IFREG | mode, data)

    def device(self, name, major, minor):
        self._parents(name)
        self._entry(name, stat.S_IFCHR | 0o600, b"", (major, minor))

    def program(self, source, name=None, search=()):
        """A program or shared object, and the libraries it names, at the places where they are here."""
        self.file(name or str(source), pathlib.Path(source).read_bytes())
        for library, path in libraries(source, search):
            self.file(library, path.read_bytes())

    def finish(self):
        self._entry("TRAILER!!!", 0, b"")
        self._add(b"\0" * (-self.size % BLOCK))
        return b"".join(self.parts)

    def _parents(self, name):
        for parent in reversed(pathlib.PurePosixPath(name.lstrip("/")).parents[:-1]):
            self._entry(str(parent), stat.S_IFDIR | 0o755, b"")

    def _entry(self, name, mode, data, device=(0, 0)):
        name = name.lstrip("/")
        if name in self.known:
            return
        self.known.add(name)
        path = name.encode() + b"\0"
        fields = (len(self.known), mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        self._add(b"070701" + b"".join(b"%08X" % field for field in fields) + path)
        self._add(b"\0" * (-self.size % 4))
        self._add(data)
        self._add(b"\0" * (-self.size % 4))

    def _add(self, data):
        self.parts.append(data)
        self.size += len(data)


def libraries(program, search=()):
    """What ldd says that it loads: (the name that the loader will look for, the file).
    What lies in search comes first, and gets a place in the standard directory; so does what a program
    finds by a path of its own, which may be relative to where it lies."""
    env = dict(os.environ, LC_ALL="C")
    if search:
        env["LD_LIBRARY_PATH"] = ":".join(map(str, search))
    said = subprocess.run(["ldd", program], capture_output=True, text=True, env=env)
    if "not found" in said.stdout:
        raise FileNotFoundError(f"{program}: {re.search(r'(.*) => not found', said.stdout).group(1).strip()}: not found")
    for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", said.stdout, re.M):
        ours = any(pathlib.Path(path).is_relative_to(directory) for directory in search) or not STANDARD.match(path)
        yield ("/usr/lib/" + os.path.basename(path) if ours else path), pathlib.Path(path)
