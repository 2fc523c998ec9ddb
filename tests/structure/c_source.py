"""Just enough of C to find its functions: comments, strings, directives and braces."""
import re
from dataclasses import dataclass

TOKEN = re.compile(
    r"""/\*.*?\*/ | //[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' """, re.S | re.X)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)
CALLABLE = re.compile(r"\b(?!__attribute__|__asm__|_Static_assert|static_assert)([A-Za-z_]\w*)\s*\(")


@dataclass
class Function:
    name: str
    first_line: int  # of the declaration, from 1
    open_line: int   # of the opening brace
    close_line: int


def blank(text):
    """Text with everything but newlines made spaces."""
    return re.sub(r"[^\n]", " ", text)


def without_comments(text):
    """Same length and lines; comments and what strings hold are blank."""
    def hide(match):
        token = match.group(0)
        return token[0] + blank(token[1:-1]) + token[-1] if token[0] in "\"'" else blank(token)
    return TOKEN.sub(hide, text)


def bare_code(text):
    """Without comments, string contents and preprocessor directives."""
    return DIRECTIVE.sub(lambda match: blank(match.group(0)), without_comments(text))


def declarations(text):
    """Yields (kind, first line, last line, source) of what stands at file level:
    kind is ";" or "{}"; for "{}" source is what precedes the brace, and the brace's
    line is first line + newlines in it. The inside of extern "C" is file level."""
    code = bare_code(text)
    start, depth, n_transparent, opened = 0, 0, 0, None
    for position, character in enumerate(code):
        if character == "{":
            if depth == 0 and re.fullmatch(r'\s*extern\s+" *"\s*', code[start:position]):
                n_transparent += 1
                start = position + 1
                continue
            if depth == 0 and opened is None:
                opened = position
            depth += 1
        elif character == "}":
            if depth == 0:
                n_transparent -= 1
                start = position + 1
                continue
            depth -= 1
            head = code[start:opened]
            if depth == 0 and is_function_head(head):
                yield "{}", line_at(code, start, head), line_of(code, position), code[start:opened]
                start, opened = position + 1, None
        elif character == ";" and depth == 0:
            yield ";", line_at(code, start, code[start:position]), line_of(code, position), code[start:position]
            start, opened = position + 1, None


def is_function_head(head):
    if "=" in head or re.match(r"\s*(typedef|struct|union|enum)\s+\w*\s*$", head):
        return False
    return CALLABLE.search(head) is not None


def line_of(code, position):
    return code.count("\n", 0, position) + 1


def line_at(code, start, source):
    """Line where source, which begins at start, has its first visible character."""
    return line_of(code, start + len(source) - len(source.lstrip()))


def functions(text):
    """The functions that are defined in text."""
    for kind, first_line, last_line, source in declarations(text):
        if kind == "{}":
            open_line = first_line + source.strip().count("\n") + source[len(source.rstrip()):].count("\n")
            yield Function(CALLABLE.search(source).group(1), first_line, open_line, last_line)


def prototypes(text):
    """(name, first line, last line) of functions that are declared, and not static."""
    for kind, first_line, last_line, source in declarations(text):
        if kind == ";" and not re.match(r"\s*(typedef|static)\b", source) and is_function_head(source):
            yield CALLABLE.search(source).group(1), first_line, last_line
