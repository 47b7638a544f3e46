#!/usr/bin/env python3
"""Links between the documents lead somewhere, to the heading too: links.py SOURCE_DIR"""
import os
import re
import subprocess
import sys


def anchors(text):
    """The anchors of the headings, as the usual viewers make them."""
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def main():
    source = sys.argv[1]
    files = subprocess.run(["find", source, "-name", "*.md", "-not", "-path", "*/build/*", "-not",
                            "-path", "*/target/*"], capture_output=True, text=True, check=True)
    n, wrong = 0, 0
    for document in sorted(files.stdout.split()):
        text = re.sub(r"^```.*?^```", "", read(document), flags=re.S | re.M)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            n += 1
            path, _, anchor = target.partition("#")
            where = os.path.join(os.path.dirname(document), path) if path else document
            if not os.path.exists(where) or (anchor and anchor not in anchors(read(where))):
                print(f"links: {os.path.relpath(document, source)}: {target} leads nowhere")
                wrong += 1
    print(f"links: {n} links, {wrong} wrong")
    return 1 if wrong or n < 20 else 0


if __name__ == "__main__":
    sys.exit(main())
