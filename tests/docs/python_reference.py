#!/usr/bin/env python3
"""The reference of docs/python.md is what the stub and the docstrings of the package say.

    python_reference.py DOCUMENT PACKAGE_PARENT            compare
    python_reference.py DOCUMENT PACKAGE_PARENT --write    put it there
"""
import ast
import inspect
import os
import sys

BEGIN, END = ("<!-- reference: tests/docs/python_reference.py --write -->\n",
              "<!-- end of reference -->\n")


def call_text(name, node):
    """The call as a reader wants to see it: no types, no self."""
    arguments = node.args
    for argument in (arguments.posonlyargs + arguments.args + arguments.kwonlyargs
                     + [a for a in (arguments.vararg, arguments.kwarg) if a]):
        argument.annotation = None
    text = ast.unparse(arguments)
    for own in ("self, /, ", "self, /", "self, ", "self", "cls, ", "cls"):
        if text == own or (text.startswith(own) and own.endswith(" ")):
            text = text[len(own):]
            break
    is_awaited = isinstance(node, ast.AsyncFunctionDef)
    return f"`{'await ' if is_awaited else ''}{name}({text})`".replace("|", "\\|")


def first_paragraph(thing):
    text = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return " ".join(text.split()).replace("|", "\\|")


def rows_of(body, owner, prefix, wrong):
    seen = set()
    for node in body:
        name = getattr(node, "name", None)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or name in seen:
            continue
        if name.startswith("_") and name != "__init__":
            continue
        seen.add(name)
        thing = getattr(owner, name)
        is_member = bool(prefix)
        if name == "__init__":
            text = call_text(owner.__name__, node)
            thing = owner
        elif is_member and any(ast.unparse(d) == "property" for d in node.decorator_list):
            text = f"`{prefix}{name}`"
        else:
            text = call_text(prefix + name, node)
        line = first_paragraph(thing)
        if not line:
            wrong.append(f"{prefix}{name} has no docstring")
        yield f"| {text} | {line} |\n"


def make_reference(parent, wrong):
    sys.path.insert(0, parent)
    import penstock
    with open(os.path.join(os.path.dirname(penstock.__file__), "__init__.pyi"),
              encoding="utf-8") as f:
        stub = ast.parse(f.read())
    head = "| | |\n|---|---|\n"
    text = "### Functions\n\n" + head
    text += "".join(rows_of(stub.body, penstock, "", wrong))
    for node in stub.body:
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
            continue
        cls = getattr(penstock, node.name)
        if issubclass(cls, BaseException):
            continue
        rows = "".join(rows_of(node.body, cls, "." if node.body else "", wrong))
        doc = first_paragraph(cls)
        if not doc:
            wrong.append(f"{node.name} has no docstring")
        text += f"\n### {node.name}\n\n{doc}\n" + (f"\n{head}{rows}" if rows else "")
    return text


def main():
    document, parent = sys.argv[1:3]
    wrong = []
    reference = make_reference(os.path.abspath(parent), wrong)
    with open(document, encoding="utf-8") as f:
        text = f.read()
    before, begin, rest = text.partition(BEGIN)
    found, end, after = rest.partition(END)
    if not begin or not end:
        return f"python_reference: no reference in {document}"
    if "--write" in sys.argv:
        with open(document, "w", encoding="utf-8") as f:
            f.write(before + begin + "\n" + reference + "\n" + end + after)
    elif found != "\n" + reference + "\n":
        wrong.append(f"{document} differs from the package: --write")
    for line in wrong:
        print(f"python_reference: {line}")
    print(f"python_reference: {reference.count(chr(10))} lines")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
