#!/usr/bin/python3
"""make.py CONTENT VERSION - makes images of stores as this build writes them, beside this file: once for each version of the format.

CONTENT is the program upgrade-content. vVERSION-disk and vVERSION-pmem, each a .tar.xz of the store's directory and a .manifest of what
is in it. Existing ones are not made again: what an old build has written can't be.
"""
import pathlib
import subprocess
import sys
import tarfile
import tempfile


def make(content, kind, path):
    with tempfile.TemporaryDirectory() as directory:
        store = pathlib.Path(directory) / "store"
        subprocess.run([content, "make", kind, store], check=True)
        with tarfile.open(path.with_suffix(".tar.xz"), "x:xz", preset=9) as archive:
            for file in sorted(store.iterdir()):
                archive.add(file, file.name, filter=anonymous)
        listed = subprocess.run([content, "list", store], check=True, capture_output=True).stdout
        path.with_suffix(".manifest").write_bytes(listed)


def anonymous(entry):
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    for kind in ("disk", "pmem"):
        make(sys.argv[1], kind, pathlib.Path(__file__).parent / f"v{sys.argv[2]}-{kind}")
