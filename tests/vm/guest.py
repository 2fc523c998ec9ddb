"""A guest: what it has, and one boot of it that runs programs and tells how each ended.

    guest = Guest(cache, agent, nvdimm=256 * MiB)
    outcome = guest.boot([["build/tests/base/base-feature"]])

How a boot ended (Outcome.verdict):
    done    all tests were run, whatever became of each
    killed  we killed it, as asked
    panic   the guest's kernel panicked or reset the machine
    hang    the guest went silent past its time limit
    qemu    QEMU failed, or what came from it was not the agent's
    broken  the guest could not bring up what it should have: init says why
How a test ended (Result.verdict): "exit N", "signal N", "timeout" (killed by the agent), "start ERRNO",
"cut short" (the boot ended first), "not run".
"""
import contextlib
import hashlib
import os
import pathlib
import re
import selectors
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

import initramfs
import packages
from frames import Broken, Decoder
from machine import Machine

MiB = 1 << 20
BOOT_SECONDS = 240       # until the first test begins; on an idle machine it takes a twentieth
SILENCE_SECONDS = 60     # beyond the time limits of the tests
BOOTS_AGAIN = 2          # of a guest whose kernel panics before it is up, or never begins
# What ldd can't see: the C library wants the first when a thread is cancelled, Quire the second for pmem.
LOADED_LATER = [pathlib.Path("/usr/lib/x86_64-linux-gnu") / name for name in ("libgcc_s.so.1", "libpmem2.so.1")]
HERE = pathlib.Path(__file__).resolve().parent


@dataclass
class Result:
    argv: list
    verdict: str = "not run"
    out: bytes = b""
    err: bytes = b""

    @property
    def passed(self):
        return self.verdict == "exit 0"

    @property
    def name(self):
        return pathlib.Path(program_of(self.argv)[1][0]).name


@dataclass
class Outcome:
    verdict: str
    why: str = ""
    results: list = field(default_factory=list)
    seconds_up: float = 0.0      # from the start of QEMU to the guest's being ready
    console: str = ""


class Guest:
    """nvdimm, disk: bytes, 0: none. They come with their file systems on them, and live in keep (then they
    survive the guest and are found again there by the next one), else as long as this object. raws: the same of disks with nothing on them; a string: a disk as
    QEMU finds it, by a URI. bring: files and directories of this machine; a word of a test that names one names its copy in the guest. logged: all that the first of these is given is in keep/writes then, in the order in which it was done (writes_log.h)."""

    def __init__(self, cache, agent, nvdimm=0, persistence=None, disk=0, version="6.1", keep=None, env=None, fresh=False,
                 raws=(), memory="768M", logged=False, bring=()):
        self.cache = cache
        self.kernel = cache / f"kernel-{version}"
        self.agent = agent
        self.persistence = persistence
        self.env = env or {}
        self.fresh = fresh
        self.memory = memory
        self.bring = bring
        self._scratch = tempfile.TemporaryDirectory(prefix="quire-vm-")
        self.scratch = pathlib.Path(self._scratch.name)
        keep = pathlib.Path(keep) if keep else self.scratch
        keep.mkdir(parents=True, exist_ok=True)
        self.nvdimm = self._medium(keep / "nvdimm", nvdimm) if nvdimm else None
        self.disk = self._medium(keep / "disk", disk) if disk else None
        self.raws = [n_bytes if isinstance(n_bytes, str) else empty_medium(keep / f"raw-{number}", n_bytes)
                     for number, n_bytes in enumerate(raws)]
        self.writes = empty_medium(keep / "writes", 0) if logged else None

    def close(self):
        self._scratch.cleanup()

    def _medium(self, path, n_bytes):
        if self.fresh:
            path.unlink(missing_ok=True)
            empty_medium(path, n_bytes)
        elif not path.exists() or path.stat().st_size != n_bytes:
            copy_sparse(self._formatted(path.name, n_bytes), path)
        return path

    def _formatted(self, kind, n_bytes):
        """A medium with its file systems, made once by a guest of its own: emulated, that takes longest."""
        made = self._made(f"{kind}-{n_bytes}", (HERE / "places").read_bytes())
        with packages.locked(made.with_suffix(".lock")):
            if not made.exists():
                with contextlib.closing(Guest(self.cache, self.agent, **{kind: n_bytes}, fresh=True)) as maker:
                    outcome = maker.boot([])
                    if outcome.verdict != "done":
                        raise Unusable(f"no {kind} of {n_bytes} bytes: {outcome.verdict}: {outcome.why}")
                    copy_sparse(getattr(maker, kind), made)
        return made

    def boot(self, tests, limit=60, kill_after=None, on_output=None, silence=SILENCE_SECONDS):
        """tests: [argv], of which the first words may be NAME=VALUE, as to a shell; limit: seconds for each. kill_after: seconds from the first test's beginning on.
        on_output(number, bytes, is_error) is called with output as it comes; if it returns a number, the guest
        is killed so many seconds later. silence: seconds for the guest beyond the limits of its tests.

        A kernel that panics before the guest is up, so before anything of ours runs, has met a mistake of the emulator's: it changes its own
        code while its other processor runs it. One that never says a word has not even begun. It is booted again, and that is said."""
        for left in range(BOOTS_AGAIN, -1, -1):
            outcome = self._boot_once(tests, limit, kill_after, on_output, silence)
            never_began = outcome.verdict == "hang" and not outcome.console.strip()
            if left == 0 or outcome.seconds_up > 0 or not (never_began or outcome.verdict == "panic"):
                return outcome
            print(f"vm: {outcome.why}, before the guest was up; once more", file=sys.stderr, flush=True)

    def _boot_once(self, tests, limit, kill_after, on_output, silence):
        initrd = self.scratch / "initrd"
        initrd.write_bytes(self._base() + self._tests(tests, limit))
        machine = Machine(self.cache, self.scratch, self.kernel, initrd, self.nvdimm, self.persistence, self.disk, self.raws,
                          self.memory, self.writes)
        watch = Watch(machine, tests, len(tests) * limit + silence, kill_after, on_output)
        try:
            watch.follow()
        finally:
            status = machine.end()
            initrd.unlink()
        return watch.outcome(status)

    def _base(self):
        """What each guest with this kernel has, made once."""
        stamps = [(self.cache / part / "stamp").read_bytes() for part in ("tools", self.kernel.name)]
        code = [pathlib.Path(file).read_bytes() for file in (initramfs.__file__, __file__)]
        path = self._made(f"root-{self.kernel.name}", *stamps, *code)
        if not path.exists():
            new = path.with_suffix(f".{self.scratch.name}")
            new.write_bytes(base_archive(self.cache / "tools", self.kernel / "modules"))
            new.rename(path)
        return path.read_bytes()

    def _made(self, name, *sources):
        """Where something lies that was made from these sources; older ones of its kind are removed."""
        path = self.cache / "made" / f"{name}-{hashlib.sha256(b''.join(sources)).hexdigest()[:16]}"
        path.parent.mkdir(exist_ok=True)
        for old in path.parent.glob(f"{name}-{'?' * 16}"):
            if old != path:
                old.unlink(missing_ok=True)
        return path

    def _tests(self, tests, limit):
        archive = initramfs.Cpio()
        archive.file("/init", (HERE / "init").read_bytes())
        archive.file("/vm/agent", pathlib.Path(self.agent).read_bytes())
        archive.file("/vm/places", (HERE / "places").read_bytes())
        archive.file("/vm/have", self._have().encode())
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.env.items()]
        places, brought = {}, self._brought(archive)
        for number, words in enumerate(tests):
            variables, argv = program_of(words)
            variables = [(name, brought.get(value, value)) for name, value in variables]
            inside = places.setdefault(argv[0], f"/test/{number}/{pathlib.Path(argv[0]).name}")
            ours = pathlib.Path(argv[0]).is_relative_to(self.cache / "tools")
            archive.program(argv[0], inside, libraries_of(self.cache / "tools") if ours else ())
            command = f"/vm/agent /dev/host run {number} {limit} {shlex.join([inside, *(brought.get(word, word) for word in argv[1:])])}"
            lines.append(" ".join([f"{name}={shlex.quote(value)}" for name, value in variables] + [command]))
        for library in LOADED_LATER:
            if library.exists():
                archive.program(library)
        archive.file("/vm/tests", "".join(line + "\n" for line in lines).encode())
        return archive.finish()

    def _brought(self, archive):
        """Where in the guest that is which was to be brought."""
        brought = {}
        for number, path in enumerate(map(pathlib.Path, self.bring)):
            place = brought[str(path)] = f"/brought/{number}/{path.name}"
            archive.directory(place) if path.is_dir() else archive.program(path, place)
            for file in sorted(path.rglob("*")):
                if file.is_file():
                    archive.file(f"{place}/{file.relative_to(path)}", file.read_bytes())
        return brought

    def _have(self):
        """What there is, for places."""
        have = {"nvdimm": self.nvdimm, "disk": self.disk, "fresh": self.fresh}
        return " ".join(f"{name}={'1' if there else ''}" for name, there in have.items()) + "\n"


def empty_medium(path, n_bytes):
    """As it is, if it is there and of that size."""
    if not path.exists() or path.stat().st_size != n_bytes:
        with open(path, "wb") as file:
            file.truncate(n_bytes)
    return path


def program_of(words):
    """([(NAME, VALUE)…], [PROGRAM, ARG…]) of what a shell would take for that."""
    n = next((i for i, word in enumerate(words) if not re.match(r"[A-Za-z_]\w*=", word)), len(words))
    return [tuple(word.split("=", 1)) for word in words[:n]], words[n:]


def boot_environment():
    """What a guest's tests get of this process's environment: what speaks of tests, not of guests."""
    return {name: value for name, value in os.environ.items()
            if name.startswith("QUIRE_") and not name.startswith("QUIRE_VM_")}


class Unusable(Exception):
    """The guest that was to prepare something failed; says how."""


def copy_sparse(source, to):
    made = to.with_suffix(".new")
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, made], check=True)
    made.rename(to)


def libraries_of(tools):
    return [tools / "usr/lib/x86_64-linux-gnu", tools / "lib/x86_64-linux-gnu"]


def base_archive(tools, modules):
    archive = initramfs.Cpio()
    search = libraries_of(tools)
    for name in ("proc", "sys", "dev", "tmp", "mnt", "run"):
        archive.directory("/" + name)
    archive.device("/dev/console", 5, 1)
    archive.file("/bin/busybox", (tools / "bin/busybox").read_bytes())
    archive.link("/bin/sh", "busybox")
    archive.file("/etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n", 0o644)
    archive.file("/etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
    for source in ("usr/bin/ndctl", "sbin/mkfs.xfs", "sbin/mkfs.ext4", "sbin/xfs_repair", "sbin/e2fsck"):
        path = next(tools / variant for variant in (source, "usr/" + source) if (tools / variant).exists())
        archive.program(path, "/usr/sbin/" + path.name, search)
    for module in sorted(modules.iterdir()):
        # Without its signature the kernel takes it as well, and has nothing to verify: emulated, half of the time.
        archive.file(f"/vm/modules/{module.name}", module.read_bytes().removesuffix(b"~Module signature appended~\n"))
    return archive.finish()


class Watch:
    """Follows one boot until it is over."""

    def __init__(self, machine, tests, patience, kill_after, on_output):
        self.machine = machine
        self.results = [Result(argv) for argv in tests]
        self.patience = patience  # seconds, from the guest's being up
        self.kill_after = kill_after
        self.on_output = on_output
        self.decoder = Decoder()
        self.started = time.monotonic()
        self.deadline = self.started + BOOT_SECONDS
        self.kill_at = None
        self.seconds_up = 0.0
        self.verdict = ""
        self.why = ""

    def follow(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self.machine.socket, selectors.EVENT_READ)
            while True:
                now = time.monotonic()
                if now >= self.deadline:
                    self.verdict, self.why = "hang", f"silent past its limit, {now - self.started:.0f} s after its start"
                    return
                if self.kill_at is not None and now >= self.kill_at:
                    self.machine.kill()
                    self.kill_at = None
                until = self.deadline if self.kill_at is None else min(self.deadline, self.kill_at)
                if selector.select(until - now) and not self._receive():
                    return

    def _receive(self):
        """False once QEMU has ended. What it had sent before it was killed still counts."""
        try:
            data = self.machine.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            return False
        try:
            for frame in self.decoder.feed(data):
                self._take(frame)
        except Broken as broken:
            self.verdict, self.why = "qemu", str(broken)
            return False
        return True

    def _take(self, frame):
        if frame.kind == "R":
            self.seconds_up = time.monotonic() - self.started
            self.deadline = time.monotonic() + self.patience
        elif frame.kind == "D":
            self.verdict = "done"
        elif frame.kind == "F":
            self.verdict, self.why = "broken", frame.text
        else:
            self._of_a_test(frame, self.results[frame.number])

    def _of_a_test(self, frame, result):
        if frame.kind == "B":
            result.verdict = "cut short"
            if self.kill_after is not None and frame.number == 0:
                self.kill_at = time.monotonic() + self.kill_after
        elif frame.kind == "X":
            result.verdict = frame.text
        else:
            if frame.kind == "E":
                result.err += frame.data
            else:
                result.out += frame.data
            wait = self.on_output(frame.number, frame.data, frame.kind == "E") if self.on_output else None
            if wait is not None:
                self.kill_at = time.monotonic() + wait

    def outcome(self, status):
        console = self.machine.console.read_text(errors="replace") if self.machine.console.exists() else ""
        if not self.verdict or self.verdict == "hang":
            self._judge(status, console)
        return Outcome(self.verdict, self.why, self.results, self.seconds_up, console)

    def _judge(self, status, console):
        """The guest did not say that it was done."""
        panic = re.search(r"Kernel panic - not syncing.*", console)
        if self.machine.killed:
            self.verdict, self.why = "killed", ""
        elif panic:
            self.verdict, self.why = "panic", panic.group()
        elif self.verdict == "hang":
            pass
        elif status == 0:
            self.verdict, self.why = "panic", "the machine was reset or switched off"
        else:
            said = self.machine.log.read_text(errors="replace").strip().splitlines()
            self.verdict, self.why = "qemu", f"exit status {status}: {said[-1] if said else 'nothing said'}"
