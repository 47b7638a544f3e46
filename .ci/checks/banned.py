#!/usr/bin/env python3
"""banned.py [ROOT]: functions and forms that no C file here may use, each with what to use instead.

Text in comments and string literals does not count. The library has rules of its own: it never
exits, prints, or touches the process's signals and locale.
"""
import os
import re
import sys

ROOT = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else ".")
EVERYWHERE = {
    "strcpy": "memcpy with a known length", "strcat": "memcpy with a known length",
    "strncpy": "memcpy with a known length", "strncat": "memcpy with a known length",
    "stpcpy": "memcpy with a known length",
    "sprintf": "snprintf", "vsprintf": "vsnprintf", "gets": "getline",
    "atoi": "strtol", "atol": "strtol", "atoll": "strtoll", "atof": "strtod",
    "strtok": "strchr or strtok_r", "localtime": "localtime_r", "gmtime": "gmtime_r",
    "ctime": "strftime", "asctime": "strftime", "strerror": "strerror_r",
    "rand": "a seeded generator of your own", "srand": "a seeded generator of your own",
    "tmpnam": "mkstemp", "tempnam": "mkstemp", "mktemp": "mkstemp", "alloca": "the heap",
}
LIBRARY = {
    "exit": "return a status", "_exit": "return a status", "abort": "return a status",
    "printf": "the log sink", "puts": "the log sink", "perror": "the log sink",
    "fprintf": "the log sink", "putchar": "the log sink",
    "signal": "nothing: signals are the application's",
    "sigaction": "nothing: signals are the application's",
    "setlocale": "nothing: the locale is the application's", "atexit": "pst_context_free",
    "setenv": "nothing: the environment is the application's",
    "putenv": "nothing: the environment is the application's",
}
# Spelled-out exceptions: (file, function): reason.
ALLOWED = {
}
FORMS = [
    (re.compile(r"__attribute__\s*\(\(\s*cleanup"), "cleanup attributes: goto out"),
]
MARKERS = re.compile(r"\b(?:TODO|FIXME|XXX)\b")
SKIPPED_PARTS = {"build", "target", ".git"}


def strip(text):
    """Blank out comments and literals, keeping every newline where it is."""
    def blank(match):
        piece = match[0]
        if piece[0] in "\"'":
            return piece[0] + re.sub(r"[^\n]", " ", piece[1:-1]) + piece[-1]
        return re.sub(r"[^\n]", " ", piece)
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text,
                  flags=re.S)


def source_files():
    for directory, folders, names in os.walk(ROOT):
        folders[:] = sorted(d for d in folders if d not in SKIPPED_PARTS)
        for name in sorted(names):
            if name.endswith((".c", ".h", ".cc", ".cpp", ".hpp")):
                yield os.path.relpath(os.path.join(directory, name), ROOT)


def call_arguments(text, start):
    """The text between the parenthesis at `start` and the one that closes it."""
    depth = 0
    for end in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return text[start + 1:end]
    return ""


def find_products(text):
    """Offsets of malloc and realloc calls whose size is a product, which may overflow unseen."""
    for match in re.finditer(r"(?<!\w)(?:malloc|realloc)\s*(?=\()", text):
        size = call_arguments(text, match.end())
        # Neither a pointer type in a cast or sizeof nor a dereference is a product.
        size = re.sub(r"\(\s*(?:const\s+)?(?:struct\s+)?\w+\s*\*+\s*\)", "(T)", size)
        size = re.sub(r"\bsizeof\s*(\(?)\s*\*+", r"sizeof \1", size)
        # Neither is one of constants, which the compiler checks.
        size = re.sub(r"\b\d+\w*\s*\*\s*[A-Z][A-Z0-9_]*\b", "1", size)
        if re.search(r"[\w)\]]\s*\*\s*[\w(]", size):
            yield match.start()


def check(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        original = f.read()
    text = strip(original)
    banned = dict(EVERYWHERE)
    if path.startswith(("sdk/src/", "plugins/")) and "/tests/" not in path:
        banned.update(LIBRARY)
    names = "|".join(map(re.escape, banned))

    def where(subject, offset):
        return f"{path}:{subject.count(chr(10), 0, offset) + 1}: "

    for match in re.finditer(rf"(?<![\w.>])({names})\s*\(", text):
        if (path, match[1]) not in ALLOWED:
            yield where(text, match.start()) + f"{match[1]}: use {banned[match[1]]}"
    for pattern, why in FORMS:
        for match in pattern.finditer(text):
            yield where(text, match.start()) + why
    for offset in find_products(text):
        yield where(text, offset) + "a product as a size: calloc, reallocarray or a checked product"
    for match in MARKERS.finditer(original):
        yield where(original, match.start()) + f"{match[0]}: finish it, or name an issue"


def main():
    files = list(source_files())
    faults = [fault for path in files for fault in check(path)]
    for fault in faults:
        print(fault)
    print(f"{len(files)} files, {len(faults)} banned uses")
    if not files:
        sys.exit("banned: nothing to check")
    sys.exit(1 if faults else 0)


main()
