"""What the guest is made of: Debian's packages, downloaded and unpacked into a cache, installed nowhere.

The list is the groups [guest] and [guest-kernel] of packages.txt (KERNELS says which is which). apt does the resolving and
the fetching, with the machine's own sources but with lists and archives of its own (so any user
may, and nothing of the machine is changed). The suite of backports, which many machines do
not list, is fetched from the same place as the release itself.

The cache, $QUIRE_VM_CACHE, else quire-vm below $XDG_CACHE_HOME, else vm below the build directory:
    tools/          the packages of [guest], one tree
    kernel-6.1/     image, modules/NN-name.ko in the order in which to load them
    made/           what guest.py makes of these: the constant part of the root, media with their file systems
A folder's file stamp says what it was made from; it is there only if all of the folder is.
"""
import contextlib
import fcntl
import hashlib
import os
import pathlib
import platform
import re
import shutil
import subprocess

import kernel

ROOT = pathlib.Path(__file__).resolve().parents[2]
KERNELS = {"6.1": ("linux-image-amd64", ""), "6.12": ("linux-image-cloud-amd64", "-backports")}
# What no tree of tools may bring along, since the machine's own loader is used.
NEVER = re.compile(r"^(libc6|libc-bin|dpkg|apt|base-files)$")
APT_SECONDS = 900


class Unavailable(Exception):
    """There can be no guest here; says why in one line."""


def cache_directory():
    if os.environ.get("QUIRE_VM_CACHE"):
        return pathlib.Path(os.environ["QUIRE_VM_CACHE"]).absolute()
    if os.environ.get("XDG_CACHE_HOME"):
        return pathlib.Path(os.environ["XDG_CACHE_HOME"]).absolute() / "quire-vm"
    built = subprocess.run([ROOT / "tools" / "build-directory"], capture_output=True, text=True)
    if built.returncode != 0:
        raise Unavailable(built.stderr.strip())
    return pathlib.Path(built.stdout.strip()) / "vm"


def group(name):
    """The packages of one group of packages.txt."""
    found, wanted = [], False
    for line in (ROOT / "packages.txt").read_text().splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("["):
            wanted = line == f"[{name}]"
        elif line and wanted:
            found.append(line)
    return found


def parts(version):
    """The folders of the cache that a guest with this kernel needs, and what each is made from."""
    return {"tools": group("guest"), f"kernel-{version}": [KERNELS[version][0]]}


def is_made(cache, part, sources):
    stamp = cache / part / "stamp"
    return stamp.exists() and stamp.read_text() == stamp_of(sources)


def stamp_of(sources):
    """Changes with the list, and with the code that unpacks."""
    code = b"".join((ROOT / "tests" / "vm" / name).read_bytes() for name in ("packages.py", "kernel.py"))
    return hashlib.sha256(" ".join(sources).encode() + code).hexdigest() + "\n"


def ready(version, cache=None):
    """The cache, if a guest with this kernel can be started from it. Raises Unavailable."""
    cache = cache or cache_directory()
    if not all(is_made(cache, part, sources) for part, sources in parts(version).items()):
        raise Unavailable(f"the guest's packages are not in {cache}: tests/vm/run --prepare fetches them")
    return cache


def prepare(version, say=lambda text: None):
    """Fetches and unpacks what is missing. Returns the cache. Raises Unavailable."""
    if platform.machine() != "x86_64":
        raise Unavailable(f"the guest is x86-64, this machine {platform.machine()}")
    for program in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Unavailable(f"no {program} here: the guest is made of Debian's packages")
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "lock"):
        missing = {part: sources for part, sources in parts(version).items() if not is_made(cache, part, sources)}
        if missing:
            say(f"fetching the guest's packages into {cache}")
            make(missing, version, cache)
    return cache


def make(missing, version, cache):
    apt = Apt(cache / "apt")
    for part, sources in missing.items():
        shutil.rmtree(cache / part, ignore_errors=True)
        if part == "tools":
            apt.unpack(apt.closure(sources), cache / part)
        else:
            apt.unpack([apt.depends(*KERNELS[version], r"linux-image-[0-9]\S*")], cache / "apt" / part)
            kernel.pick(cache / "apt" / part, cache / part)
        (cache / part / "stamp").write_text(stamp_of(sources))
    shutil.rmtree(cache / "apt")


@contextlib.contextmanager
def locked(path):
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Apt:
    """apt with the machine's sources, and state of its own below directory."""

    def __init__(self, directory):
        self.directory = directory
        shutil.rmtree(directory, ignore_errors=True)
        for name in ("lists/partial", "cache/archives/partial", "sources"):
            (directory / name).mkdir(parents=True)
        self.release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
        self.copy_sources()
        self.options = ["-q", "-o", f"Dir::State::lists={directory}/lists", "-o", f"Dir::Cache={directory}/cache",
                        "-o", f"Dir::Etc::sourceparts={directory}/sources", "-o", "APT::Sandbox::User="]
        # A source that cannot be reached need not be one that is needed: the download will tell.
        self.run("apt-get", "update", check=False)

    def copy_sources(self):
        """The machine's own; and once more, for backports, those that serve the release itself."""
        for path in pathlib.Path("/etc/apt/sources.list.d").glob("*"):
            if path.suffix not in (".list", ".sources") or not os.access(path, os.R_OK):
                continue
            text = path.read_text()
            (self.directory / "sources" / path.name).write_text(text)
            if path.suffix == ".sources":
                self.add_backports(path.name, re.split(r"\n\s*\n", text), rf"(?m)^(Suites:.*?\s){self.release}(?=\s|$).*")
            else:
                self.add_backports(path.name, text.splitlines(), rf"^(deb\s.*\s){self.release}(?=\s)")
        main = pathlib.Path("/etc/apt/sources.list")
        if main.exists():
            self.add_backports("main.list", main.read_text().splitlines(), rf"^(deb\s.*\s){self.release}(?=\s)")

    def add_backports(self, name, entries, pattern):
        """Entries of the release, with the suite replaced."""
        found = [re.sub(pattern, rf"\g<1>{self.release}-backports", e) for e in entries if re.search(pattern, e)]
        if found:
            (self.directory / "sources" / f"backports-{name}").write_text("\n\n".join(found) + "\n")

    def run(self, program, *arguments, check=True):
        done = subprocess.run([program, *self.options, *arguments], capture_output=True, text=True,
                              cwd=self.directory, timeout=APT_SECONDS, env=dict(os.environ, LC_ALL="C"))
        if check and done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("E:")] or ["failed"]
            raise Unavailable(f"{program} {arguments[0]}: {errors[0].removeprefix('E: ')}")
        return done.stdout

    def closure(self, packages):
        """The packages, and whatever they need that is not installed on the machine."""
        planned = self.run("apt-get", "install", "--simulate", "--no-install-recommends", "--reinstall", *packages)
        names = re.findall(r"^Inst (\S+)", planned, re.M)
        return [name for name in names if not NEVER.match(name)]

    def depends(self, package, suite, pattern):
        """The one package that this one (which is empty) stands for."""
        wanted = f"{package}/{self.release}{suite}" if suite else package
        shown = self.run("apt-cache", "show", "--no-all-versions", wanted)
        found = re.search(rf"^Depends: ({pattern})", shown, re.M)
        if found is None:
            raise Unavailable(f"apt-cache show {wanted}: names no kernel")
        return found.group(1)

    def unpack(self, packages, tree):
        archives = self.directory / "archives"
        shutil.rmtree(archives, ignore_errors=True)
        archives.mkdir()
        done = subprocess.run(["apt-get", *self.options, "download", *packages], capture_output=True, text=True,
                              cwd=archives, timeout=APT_SECONDS)
        if done.returncode != 0:
            raise Unavailable(f"apt-get download: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
        for archive in sorted(archives.iterdir()):
            subprocess.run(["dpkg-deb", "-x", archive, tree], check=True)
