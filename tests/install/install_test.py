#!/usr/bin/python3
"""install_test.py BUILD - installs BUILD into an empty directory, and uses what is there
as a stranger would: headers, libraries, quire.pc and the command, and nothing of the source
tree but two small programs."""
import pathlib
import random
import shutil
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True
from installed import Installed, run  # noqa: E402 - beside this file

HERE = pathlib.Path(__file__).resolve().parent
WARNINGS = ["-pedantic", "-Wall", "-Wextra", "-Werror"]
LANGUAGES = {"c": ("gcc", "use_c.c", ["-std=c99", *WARNINGS]), "c++": ("g++", "use_cpp.cpp", ["-std=c++11", *WARNINGS])}


class Used(Installed):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.file = cls.scratch / "bytes"
        cls.file.write_bytes(random.Random(1).randbytes(1_000_003))

    def program(self, language, static):
        compiler, source, flags = LANGUAGES[language]
        if shutil.which(compiler) is None:
            self.skipTest(f"{compiler}: not installed")
        link = ["-static"] if static else []
        options = ["--cflags", "--libs", *(["--static"] if static else [])]
        program = self.scratch / f"{source}-{'static' if static else 'shared'}"
        run(compiler, *flags, *link, HERE / source, *self.pkg_config(*options), "-o", program)
        return program

    def use(self, language, static):
        said = run(self.program(language, static), self.file, env=None if static else self.shared())
        self.assertIn("the same bytes", said)

    def test_c_shared(self):
        self.use("c", static=False)

    def test_c_static(self):
        self.use("c", static=True)

    def test_cpp_shared(self):
        self.use("c++", static=False)

    def test_cpp_static(self):
        self.use("c++", static=True)

    def test_shared_library_needs_no_cplusplus_runtime(self):
        library = (self.lib_dir / "libquire.so").resolve()
        dynamic = run("readelf", "-d", library)
        self.assertNotIn("stdc++", dynamic)
        self.assertNotIn("boost", dynamic)
        self.assertNotIn("RUNPATH", dynamic)

    def test_what_is_installed_is_hardened(self):
        for made in self.prefix / "bin" / "quire", (self.lib_dir / "libquire.so").resolve():
            headers, dynamic = run("readelf", "-lW", made), run("readelf", "-dhW", made)
            stack = next(line for line in headers.splitlines() if "GNU_STACK" in line)
            self.assertNotIn("E", stack.split()[-2], made)
            self.assertIn("GNU_RELRO", headers, made)
            self.assertIn("BIND_NOW", dynamic, made)
            self.assertIn("DYN", dynamic, made)
            called = run("nm", "-D", made)
            self.assertIn("__stack_chk_fail", called, made)
            self.assertRegex(called, r"\b__(memcpy|memset|snprintf|vsnprintf|fprintf)_chk\b", made)  # _FORTIFY_SOURCE

    def names(self, library, *options):
        listing = run("nm", "--defined-only", *options, self.lib_dir / library)
        symbols = (line.split() for line in listing.splitlines())
        return {symbol[2].split("@")[0] for symbol in symbols if len(symbol) == 3 and symbol[1] != "A"}

    def test_static_library_defines_what_the_shared_one_exports(self):
        """A program that links statically gets no other name in its way."""
        self.assertEqual(self.names("libquire.a", "-g"), self.names("libquire.so", "-D"))

    def test_every_function_has_a_page_of_the_manual(self):
        pages = {page.stem for page in (self.prefix / "share" / "man" / "man3").glob("*.3")}
        self.assertEqual(set(), self.names("libquire.so", "-D") - pages)

    def test_the_command_and_the_format_have_a_page(self):
        for section, heading in (1, "NAME"), (5, "LOGS"):
            self.assertIn(f".SH {heading}", (self.prefix / "share" / "man" / f"man{section}" / f"quire.{section}").read_text())

    def test_the_page_of_the_command_has_all_that_its_verbs_say_of_themselves(self):
        """Verbs of verbs, too: their options stand in no other help."""
        page = (self.prefix / "share" / "man" / "man1" / "quire.1").read_text()
        for verb in ["demo"], ["serve", "--inetd"], ["log", "create"], ["volume", "receive"]:
            usage = run(self.prefix / "bin" / "quire", *verb, "--help", env=self.shared()).splitlines()[0]
            self.assertIn(usage.replace("-", "\\-"), page)

    def test_pages_of_the_manual_are_sound(self):
        if shutil.which("groff") is None:
            self.skipTest("groff: not installed")
        for page in sorted((self.prefix / "share" / "man").glob("*/*")):
            text = page.read_text()
            if text.startswith(".so "):
                self.assertTrue((self.prefix / "share" / "man" / text.split()[1]).exists(), page)
            else:
                formatted = subprocess.run(["groff", "-t", "-man", "-Tutf8", "-Kutf8", "-ww", "-z", page], capture_output=True, text=True)
                self.assertEqual("", formatted.stderr, page)

    def test_command_runs(self):
        self.assertIn("quire", run(self.prefix / "bin" / "quire", "--help", env=self.shared()))


if __name__ == "__main__":
    Installed.build = sys.argv.pop()
    unittest.main(verbosity=2)
