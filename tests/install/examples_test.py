#!/usr/bin/python3
"""examples_test.py BUILD - builds every example against the installed library, as a stranger would, and runs it:
those in C, and those in Go and Rust where a compiler is installed."""
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import unittest
import zlib

sys.dont_write_bytecode = True
from installed import Installed, run  # noqa: E402 - beside this file

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
C_FLAGS = ["-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
SERVERS = ["server_want", "server_suspend"]
MORE_PARTS = {server: ["lookup.c"] for server in SERVERS}
PARTS_OF_OTHERS = ["lookup", "lookup_client"]
LIBRARIES = {"mlock_eventfd_libuv": "libuv"}
SKIPPED = 77
MASKS = ["", "io_uring", "userfaultfd", "io_uring,userfaultfd"]


class InC(Installed):
    def program(self, name):
        library = LIBRARIES.get(name)
        flags = self.pkg_config("--cflags", "--libs")
        if library:
            found = subprocess.run(["pkg-config", "--cflags", "--libs", library], capture_output=True, text=True)
            if found.returncode != 0:
                self.skipTest(f"{library}: not installed")
            flags += found.stdout.split()
        sources = [EXAMPLES / f"{name}.c", *(EXAMPLES / part for part in MORE_PARTS.get(name, []))]
        program = self.scratch / name
        run("gcc", *C_FLAGS, *sources, *flags, "-pthread", "-o", program)
        return program

    def good(self, *command):
        done = subprocess.run(command, capture_output=True, text=True, env=self.shared(), timeout=100)
        if done.returncode == SKIPPED:
            self.skipTest(done.stdout.strip().splitlines()[-1])
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_programs_that_need_nobody(self):
        others = {*SERVERS, *PARTS_OF_OTHERS}
        for name in sorted(source.stem for source in EXAMPLES.glob("*.c") if source.stem not in others):
            with self.subTest(name):
                self.good(self.program(name))

    def test_first_prints_the_file(self):
        self.assertEqual(self.good(self.program("first"), __file__), pathlib.Path(__file__).read_text())

    def test_server_that_wants(self):
        self.assertIn("all right", self.good(self.program("lookup_client"), self.program("server_want")))

    def test_server_that_is_suspended(self):
        self.assertIn("all right", self.good(self.program("lookup_client"), self.program("server_suspend")))


class InOtherLanguages(Installed):
    """checksum, in Go and in Rust: Adler-32 of files, twice over."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        random_bytes = random.Random(1).randbytes
        sizes = [0, 1, 4095, 4096, 4097, 65536, 65537, 200_000, 1_500_000] + 16 * [1_000_003]
        cls.files = [cls.scratch / f"file-{i}" for i in range(len(sizes))]
        for path, size in zip(cls.files, sizes):
            path.write_bytes(random_bytes(size))

    def go(self):
        if shutil.which("go") is None:
            self.skipTest("go: not installed")
        env = self.shared(PKG_CONFIG_PATH=str(self.pc_file.parent), PKG_CONFIG_SYSROOT_DIR=str(self.scratch),
                          HOME=str(self.scratch), GOCACHE=str(self.scratch / "go-cache"), GOPROXY="off",
                          GOTOOLCHAIN="local", GOFLAGS="", CGO_ENABLED="1")
        program = self.scratch / "checksum-go"
        run("go", "vet", cwd=EXAMPLES / "go", env=env)
        run("go", "build", "-o", program, cwd=EXAMPLES / "go", env=env)
        return program

    def rust(self, *options):
        rustc = "/usr/bin/rustc" if os.path.exists("/usr/bin/rustc") else shutil.which("rustc")
        if rustc is None:
            self.skipTest("rustc: not installed")
        program = self.scratch / f"checksum-rust{''.join(options)}"
        run(rustc, "--edition", "2021", "-D", "warnings", "-O", *options, "-L", self.lib_dir,
            EXAMPLES / "rust" / "checksum.rs", "-o", program)
        return program

    def sums(self, program, files, mask=""):
        """What it printed, after the sums were seen to be right: [(pieces that were there, awaited)] of both times."""
        lines = run(program, *files, env=self.shared(QUIRE_MASK=mask), timeout=100).splitlines()
        expected = [f"{zlib.adler32(path.read_bytes()):08x} {path}" for path in files]
        half = len(files) + 1
        self.assertEqual((len(lines), lines[:half - 1], lines[half:-1]), (2 * half, expected, expected))
        return [(int(words[1]), int(words[4])) for words in (lines[half - 1].split(), lines[-1].split())]

    def check(self, program):
        n_pieces = sum(-(-path.stat().st_size // 65536) for path in self.files)
        for mask in MASKS:
            for there, awaited in self.sums(program, self.files, mask):
                self.assertEqual(there + awaited, n_pieces, mask)
        first, second = self.sums(program, self.files[:9])
        self.assertGreater(first[1], 0)
        self.assertEqual(self.sums(program, []), [(0, 0), (0, 0)])
        if self.says_what_is_resident():
            self.assertEqual(second, (sum(first), 0))  # these fit into the budget

        done = subprocess.run([program, self.files[0], self.scratch / "nothing"], capture_output=True, text=True,
                              env=self.shared())
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("nothing: No such file or directory", done.stderr)

    def says_what_is_resident(self):
        said = run(self.prefix / "bin" / "quire", "info", "--capabilities", "--json", env=self.shared())
        return json.loads(said)["grade"] != "none"

    def test_go(self):
        self.check(self.go())

    def test_rust(self):
        self.check(self.rust())

    def test_futures_that_are_dropped(self):
        said = run(self.rust("--test"), env=self.shared(), timeout=100)
        self.assertIn("test result: ok. 1 passed", said)


if __name__ == "__main__":
    Installed.build = sys.argv.pop()
    unittest.main(verbosity=2)
