#!/usr/bin/python3
"""alone_test.py DENY WORD RESTRICTED QUIRE - one feature of two is refused by a filter, the other is not.

It is found out; whatever does not need it is as without the filter; and the command does its work, with the same results.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

DENY, WORD, RESTRICTED, QUIRE = sys.argv[1:]
# What can't be had without it.
PARTS = {"io_uring": {"io_uring", "defer_taskrun"},
         "userfaultfd": {"userfaultfd", "uffd_kernel_faults", "uffd_move", "uffd_poison"}}
FILTER = [DENY, "--" + WORD]


def features(launcher, **environment):
    done = subprocess.run([*launcher, RESTRICTED], capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode == 77:
        print(done.stdout)
        sys.exit(77)
    assert done.returncode == 0, done.stdout
    return dict(line.split(": ") for line in done.stdout.splitlines())


def filtered(*words):
    done = subprocess.run([*FILTER, QUIRE, *map(str, words)], capture_output=True)
    assert done.returncode == 0 and not done.stderr, (words, done)
    return done.stdout


def main():
    all_of_them, without = features([]), features(FILTER, QUIRE_EXPECT=WORD)
    for feature, there in all_of_them.items():
        assert without[feature] == ("no" if feature in PARTS[WORD] else there), feature
    with tempfile.TemporaryDirectory(prefix="quire-alone-") as name:
        store, file = pathlib.Path(name) / "s", pathlib.Path(name) / "f"
        file.write_bytes(os.urandom(300000))
        assert filtered("cat", file) == file.read_bytes()
        filtered("init", store, "--capacity", "32M")
        blob = int(filtered("blob", "put", store, file))
        assert filtered("blob", "get", store, blob) == file.read_bytes()
        filtered("log", "create", store, "l")
        filtered("volume", "create", store, "v", "--size", "1M")
        filtered("volume", "snapshot", store, "v@s")
        assert json.loads(filtered("check", store, "--json"))["findings"] == []


main()
