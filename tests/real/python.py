#!/usr/bin/env python3
"""The Python package over a real store: what it writes boto3 reads and the other way round, in threads and
in processes of each kind, and nothing is left behind by what was interrupted."""
import multiprocessing
import os
import signal
import threading
import time

import support

# Before the first use: stores that URIs lie in are opened once.
os.environ["AWS_ENDPOINT_URL_S3"] = os.environ["PST_MINIO_ENDPOINT"]

import penstock  # noqa: E402

WORKERS = 4


def read_all(uris):
    return [penstock.get(uri).to_bytes() for uri in uris]


class Stop(Exception):
    pass


class Python(support.Case):
    server = "minio"

    def fill(self, n, size=1000):
        data = {f"d/{i:04d}": os.urandom(size) for i in range(n)}
        for key, body in data.items():
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        return data

    def test_objects_written_here_are_read_there(self):
        data = os.urandom(20 * support.MIB + 7)
        etag = penstock.put_bytes(self.s3_uri("a b+ü"), data, content_type="image/png",
                                  metadata={"who": "me"}, checksum="crc32c")
        head = self.s3.head_object(Bucket=self.bucket, Key="a b+ü")
        self.assertEqual((head["ContentType"], head["Metadata"]), ("image/png", {"who": "me"}))
        self.assertEqual(head["ETag"], etag)
        self.assertEqual(self.body("a b+ü"), data)
        told = penstock.stat(self.s3_uri("a b+ü"))
        self.assertEqual((told["size"], told["metadata"]), (len(data), {"who": "me"}))

    def test_objects_written_there_are_read_here(self):
        data = os.urandom(30 * support.MIB + 1)
        self.s3.put_object(Bucket=self.bucket, Key="big", Body=data)
        uri = self.s3_uri("big")
        self.assertEqual(penstock.get(uri), data)
        self.assertEqual(penstock.get_range(uri, 1000, 2000), data[1000:3000])
        self.assertEqual(penstock.get_suffix(uri, 99), data[-99:])
        into = bytearray(len(data))
        self.assertEqual(penstock.get_into(uri, into), len(data))
        self.assertEqual(into, data)
        with self.assertRaises(penstock.NotFoundError) as caught:
            penstock.get(self.s3_uri("none"))
        self.assertEqual((caught.exception.http_status, caught.exception.provider_code),
                         (404, "NoSuchKey"))
        self.assertTrue(caught.exception.request_id)

    def test_list_copy_and_delete(self):
        self.fill(1200, 1)
        self.assertEqual(penstock.list(self.s3_uri()), [self.s3_uri("d/")])
        self.assertEqual(penstock.list(self.s3_uri("d")),
                         [self.s3_uri(f"d/{i:04d}") for i in range(1200)])
        penstock.copy(self.s3_uri("d/0007"), self.s3_uri("copy"))
        self.assertEqual(self.body("copy"), self.body("d/0007"))
        self.assertIn(self.bucket, [found["name"] for found in penstock.list_containers()])
        penstock.delete(self.s3_uri("d"), recursive=True)
        self.assertEqual(self.keys(), ["copy"])
        penstock.delete(self.s3_uri("copy"))
        penstock.delete_bucket(self.bucket)
        self.s3.create_bucket(Bucket=self.bucket)

    def test_tree_goes_up_and_comes_down(self):
        data = {f"s/{i % 7}/{i}": os.urandom(i * 1000) for i in range(60)}
        for name, body in data.items():
            path = f"{self.top}/tree/{name}"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(body)
        self.assertEqual(penstock.upload(self.top + "/tree", self.s3_uri("up")), 60)
        self.assertEqual(sorted(self.keys()), sorted("up/tree/" + name for name in data))
        self.assertEqual(penstock.download(self.s3_uri("up"), self.top + "/down"), 60)
        for name, body in data.items():
            with open(f"{self.top}/down/tree/{name}", "rb") as f:
                self.assertEqual(f.read(), body)

    def test_workers_of_each_start_method(self):
        data = self.fill(40)
        uris = [self.s3_uri(key) for key in data]
        self.assertEqual(read_all(uris), list(data.values()))
        for method in ("fork", "spawn", "forkserver"):
            with self.subTest(method), multiprocessing.get_context(method).Pool(WORKERS) as pool:
                parts = [uris[i::WORKERS] for i in range(WORKERS)]
                values = list(data.values())
                self.assertEqual(pool.map(read_all, parts, 1),
                                 [values[i::WORKERS] for i in range(WORKERS)])

    def test_a_thousand_forks_after_use(self):
        data = self.fill(1)
        uri, expected = self.s3_uri("d/0000"), data["d/0000"]
        self.assertEqual(penstock.get(uri), expected)
        for _ in range(1000):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if penstock.get(uri) == expected else 1)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        self.assertEqual(penstock.get(uri), expected)

    def test_threads_read_side_by_side(self):
        data = self.fill(40, 100_000)
        uris = [self.s3_uri(key) for key in data]
        wrong = []

        def work():
            if read_all(uris) != list(data.values()):
                wrong.append(1)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_interrupted_writes_leave_nothing(self):
        def stop(*_):
            raise Stop

        data = os.urandom(64 * support.MIB)
        path = self.top + "/big"
        with open(path, "wb") as f:
            f.write(data)
        before = signal.signal(signal.SIGALRM, stop)
        n_stopped = 0
        try:
            for delay_s in (0.01, 0.05, 0.1, 0.2):
                for write in (lambda: penstock.put(self.s3_uri("put"), data),
                              lambda: penstock.upload(path, self.s3_uri())):
                    signal.setitimer(signal.ITIMER_REAL, delay_s)
                    start = time.monotonic()
                    try:
                        write()
                        signal.setitimer(signal.ITIMER_REAL, 0)
                    except Stop:
                        n_stopped += 1
                        self.assertLess(time.monotonic() - start, delay_s + 1)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        self.assertGreater(n_stopped, 0)
        self.assertEqual(support.uploads(self.s3, self.bucket), [])
        for key in self.keys():
            self.assertEqual(self.body(key), data)


if __name__ == "__main__":
    support.main()
