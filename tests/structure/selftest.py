#!/usr/bin/python3
"""Plants one violation after another in a small tree that is in order, and sees
that exactly the right rule finds it. A rule that finds nothing protects nothing."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import public  # noqa: E402
from check import violations  # noqa: E402

HEADER = """#ifndef QUIRE_ERROR_H
#define QUIRE_ERROR_H
#ifdef __cplusplus
extern "C" {
#endif

/* What this is. */
const char *quire_version(void);
int quire_mask(const char *features); /* forbids */

#ifdef __cplusplus
}
#endif
#endif
"""

GOOD = {
    "include/quire/error.h": HEADER,
    "include/quire/map.h": "#ifndef QUIRE_MAP_H\n#define QUIRE_MAP_H\n#include <quire/error.h>\n#endif\n",
    "src/base/fail.h": "#include <quire/error.h>\n",
    "src/base/fail.c": '#include "fail.h"\n#include <stdio.h>\n\nint fail(void)\n{\n\treturn 1;\n}\n',
    "src/loop/loop.c": '#include "../base/fail.h"\n',
    "src/map/map.c": '#include "../loop/ring.h"\n#include <quire/map.h>\n',
    "src/loop/ring.h": "/* ring */\n",
    "src/blob/blob.h": "/* blob */\n",
    "src/cli/main.c": '#include "cli.h"\n#include <quire/map.h>\n',
    "src/cli/cli.h": "/* cli */\n",
    "bench/run": "#!/usr/bin/python3\nif True:\n    pass\n",
    "examples/one.c": "#include <quire/map.h>\n",
    "packages.txt": "[build]\ngcc # compiler\n",
    "docs/dependencies.md": "`gcc`: see [the list](../packages.txt)\n",
}


compiled = {}
compile_header = public.stands_alone


def compile_once(tree, path):
    """Most plants leave the headers as they are, and each header is four runs of a compiler."""
    key = (path, tuple((header, tree.text(header)) for header in public.headers(tree)))
    if key not in compiled:
        compiled[key] = list(compile_header(tree, path))
    return compiled[key]


public.stands_alone = compile_once


def lines(n):
    return "\tone();\n" * n


class Planted(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = pathlib.Path(scratch.name)
        for path, text in GOOD.items():
            self.write(path, text)

    def write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def found(self, library=None):
        return {(v.path, v.rule) for v in violations(self.root, library)}

    def plant(self, path, text, rule):
        self.write(path, text)
        self.assertEqual(self.found(), {(path, rule)})

    def keep(self, path, text):
        self.write(path, text)
        self.assertEqual(self.found(), set())

    def test_tree_in_order(self):
        self.assertEqual(self.found(), set())

    # ---- includes ----

    def test_upward_include(self):
        self.plant("src/loop/loop.c", '#include "../map/map.h"\n', "include")
        self.write("src/map/map.h", "/* map */\n")
        self.assertEqual(self.found(), {("src/loop/loop.c", "include")})

    def test_upward_include_of_a_public_header(self):
        self.plant("src/base/fail.c", "#include <quire/map.h>\n", "include")

    def test_sideways_include(self):
        self.plant("src/map/map.c", '#include "../blob/blob.h"\n', "include")

    def test_include_found_through_a_search_path(self):
        self.plant("src/base/fail.c", "#include <loop/ring.h>\n", "include")

    def test_folder_that_is_no_layer(self):
        self.plant("src/misc/utils.c", '#include "../base/fail.h"\n', "include")

    def test_internal_header_of_another_module(self):
        self.write("src/base/ring_internal.h", "/* ring */\n")
        self.plant("src/loop/loop.c", '#include "../base/ring_internal.h"\n', "include")

    def test_command_includes_a_layer(self):
        self.plant("src/cli/main.c", '#include "../base/fail.h"\n', "include")

    def test_example_includes_a_layer(self):
        self.plant("examples/one.c", '#include "../src/base/fail.h"\n', "include")

    def test_benchmark_includes_a_layer(self):
        self.plant("bench/miss.c", '#include "../src/base/fail.h"\n', "include")

    def test_benchmark_that_may_look_inside_looks_elsewhere(self):
        self.write("src/base/policy.h", "/* policy */\n")
        self.write("bench/replay_quire.c", '#include "../src/base/policy.h"\n')
        self.assertEqual(list(violations(self.root)), [])
        self.plant("bench/replay_quire.c", '#include "../src/base/fail.h"\n', "include")

    def test_unknown_public_header(self):
        self.write("include/quire/odd.h", "/* odd */\n")
        self.plant("src/base/fail.c", "#include <quire/odd.h>\n", "include")

    # ---- size ----

    def test_long_file(self):
        self.plant("src/base/big.h", "/* big */\n" * 501, "file length")

    def test_long_file_with_a_reason(self):
        self.keep("src/base/big.h", "/* long: one table, read as a whole */\n" + "/* big */\n" * 501)

    def test_long_file_with_an_empty_reason(self):
        self.plant("src/base/big.h", "/* long: */\n" + "/* big */\n" * 501, "file length")

    def test_long_function(self):
        self.plant("src/base/fail.c", "int fail(void)\n{\n" + lines(61) + "}\n", "function length")

    def test_long_function_with_odd_braces(self):
        self.plant("src/base/fail.c", 'int fail(int a,\n         int b) {\n\tputs("}");\n\t/* } */\n' + lines(60) + "}\n",
                   "function length")

    def test_longest_allowed_function(self):
        self.keep("src/base/fail.c", "int fail(void)\n{\n" + lines(60) + "}\n")

    def test_long_function_with_a_reason(self):
        self.keep("src/base/fail.c",
                  "/* long: one switch over all opcodes */\nint fail(void)\n{\n" + lines(61) + "}\n")

    def test_long_table_is_no_function(self):
        self.keep("src/base/fail.c", "static const int table[] = {\n" + "\tone(),\n" * 61 + "};\n")

    # ---- text ----

    def test_blanks(self):
        for text in ("int a; \n", "int a;\r\n", "int a;", "int a;\n\n", "int f(void)\n{\n \treturn 1;\n}\n",
                     "int f(void)\n{\n    return 1;\n}\n"):
            with self.subTest(text=text):
                self.plant("src/base/fail.c", text, "blanks")

    def test_aligned_continuation(self):
        self.keep("src/base/fail.c", "int f(int a,\n      int b)\n{\n\treturn a +\n\t       b;\n}\n")

    def test_tab_in_python(self):
        self.plant("bench/run", "#!/usr/bin/python3\nif True:\n\tpass\n", "blanks")

    def test_unfinished(self):
        for mark in ("TO" "DO", "FIX" "ME", "X" "XX"):
            with self.subTest(mark=mark):
                self.plant("src/base/fail.c", f"/* {mark}: later */\n", "unfinished")

    def test_time_of_day(self):
        for call in ("clock_gettime(CLOCK_REALTIME, &ts)", "gettimeofday(&tv, NULL)", "time(NULL)", "sem_timedwait(&s, &ts)"):
            with self.subTest(call=call):
                self.plant("src/base/fail.c", f"void f(void)\n{{\n\t{call};\n}}\n", "time of day")
        self.keep("src/base/fail.c", "/* not CLOCK_REALTIME, nor time(2) */\nint mtime(int time);\n")

    def test_path_of_a_build_machine(self):
        for path in ("/ho" "me/jo/src", "/wo" "rk/tree", "/ro" "ot/x"):
            with self.subTest(path=path):
                self.plant("bench/run", f"#!/bin/sh\ncd {path}\n", "path of a build machine")

    # ---- the face ----

    def plant_in_header(self, text):
        self.plant("include/quire/map.h", f"#ifndef A\n#define A\n{text}\n#endif\n", "header")

    def test_header_that_needs_another(self):
        self.plant_in_header("struct map { size_t size; };")

    def test_header_that_is_no_c99(self):
        self.plant_in_header("struct map { int a; union { int b; int c; }; };")

    def test_header_that_is_no_cplusplus(self):
        self.plant_in_header("struct map { int class; };")

    def test_header_without_a_guard(self):
        self.plant("include/quire/map.h", "struct map { int a; };\n", "header")

    def test_function_without_a_comment(self):
        self.plant("include/quire/error.h", HEADER.replace(" /* forbids */", "").replace("int quire", "\nint quire"),
                   "comment")

    def test_a_structure_s_comment_is_not_the_function_s(self):
        stat = "struct stat {\n\tint used; /* bytes */\n};\n"
        self.plant("include/quire/error.h", HEADER.replace(" /* forbids */", "").replace("int quire", "\n" + stat + "int quire"),
                   "comment")

    def library(self, source):
        self.write("out/lib.c", source)
        library = self.root / "out" / "lib.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, self.root / "out" / "lib.c"], check=True)
        return library

    def test_exact_exports(self):
        library = self.library("int quire_version, quire_mask;\n")
        self.assertEqual(self.found(library), set())

    def test_missing_export(self):
        library = self.library("int quire_version;\n")
        self.assertEqual(self.found(library), {("include/quire/error.h", "export")})

    def test_surplus_export(self):
        library = self.library("int quire_version, quire_mask, quire_secret;\n")
        self.assertEqual(self.found(library), {("include/quire", "export")})

    # ---- documents ----

    def test_package_without_a_reason(self):
        self.plant("packages.txt", "[build]\ngcc\nfoo:arm64\n", "dependency")

    def test_dead_link(self):
        self.plant("README.md", "[here](docs/none.md)\n", "link")

    def test_dead_heading(self):
        self.write("docs/one.md", "# One\n\n## What `it` is, and why\n")
        self.keep("README.md", "[here](docs/one.md#what-it-is-and-why)\n")
        self.plant("README.md", "[here](docs/one.md#what-it-is)\n", "link")
        self.plant("README.md", "# Two\n\n[here](#three)\n", "link")

    def test_file_that_the_architecture_tells_of(self):
        self.write("src/loop/queue.c", "/* queue */\n")
        self.keep("docs/architecture.md", "| file | idea |\n|---|---|\n| `base/fail`, `fa*`, `loop/queue` | all |\n")
        self.plant("docs/architecture.md", "| `base/fail`, `none` | all |\n", "file")


if __name__ == "__main__":
    unittest.main(verbosity=2)
