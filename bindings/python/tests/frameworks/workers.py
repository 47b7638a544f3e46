"""torch's DataLoader over a store: four workers of each start method, whose parent uses the store, too.

Run by the script beside this, below tests/servers/up.
"""
import faulthandler
import multiprocessing
import os
import pickle
import signal
import threading
import time
import unittest

import numpy
import torch
import torch.utils.data as data

import penstock
import support

WORKERS = 4
BATCH = 4
LIMIT_S = 240  # far more than anything here takes: what hangs ends with the stacks of its threads


def keys_of_environment(_uri):
    return {"access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
            "secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"]}


def give_up():
    """A forkserver lives as long as its workers, and they as long as it: none is left alone."""
    faulthandler.dump_traceback()
    for worker in multiprocessing.active_children():
        worker.kill()
    os._exit(1)


class ByUri(data.Dataset):
    """Samples by the functions of the package: nothing but names travels to a worker."""

    def __init__(self, uris):
        self.uris = uris

    def __len__(self):
        return len(self.uris)

    def __getitem__(self, i):
        return self.uris[i], torch.frombuffer(bytearray(penstock.get(self.uris[i])),
                                              dtype=torch.uint8)


class ByStore(data.Dataset):
    """Samples by a Store, which travels without its secrets, straight into tensors."""

    def __init__(self, store, keys):
        self.store, self.keys = store, keys

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, i):
        key = self.keys[i]
        tensor = torch.empty(self.store.stat(key)["size"], dtype=torch.uint8)
        self.store.get_into(key, tensor.numpy())
        return self.store.uri + key, tensor


class InBatches(ByStore):
    """All samples of a batch by one call."""

    def __getitems__(self, indices):
        found = self.store.get_many([self.keys[i] for i in indices])
        return [(self.store.uri + key, torch.frombuffer(bytearray(view), dtype=torch.uint8))
                for key, view in found]


class Fatal(ByUri):
    """The worker that is to read the sample in the middle is killed in the midst of it. They
    are arrays, which travel by value: a tensor's memory is asked for of a worker that may be dead."""

    def __getitem__(self, i):
        if i == len(self) // 2:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()
            while True:
                super().__getitem__(i)
        uri, tensor = super().__getitem__(i)
        return uri, tensor.numpy()


class Workers(support.Case):
    def setUp(self):
        super().setUp()
        watch = threading.Timer(LIMIT_S, give_up)
        watch.start()
        self.addCleanup(watch.cancel)
        self.data = {f"d/{i:02}": os.urandom(1 + i * 5000) for i in range(40)}
        for key, body in self.data.items():
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        self.keys, self.uris = list(self.data), [self.s3_uri(key) for key in self.data]
        self.check_parent()

    def check_parent(self):
        """This process reads, and no worker of it is left."""
        self.assertEqual([view.to_bytes() for _, view in penstock.get_many(self.uris)],
                         list(self.data.values()))
        deadline = time.monotonic() + LIMIT_S / 4
        while multiprocessing.active_children() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual(multiprocessing.active_children(), [])

    def load(self, samples, method, timeout=LIMIT_S / 2, **more):
        return data.DataLoader(samples, batch_size=BATCH, num_workers=WORKERS, collate_fn=list,
                               multiprocessing_context=method, timeout=timeout, **more)

    def read(self, loader, beside=None):
        """An epoch: the samples by their URIs."""
        read = []
        for batch in loader:
            read += [(uri, numpy.asarray(sample).tobytes()) for uri, sample in batch]
            if beside:
                beside()
        return read

    def stores(self):
        """That find their credentials where they are opened, and that ask a function for them."""
        options = {"endpoint": os.environ["AWS_ENDPOINT_URL_S3"]}
        return [penstock.Store(self.s3_uri(), options),
                penstock.Store(self.s3_uri(), options, credentials=keys_of_environment)]

    def test_samples_are_those_that_were_put(self):
        stores = self.stores()
        samples = data.ConcatDataset([ByUri(self.uris), *(ByStore(s, self.keys) for s in stores)])
        self.assertNotIn(os.environ["AWS_SECRET_ACCESS_KEY"].encode(), pickle.dumps(samples))
        expected = list(zip(self.uris, self.data.values())) * 3
        for method in ("fork", "spawn", "forkserver"):
            with self.subTest(method):
                # The parent has used all that its workers inherit or are given, and goes on using it.
                for store in stores:
                    store.get(self.keys[0])
                loader = self.load(samples, method, persistent_workers=method == "spawn")
                for _ in range(2):
                    self.assertEqual(self.read(loader, lambda: stores[0].get(self.keys[0])),
                                     expected)
                del loader
                self.check_parent()

    def test_batches_by_one_call(self):
        samples = InBatches(self.stores()[0], self.keys)
        read = self.read(self.load(samples, "fork", shuffle=True))
        self.assertEqual(sorted(read), sorted(zip(self.uris, self.data.values())))
        self.check_parent()

    def test_worker_that_is_killed_is_torch_s_error(self):
        for method in ("fork", "forkserver"):
            with self.subTest(method):
                # Of a forkserver's workers torch hears no signal: it looks every five seconds, or
                # where it has a timeout of its own at the end of that.
                loader = self.load(Fatal(self.uris), method, timeout=0)
                with self.assertRaisesRegex(RuntimeError, "DataLoader worker .*(killed|exited)"):
                    self.read(loader)
                del loader
                self.check_parent()
        self.assertEqual(self.read(self.load(ByUri(self.uris), "fork")),
                         list(zip(self.uris, self.data.values())))

    def test_error_of_a_worker_is_the_parent_s(self):
        with self.assertRaises(penstock.NotFoundError) as caught:
            self.read(self.load(ByUri([self.s3_uri("none")]), "fork"))
        self.assertIn(self.s3_uri("none"), str(caught.exception))
        self.check_parent()


if __name__ == "__main__":
    unittest.main()
