"""Rules on how text is written: size, blanks, marks of unfinished work, foreign paths."""
import re

import c_source
from tree import Violation

N_FILE_LINES = 500
N_FUNCTION_LINES = 60  # between its braces
N_HEAD_LINES = 40      # where a file may state its reason
REASON = re.compile(r"(?:/\*|#|\*|//)\s*long:\s*\S.{8,}")
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b")
BUILD_MACHINE = re.compile(r"(?<![\w./$-])/(?:work|home|root)/\w")

# The time of day is set to and fro: what waits, expires or is measured goes by CLOCK_MONOTONIC (docs/resources.md).
TIME_OF_DAY = re.compile(r"\b(CLOCK_(?:REALTIME|TAI)\w*|gettimeofday|sem_timedwait|mtx_timedlock|cnd_timedwait|ftime|time(?=\())\b")
TELL_THE_TIME = {"src/log/append.c", "src/log/upkeep.c", "src/cli/log.c"}  # of records


def check(tree):
    for path in tree.paths:
        if "\r" in tree.text(path):
            yield Violation(str(path), 1, "blanks", "carriage returns")
        yield from file_length(tree, path)
        yield from blanks(tree, path)
        yield from words(tree, path)
    for path in tree.c_files():
        yield from function_lengths(tree, path)
        yield from space_indentation(tree, path)
        yield from clocks(tree, path)


def file_length(tree, path):
    lines = tree.lines(path)
    n_lines = len(lines) - 1
    if tree.is_code(path) and n_lines > N_FILE_LINES and not has_reason(lines[:N_HEAD_LINES]):
        yield Violation(str(path), n_lines, "file length", f"{n_lines} lines, over {N_FILE_LINES}, and no reason")


def function_lengths(tree, path):
    lines = tree.lines(path)
    for function in c_source.functions(tree.text(path)):
        n_lines = function.close_line - function.open_line - 1
        if n_lines > N_FUNCTION_LINES and not has_reason(paragraph_above(lines, function.first_line)):
            yield Violation(str(path), function.first_line, "function length",
                            f"{function.name}: {n_lines} lines, over {N_FUNCTION_LINES}, and no reason")


def paragraph_above(lines, number):
    """The lines directly above line number (from 1), up to a blank one."""
    first = number - 1
    while first > 0 and lines[first - 1].strip():
        first -= 1
    return lines[first:number - 1]


def has_reason(lines):
    return any(REASON.search(line) for line in lines)


def blanks(tree, path):
    lines = tree.lines(path)
    if lines[-1] != "" or (len(lines) > 1 and lines[-2] == ""):
        yield Violation(str(path), len(lines), "blanks", "a file ends in one newline")
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            yield Violation(str(path), number, "blanks", "at the end of the line")
        indentation = line[:len(line) - len(line.lstrip())]
        if " \t" in indentation:
            yield Violation(str(path), number, "blanks", "a space before a tab")
        if "\t" in indentation and (path.suffix in (".py", ".build") or is_python(lines)):
            yield Violation(str(path), number, "blanks", "a tab in a file indented by spaces")


def is_python(lines):
    return lines[0].startswith("#!") and "python" in lines[0]


def space_indentation(tree, path):
    """Tabs indent C. Spaces may align what continues the line before."""
    before = ";"
    lines = c_source.bare_code(tree.text(path)).split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if line.startswith(" ") and before[-1] in ";{}" and not is_comment_tail(tree, path, number):
            yield Violation(str(path), number, "blanks", "indented by spaces")
        before = line.rstrip()


def clocks(tree, path):
    if path.parts[0] != "src" or str(path) in TELL_THE_TIME:
        return
    for number, line in enumerate(c_source.bare_code(tree.text(path)).split("\n"), 1):
        if TIME_OF_DAY.search(line):
            yield Violation(str(path), number, "time of day", line.strip())


def is_comment_tail(tree, path, number):
    """True if the visible code of that line stands behind a comment that began the line."""
    return tree.lines(path)[number - 1].lstrip().startswith(("/*", "*"))


def words(tree, path):
    for number, line in enumerate(tree.lines(path), 1):
        if UNFINISHED.search(line):
            yield Violation(str(path), number, "unfinished", line.strip())
        if BUILD_MACHINE.search(line):
            yield Violation(str(path), number, "path of a build machine", line.strip())
