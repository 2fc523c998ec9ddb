"""Part of `tmem`: pages that were evicted to a memcached server and come back, beside the server asked by hand."""
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import machine
from report import median, row


@contextlib.contextmanager
def memcached():
    """The path of a server's socket."""
    with tempfile.TemporaryDirectory(prefix="quire-bench-memcached-") as folder:
        path = Path(folder) / "socket"
        server = subprocess.Popen(["memcached", "-u", "root", "-t", "1", "-m", "64", "-s", path])
        try:
            for _ in range(500):
                if path.exists():
                    break
                time.sleep(0.01)
            yield path
        finally:
            server.kill()
            server.wait()


def run(build, corpus, rounds):
    if shutil.which("memcached") is None:
        return [], {}
    machine.command(["ninja", "-C", build, "bench/bench-tmem-remote"])
    program = build / "bench" / "bench-tmem-remote"
    runs = []
    for number in range(rounds):
        machine.say(f"remote: round {number + 1} of {rounds}")
        with memcached() as path:
            runs.append(json.loads(machine.command([program, corpus, path])))

    def of(key):
        return median([r[key] for r in runs])

    rows = []
    for who, key, what in (("quire, remote", "remote_get", "get of a page on a memcached server"),
                           ("quire, remote", "local_get", "get of one that is still here"),
                           ("memcached by hand", "bare_get", "get of a value as long")):
        rows += [row(who, f"files: {what}, p50", of(f"{key}_p50_ns"), "ns"),
                 row(who, f"files: {what}, p99", of(f"{key}_p99_ns"), "ns")]
    rows.append(row("quire, remote", "files: pages lost of those evicted", of("n_missed") / max(1, of("n_missed") + of("n_remote")), "of them"))
    return rows, {"remote_get_over_memcached": median([r["remote_get_p50_ns"] / r["bare_get_p50_ns"] for r in runs])}
