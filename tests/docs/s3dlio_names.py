#!/usr/bin/env python3
"""docs/s3dlio-names.tsv has a row for every name of s3dlio, and what it promises is there.

    s3dlio_names.py SOURCE_DIR                 rows against s3dlio-exports.txt and the C headers
    s3dlio_names.py SOURCE_DIR PACKAGE_PARENT  and against the package that lies there
    s3dlio_names.py SOURCE_DIR --installed     s3dlio-exports.txt against the s3dlio that imports
"""
import ast
import glob
import os
import re
import sys

CAPABILITIES = {"benchmarks", "data generation", "checkpoints", "data loading", "formats", "op-log",
                "Google Cloud Storage"}


def read(*parts):
    with open(os.path.join(*parts), encoding="utf-8") as f:
        return f.read()


def read_rows(source):
    """The rows of the table, and what is wrong with their form."""
    rows, wrong = [], []
    for n, line in enumerate(read(source, "docs/s3dlio-names.tsv").splitlines(), 1):
        if line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) != 5:
            wrong.append(f"line {n}: {len(fields)} fields, not 5")
            continue
        name, parameters, status, target, note = fields
        rows.append((name, parameters, status, target, note))
        if status in ("better", "dropped") and not note and not target.startswith("pst_"):
            wrong.append(f"{name}: {status} without a note")
        if status == "later" and target not in CAPABILITIES:
            wrong.append(f"{name}: {target!r} is no capability")
        if status == "dropped" and target != "-":
            wrong.append(f"{name}: dropped, but {target} stands for it")
        if status not in ("same", "better", "later", "dropped"):
            wrong.append(f"{name}: status {status!r}")
    return rows, wrong


def compare_names(rows, exports):
    names = [row[0] for row in rows]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{name}: two rows"
    for name in sorted(exports - set(names)):
        yield f"{name}: no row"
    for name in sorted(set(names) - exports):
        yield f"{name}: not in s3dlio-exports.txt"


def parse_parameters(text, is_method=False):
    arguments = ast.parse(f"def f({text}): ...").body[0].args
    names = [a.arg for a in arguments.posonlyargs + arguments.args]
    n_required = len(names) - len(arguments.defaults)
    values = {name: ast.unparse(value)
              for name, value in zip(names[n_required:], arguments.defaults)}
    if is_method:
        names = names[1:]
    for argument, value in zip(arguments.kwonlyargs, arguments.kw_defaults):
        if value is not None:
            values[argument.arg] = ast.unparse(value)
    return names, [a.arg for a in arguments.kwonlyargs], values


class Stub:
    """Parameters of the functions and methods of a stub, by dotted name, aliases followed."""

    def __init__(self, path):
        self.functions, self.aliases, self.bases = {}, {}, {}
        self.collect(ast.parse(read(path)).body, "")

    def collect(self, body, prefix):
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                is_static = any(ast.unparse(d) == "staticmethod" for d in node.decorator_list)
                self.functions.setdefault(prefix + node.name, []).append(
                    (ast.unparse(node.args), bool(prefix) and not is_static))
            elif isinstance(node, ast.ClassDef):
                self.bases[node.name] = [ast.unparse(base) for base in node.bases]
                self.collect(node.body, node.name + ".")
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
                self.aliases[prefix + node.targets[0].id] = prefix + node.value.id

    def find(self, name):
        name = self.aliases.get(name, name)
        owner, _, method = name.rpartition(".")
        candidates = [name] if owner else [name, name + ".__init__", name + ".__new__"]
        candidates += [f"{base}.{method}" for base in self.bases.get(owner, [])]
        for candidate in candidates:
            if candidate in self.functions:
                return self.functions[candidate]
        return []


def accepts(wanted, overload, is_exact, note):
    """Can a call for the parameters `wanted` be passed on as it is, but for what the note says?"""
    names, keywords, values = parse_parameters(wanted)
    renamed = dict(re.findall(r"\b(\w+) is called (\w+)", note))
    n_unnamed = len(ast.parse(f"def f({wanted}): ...").body[0].args.posonlyargs)
    own_names, own_keywords, own_values = parse_parameters(*overload)
    if len(own_names) < len(names):
        return False
    if any(own != renamed.get(name, name)
           for own, name in list(zip(own_names, names))[n_unnamed:]):
        return False
    if not set(keywords) <= set(own_names + own_keywords) and is_exact:
        return False
    return not is_exact or all(own_values.get(name) == value for name, value in values.items())


def has(module, dotted):
    for part in dotted.split("."):
        if not hasattr(module, part):
            return False
        module = getattr(module, part)
    return True


def compare_package(rows, parent):
    sys.path.insert(0, parent)
    import penstock
    stub = Stub(os.path.join(os.path.dirname(penstock.__file__), "__init__.pyi"))
    for name, parameters, status, target, note in rows:
        if status not in ("same", "better") or target.startswith("pst_"):
            continue
        if not has(penstock, target):
            yield f"{name}: {status}, but there is no penstock.{target}"
        elif not has(penstock, name.split(".")[0]):
            yield f"{name}: {status}, but penstock.{name} does not exist: imports must only change"
        elif parameters != "-":
            overloads = stub.find(target)
            if not any(accepts(parameters, o, status == "same", note) for o in overloads):
                yield f"{name}({parameters}): {status}, but the stub has {overloads}"


def compare_headers(rows, source):
    text = "".join(read(path) for path in glob.glob(f"{source}/sdk/include/penstock/*.h"))
    known = set(re.findall(r"\bpst_\w+", text))
    for name, _, _, target, _ in rows:
        if target.startswith("pst_") and target not in known:
            yield f"{name}: {target} is not in the headers"


def list_installed():
    import s3dlio
    for name in dir(s3dlio):
        if name.startswith("_") or isinstance(getattr(s3dlio, name), type(sys)):
            continue
        module = getattr(getattr(s3dlio, name), "__module__", None) or "s3dlio"
        if module.split(".")[0] in ("s3dlio", "builtins", "_pymod"):
            yield name


def main():
    source = sys.argv[1]
    exports = set(read(os.path.dirname(os.path.abspath(__file__)), "s3dlio-exports.txt").split())
    if sys.argv[2:] == ["--installed"]:
        missing = sorted(set(list_installed()) - exports)
        print("\n".join(missing))
        return 1 if missing else 0
    rows, wrong = read_rows(source)
    wrong += compare_names(rows, exports)
    wrong += compare_headers(rows, source)
    if len(sys.argv) > 2:
        wrong += compare_package(rows, sys.argv[2])
    for line in wrong:
        print(f"s3dlio_names: {line}")
    counts = ", ".join(f"{sum(row[2] == status for row in rows)} {status}"
                       for status in ("same", "better", "later", "dropped"))
    print(f"s3dlio_names: {len(rows)} rows ({counts}), {len(wrong)} wrong")
    return 1 if wrong or len(rows) < 180 else 0


if __name__ == "__main__":
    sys.exit(main())
