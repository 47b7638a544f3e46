#!/usr/bin/env python3
"""The option table of a document is that of the plugin's manifest.

    option_table.py DOCUMENT MANIFEST            compare
    option_table.py DOCUMENT MANIFEST --write    put it there
"""
import json
import sys

BEGIN, END = "<!-- options: tests/docs/option_table.py --write -->\n", "<!-- end of options -->\n"


def row(option):
    kind = option["type"]
    if kind == "enum":
        kind = ", ".join(f"`{choice}`" for choice in option["choices"].split("|"))
    if option.get("secret"):
        kind += ", secret"
    default = f"`{option['default']}`" if option.get("default") else ""
    names = " ".join(f"`{name}`" for name in option.get("env", "").split())
    text = option["doc"].replace("|", "\\|")
    return f"| `{option['name']}` | {kind} | {default} | {names} | {text} |\n"


def main():
    document, manifest = sys.argv[1:3]
    with open(manifest, encoding="utf-8") as f:
        rows = [row(option) for option in json.load(f)["options"]]
    table = "| option | value | default | environment | |\n|---|---|---|---|---|\n" + "".join(rows)
    with open(document, encoding="utf-8") as f:
        text = f.read()
    before, begin, rest = text.partition(BEGIN)
    found, end, after = rest.partition(END)
    if not begin or not end:
        return f"option_table: no table in {document}"
    if "--write" in sys.argv:
        with open(document, "w", encoding="utf-8") as f:
            f.write(before + begin + table + end + after)
    elif found != table:
        return f"option_table: {document} differs from {manifest}: --write"
    print(f"option_table: {len(rows)} options")
    return 0


if __name__ == "__main__":
    sys.exit(main())
