#!/usr/bin/python3
"""Writes a library that has each public function and refuses everything: refusing_library.py OUTPUT HEADER…

What may fail is -ENOENT, and says so, what counts is 0, what points is NULL, what says is "". So the command can be given any arguments,
and does nothing."""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "structure"))
sys.dont_write_bytecode = True
import c_source  # noqa: E402 - in a directory beside this one

REFUSE = """#include <errno.h>
#include <stdio.h>
static int refuse(struct quire_error *err)
{
    if (err != NULL)
        *err = (struct quire_error){.code = -ENOENT, .text = "refused"};
    return -ENOENT;
}
"""
RESULTS = {"void": "", "int": "return -ENOENT;", "int64_t": "return -ENOENT;", "const char *": 'return "";'}


def definitions(header):
    for kind, _, _, source in c_source.declarations(header.read_text()):
        name = c_source.CALLABLE.search(source)
        if kind == ";" and name and not re.match(r"\s*(typedef|static)\b", source):
            result = " ".join(source[:name.start()].split())
            body = "return refuse(err);" if "struct quire_error *err" in source else RESULTS.get(result, "return 0;")
            yield f"{source.strip()}\n{{\n\t{body}\n}}\n"


def main():
    output, headers = sys.argv[1], [pathlib.Path(path) for path in sys.argv[2:]]
    lines = [f"#include <quire/{header.name}>" for header in headers] + [REFUSE]
    for header in headers:
        lines += definitions(header)
    pathlib.Path(output).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
