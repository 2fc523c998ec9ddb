"""The machine, the release build, and how programs are run."""
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class Failed(Exception):
    """A run that can't go on, with the reason."""


def say(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def say_done():
    say("")


def data_dir():
    path = Path(os.environ.get("QUIRE_BENCH_DIR", "/var/tmp/quire-bench"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def build_release():
    """Configures and builds where needed; returns the build directory."""
    build = Path(os.environ.get("QUIRE_BENCH_BUILD", ROOT / "build" / "bench-release"))
    say("building")
    if not (build / "build.ninja").exists():
        command(["meson", "setup", build, ROOT, "--buildtype=release"])
    command(["ninja", "-C", build, "src/cli/quire", "src/cli/bench-capped", "bench/bench-map-miss",
             "bench/bench-vma"])
    say_done()
    return build


def build_programs(build, programs):
    """Builds bench/NAME for each, {name: package}; a peer's is there only if its library was found at set-up."""
    if any(f"bench/{name}:" not in (build / "build.ninja").read_text() for name in programs):
        command(["meson", "setup", "--reconfigure", build, ROOT])
    known = (build / "build.ninja").read_text()
    for name, package in programs.items():
        if f"bench/{name}:" not in known:
            raise Failed(f"{name}: not built, {package} is not installed (see packages.txt, [bench])")
    command(["ninja", "-C", build, *(f"bench/{name}" for name in programs)])


def command(words):
    """Runs; returns stdout."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if done.returncode != 0:
        tail = (done.stderr.strip() or done.stdout.strip() or "no output")[-800:]
        raise Failed(f"{Path(str(words[0])).name} {words[-1]}: exit {done.returncode}: {tail}")
    return done.stdout


def capped(build, memory_bytes, words):
    """Runs under a memory cgroup; returns (stdout, usage): peak_bytes, cpu_seconds, capped."""
    out = command([build / "src" / "cli" / "bench-capped", memory_bytes, *words])
    head, _, usage = out.rstrip("\n").rpartition("\n")
    return head, json.loads(usage)


def drop_cache(path):
    """Takes a file out of the kernel's page cache."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def describe():
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu": cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "filesystem": filesystem(data_dir()),
        "root": os.geteuid() == 0,
        "load_average": os.getloadavg()[0],
    }


def cpu_model():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def filesystem(path):
    """Type of the file system that holds path: the longest mount point above it."""
    best = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        point, kind = line.split()[1:3]
        inside = path == Path(point) or Path(point) in path.resolve().parents
        if inside and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def need(program):
    if shutil.which(program) is None:
        raise Failed(f"{program}: not installed")
