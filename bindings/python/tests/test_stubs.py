"""What __init__.pyi says is what there is: names, members, parameters."""
import ast
import inspect
import os
import tempfile
import types
import unittest

import penstock

PACKAGE = os.path.dirname(penstock.__file__)
KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "either",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}
# Members that every class inherits or that the type machinery adds.
MACHINERY = {name for name in dir(object)} | {
    "__module__", "__dict__", "__weakref__", "__slots__", "__annotations__", "__match_args__",
    "__del__", "__static_attributes__", "__firstlineno__", "__abstractmethods__", "_abc_impl",
    "__buffer__", "__release_buffer__",  # in types only since 3.12
    "n_fields", "n_sequence_fields", "n_unnamed_fields",  # of named tuples made in C
}
BLOCKS = {"__enter__", "__exit__"}
ANYWAY = {"__init__", "__new__"}  # a class has one or the other


def read_stub():
    with open(os.path.join(PACKAGE, "__init__.pyi"), encoding="utf-8") as f:
        return ast.parse(f.read())


def is_public(name):
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def definitions(body):
    """Public names of a body, each with its nodes (overloads are several)."""
    found = {}
    for node in body:
        names = []
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names = [node.name]
        elif isinstance(node, ast.AnnAssign) and "TypeAlias" not in ast.unparse(node.annotation):
            names = [node.target.id]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets]
        for name in names:
            if is_public(name):
                found.setdefault(name, []).append(node)
    return found


def stub_parameters(node):
    """(name, kind, has a default) of each parameter of a function of the stub."""
    a = node.args
    either = a.posonlyargs + a.args
    n_required = len(either) - len(a.defaults)
    for i, argument in enumerate(either):
        kind = "positional" if i < len(a.posonlyargs) else "either"
        yield argument.arg, kind, i >= n_required
    if a.vararg:
        yield a.vararg.arg, "*", False
    for argument, default in zip(a.kwonlyargs, a.kw_defaults):
        yield argument.arg, "keyword", default is not None
    if a.kwarg:
        yield a.kwarg.arg, "**", False


def own_parameters(function):
    return [(p.name, KINDS[p.kind], p.default is not p.empty)
            for p in inspect.signature(function).parameters.values()]


def without_self(parameters):
    return [p for p in parameters if p[0] not in ("self", "cls")]


def merge(nodes):
    """Parameters of a function with overloads; optional is what is so in one of them."""
    merged = {}
    for node in nodes:
        for name, kind, has_default in stub_parameters(node):
            merged[name] = (name, kind, has_default or merged.get(name, (0, 0, False))[2])
    return list(merged.values())


class Stubs(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.names = definitions(read_stub().body)

    def test_package_is_marked_as_typed(self):
        self.assertTrue(os.path.exists(os.path.join(PACKAGE, "py.typed")))

    def test_every_name_of_the_stub_exists(self):
        self.assertEqual([n for n in self.names if not hasattr(penstock, n)], [])

    def test_every_public_name_has_a_stub(self):
        public = {n for n in dir(penstock) if not n.startswith("_")
                  and not inspect.ismodule(getattr(penstock, n))}
        self.assertEqual(sorted(public - set(self.names)), [])

    def test_all_names_what_the_stub_has(self):
        listed = {n for n in penstock.__all__ if n != "__version__"}
        self.assertEqual(sorted(listed ^ {n for n in self.names if not n.startswith("_")}), [])

    def test_functions_take_what_the_stub_says(self):
        for name, nodes in self.names.items():
            if isinstance(nodes[0], (ast.FunctionDef, ast.AsyncFunctionDef)):
                with self.subTest(function=name):
                    self.assertEqual(merge(nodes), own_parameters(getattr(penstock, name)))

    def test_functions_to_be_awaited_are_those_of_the_stub(self):
        for name, nodes in self.names.items():
            if isinstance(nodes[0], (ast.FunctionDef, ast.AsyncFunctionDef)):
                with self.subTest(function=name):
                    self.assertEqual(isinstance(nodes[0], ast.AsyncFunctionDef),
                                     inspect.iscoroutinefunction(getattr(penstock, name)))

    def test_methods_of_a_writer_return_what_the_stub_says(self):
        """Those of an object that is compressed, whose length nobody knows before its end."""
        said = definitions(self.names["ObjectWriter"][0].body)
        with tempfile.TemporaryDirectory() as root:
            writer = penstock.open_writer(f"file://{root}/a", compression_level=1)
            for name, arguments in (("write", [b"x"]), ("write_chunk", [b"x"]), ("checksum", []),
                                    ("write_owned_bytes", [b"x"]), ("reserve", [1]),
                                    ("commit", []), ("bytes_written", []),
                                    ("compressed_bytes", []), ("finalize", []),
                                    ("compressed_bytes", [])):
                result = getattr(writer, name)(*arguments)
                kind = "None" if result is None else type(result).__name__
                with self.subTest(method=name, returned=kind):
                    self.assertIn(kind, ast.unparse(said[name][0].returns))

    def test_attributes_of_an_object_are_those_of_the_stub(self):
        said = next(node for node in read_stub().body
                    if isinstance(node, ast.ClassDef) and node.name == "_Stat")
        self.assertCountEqual([field.target.id for field in said.body],
                              penstock.stat("file://" + os.path.abspath(__file__)))

    def each_class(self):
        for name, nodes in self.names.items():
            if isinstance(nodes[0], ast.ClassDef):
                yield name, nodes[0], getattr(penstock, name)

    def test_classes_have_the_bases_of_the_stub(self):
        for name, node, cls in self.each_class():
            for base in node.bases:
                base = getattr(penstock, ast.unparse(base), None)
                if isinstance(base, type):
                    with self.subTest(cls=name, base=base):
                        self.assertTrue(issubclass(cls, base))

    def test_classes_have_the_members_of_the_stub(self):
        for name, node, cls in self.each_class():
            for member, nodes in definitions(node.body).items():
                if isinstance(nodes[0], ast.AnnAssign):
                    continue  # an attribute of instances
                if member not in MACHINERY:
                    with self.subTest(member=f"{name}.{member}"):
                        self.assertTrue(hasattr(cls, member))

    def test_members_of_classes_are_in_the_stub(self):
        for name, node, cls in self.each_class():
            inherited = set().union(*(dir(base) for base in cls.__mro__[1:]))
            own = {m for m in vars(cls) if is_public(m)} - MACHINERY - ANYWAY
            known = set(definitions(node.body))
            with self.subTest(cls=name):
                self.assertEqual(sorted(own - known - inherited), [])

    def test_methods_take_what_the_stub_says(self):
        for name, node, cls in self.each_class():
            for member, nodes in definitions(node.body).items():
                if not isinstance(nodes[0], (ast.FunctionDef, ast.AsyncFunctionDef)):
                    continue
                if member in MACHINERY - ANYWAY or any(
                        ast.unparse(d) == "property" for d in nodes[0].decorator_list):
                    continue
                function = cls if member in ANYWAY else getattr(cls, member, None)
                if isinstance(function, types.WrapperDescriptorType) or (
                        member in BLOCKS and getattr(function, "__text_signature__", "") is None):
                    continue  # its parameters are the language's
                with self.subTest(method=f"{name}.{member}"):
                    self.assertEqual(without_self(merge(nodes)),
                                     without_self(own_parameters(function)))


if __name__ == "__main__":
    unittest.main()
