"""Penstock in one process with TensorFlow and PyTorch, each of which brings libraries of its own:
neighbours.py MODULE..., in the order in which they are imported.

Run by the script beside this, below tests/servers/up, with the package of the portable wheel.
"""
import importlib
import os
import sys
import uuid

modules = {name: importlib.import_module(name) for name in sys.argv[1:]}
penstock, tensorflow, torch = (modules[name] for name in ("penstock", "tensorflow", "torch"))
folder = os.path.dirname(penstock.__file__)
assert os.path.exists(os.path.join(folder, "lib/SOURCES")), f"{folder} is not of a portable wheel"

data = os.urandom(1 << 20)
for options in ({"endpoint": os.environ["PST_MINIO_ENDPOINT"]},
                {"endpoint": os.environ["PST_MINIO_TLS_ENDPOINT"],
                 "ca_file": os.environ["PST_MINIO_TLS_CA_FILE"]}):
    store = penstock.Store(f"s3://n-{uuid.uuid4().hex[:20]}/", options)
    store.create_container("")
    store.put("a", data)
    view = store.get("a")
    assert view == data
    assert [v.to_bytes() for _, v in store.get_many(["a"] * 20)] == [data] * 20
    tensor = tensorflow.experimental.dlpack.from_dlpack(view.for_tensorflow())
    assert tensor.numpy().tobytes() == data
    there = torch.empty(len(data), dtype=torch.uint8)
    store.get_into("a", there.numpy())
    assert int(there.sum()) == int(tensorflow.reduce_sum(tensorflow.cast(tensor, "int64")))
print("http and https beside TensorFlow and PyTorch, imported in the order", *modules)
