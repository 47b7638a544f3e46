#!/usr/bin/env python3
"""peers.py SIDE ENDPOINT BUCKET [unsigned] [NAME=VALUE...]: a side of the race that runs in Python.

It is a peer, or Penstock as one may use it. The lines of work are those of side.h. Keys, region and CA come
from the environment (AWS_*). Each side works the way its own documentation recommends, keeps its results until
the next line, and is given the same part size and concurrency for uploads. A kind of work that a peer has no
call for is answered "NONE". With "unsigned" a peer that signs the payload and can be told not to over http is
told so; NAME=VALUE are options of Penstock's store.
"""
import asyncio
import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from rows import GATHER, MANY_ASYNC, PUT_BYTES, PYTHON, TASKS

PART_BYTES = 8 << 20
PARTS_IN_FLIGHT = 4
UNSIGNED = "unsigned" in sys.argv[4:]
OPTIONS = dict(word.split("=", 1) for word in sys.argv[4:] if "=" in word)


def key_id():
    return os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]


def in_threads(n, call, items):
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(call, items))


async def in_tasks(n, call, items):
    slots = asyncio.Semaphore(n)

    async def one(item):
        async with slots:
            return await call(item)

    return await asyncio.gather(*[one(item) for item in items])


class Penstock:
    """What the side in C does (ours.c), from Python."""

    def __init__(self, endpoint, bucket):
        import penstock

        self.store = penstock.Store(f"s3://{bucket}", {"endpoint": endpoint, **OPTIONS})

    def get(self, item):
        return self.store.get(item.key)

    def many(self, items, n):
        found = self.store.get_many([i.key for i in items], max_in_flight=n)
        return [view for _, view in found]

    async def fetch(self, item):
        if item.offset is None:
            return await self.store.get_async(item.key)
        return await self.store.get_range_async(item.key, item.offset, item.size)

    def put(self, item, data):
        whole = memoryview(data)
        with self.store.open_writer(item.key) as writer:
            for at in range(0, len(data), PART_BYTES):
                writer.write_owned_bytes(whole[at:at + PART_BYTES])

    def puts(self, items, n, data):
        self.store.put_many([(i.key, data) for i in items], max_in_flight=n)


class Gather(Penstock):
    """All coroutines at once; how many are in flight is the library's business."""

    def many(self, items, n):
        async def every():
            return await asyncio.gather(*[self.store.get_async(i.key) for i in items])

        return asyncio.run(every())


class Tasks(Penstock):
    """As for peers that must be bounded from outside."""

    def many(self, items, n):
        return asyncio.run(in_tasks(n, self.fetch, items))


class ManyAsync(Penstock):
    def many(self, items, n):
        async def every():
            return await self.store.get_many_async([i.key for i in items], max_in_flight=n)

        return [view for _, view in asyncio.run(every())]


class PutBytes(Penstock):
    def put(self, item, data):
        self.store.put_bytes(item.key, data)


class S3dlio:
    def __init__(self, endpoint, bucket):
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        import s3dlio

        self.module, self.bucket = s3dlio, bucket

    def uri(self, key):
        return f"s3://{self.bucket}/{key}"

    def get(self, item):
        return self.module.get(self.uri(item.key))

    def many(self, items, n):
        if items[0].offset is not None:
            return None
        found = self.module.get_many([self.uri(i.key) for i in items], max_in_flight=n)
        return [view for _, view in found]

    async def fetch(self, item):
        if item.offset is None:
            return await self.module.get_async(self.uri(item.key))
        return await self.module.get_range_async(self.uri(item.key), item.offset, item.size)

    def put(self, item, data):
        writer = self.module.MultipartUploadWriter(
            self.bucket, item.key, part_size=PART_BYTES, max_in_flight=PARTS_IN_FLIGHT)
        for at in range(0, len(data), 1 << 20):
            writer.write(data[at:at + (1 << 20)])
        writer.close()

    def puts(self, items, n, data):
        self.module.put_many([(self.uri(i.key), data) for i in items], max_in_flight=n)


class Obstore:
    def __init__(self, endpoint, bucket):
        import obstore
        from obstore.store import S3Store

        ident, secret = key_id()
        self.module = obstore
        self.store = S3Store(bucket, endpoint=endpoint, access_key_id=ident,
                             secret_access_key=secret, region="us-east-1",
                             unsigned_payload=UNSIGNED,
                             client_options={"allow_http": True, "timeout": "600s"})

    def get(self, item):
        return self.store.get(item.key).bytes()

    async def fetch(self, item):
        if item.offset is None:
            return await (await self.store.get_async(item.key)).bytes_async()
        return await self.store.get_range_async(item.key, start=item.offset, length=item.size)

    def many(self, items, n):
        return asyncio.run(in_tasks(n, self.fetch, items))

    def put(self, item, data):
        with self.module.open_writer(self.store, item.key, buffer_size=PART_BYTES,
                                     max_concurrency=PARTS_IN_FLIGHT) as writer:
            for at in range(0, len(data), 1 << 20):
                writer.write(data[at:at + (1 << 20)])

    def puts(self, items, n, data):
        asyncio.run(in_tasks(n, lambda i: self.store.put_async(i.key, data), items))


class Torch:
    def __init__(self, endpoint, bucket):
        from s3torchconnectorclient._mountpoint_s3_client import MountpointS3Client

        self.bucket = bucket
        self.client = MountpointS3Client("us-east-1", "race", endpoint=endpoint,
                                         force_path_style=True, part_size=PART_BYTES)

    def get(self, item):
        return b"".join(self.client.get_object(self.bucket, item.key))

    def one(self, item):
        if item.offset is None:
            return self.get(item)
        return b"".join(self.client.get_object(self.bucket, item.key, start=item.offset,
                                               end=item.offset + item.size))

    def many(self, items, n):
        return in_threads(n, self.one, items)

    def put(self, item, data):
        stream = self.client.put_object(self.bucket, item.key)
        for at in range(0, len(data), 1 << 20):
            stream.write(data[at:at + (1 << 20)])
        stream.close()

    def puts(self, items, n, data):
        in_threads(n, lambda i: self.put(i, data), items)


class Boto3:
    def __init__(self, endpoint, bucket):
        import boto3
        from boto3.s3.transfer import TransferConfig
        from botocore.config import Config

        self.bucket = bucket
        self.client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1",
            config=Config(max_pool_connections=256, s3={"addressing_style": "path"}))
        self.transfer = TransferConfig(multipart_chunksize=PART_BYTES,
                                       max_concurrency=PARTS_IN_FLIGHT)

    def get(self, item):
        import io

        target = io.BytesIO()
        self.client.download_fileobj(self.bucket, item.key, target, Config=self.transfer)
        return target.getbuffer()

    def one(self, item):
        extra = {}
        if item.offset is not None:
            extra["Range"] = f"bytes={item.offset}-{item.offset + item.size - 1}"
        return self.client.get_object(Bucket=self.bucket, Key=item.key, **extra)["Body"].read()

    def many(self, items, n):
        return in_threads(n, self.one, items)

    def put(self, item, data):
        import io

        self.client.upload_fileobj(io.BytesIO(data), self.bucket, item.key, Config=self.transfer)

    def puts(self, items, n, data):
        in_threads(n, lambda i: self.client.put_object(Bucket=self.bucket, Key=i.key, Body=data),
                   items)


class Opendal:
    def __init__(self, endpoint, bucket):
        import opendal

        ident, secret = key_id()
        settings = {"bucket": bucket, "endpoint": endpoint, "region": "us-east-1",
                    "access_key_id": ident, "secret_access_key": secret}
        self.operator = opendal.Operator("s3", **settings)
        self.tasks = opendal.AsyncOperator("s3", **settings)

    def get(self, item):
        return self.operator.read(item.key)

    async def fetch(self, item):
        if item.offset is None:
            return await self.tasks.read(item.key)
        return await self.tasks.read(item.key, offset=item.offset, size=item.size)

    def many(self, items, n):
        return asyncio.run(in_tasks(n, self.fetch, items))

    def put(self, item, data):
        self.operator.write(item.key, data, chunk=PART_BYTES, concurrent=PARTS_IN_FLIGHT)

    def puts(self, items, n, data):
        asyncio.run(in_tasks(n, lambda i: self.tasks.write(i.key, data), items))


class Tensorstore:
    def __init__(self, endpoint, bucket):
        import tensorstore

        self.module = tensorstore
        self.store = tensorstore.KvStore.open(
            {"driver": "s3", "bucket": bucket, "endpoint": endpoint, "aws_region": "us-east-1"}
        ).result()

    def get(self, item):
        return self.store.read(item.key).result().value

    async def fetch(self, item):
        if item.offset is None:
            return (await self.store.read(item.key)).value
        span = self.module.KvStore.ByteRange if hasattr(self.module.KvStore, "ByteRange") else slice
        found = await self.store.read(item.key, byte_range=span(item.offset,
                                                                item.offset + item.size))
        return found.value

    def many(self, items, n):
        return asyncio.run(in_tasks(n, self.fetch, items))

    def put(self, item, data):
        self.store.write(item.key, data).result()

    def puts(self, items, n, data):
        async def one(item):
            await self.store.write(item.key, data)

        asyncio.run(in_tasks(n, one, items))


SIDES = {PYTHON: Penstock, GATHER: Gather, TASKS: Tasks, MANY_ASYNC: ManyAsync, PUT_BYTES: PutBytes,
         "s3dlio": S3dlio, "obstore": Obstore, "s3torchconnector": Torch, "boto3": Boto3,
         "opendal": Opendal, "tensorstore": Tensorstore}


class Item:
    def __init__(self, line):
        self.key, offset, size = line.split()
        self.offset, self.size = None if offset == "-" else int(offset), int(size)


def latencies(peer, items, n):
    """Each object with its own clock, as its caller sees it."""
    took = []
    if hasattr(peer, "fetch"):
        async def timed(item):
            began = time.perf_counter()
            result = await peer.fetch(item)
            took.append(time.perf_counter() - began)
            return result

        return asyncio.run(in_tasks(n, timed, items)), took

    def timed_call(item):
        began = time.perf_counter()
        result = peer.one(item)
        took.append(time.perf_counter() - began)
        return result

    return in_threads(n, timed_call, items), took


def status_bytes(name):
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def length(result):
    return len(result) if isinstance(result, bytes) else memoryview(result).nbytes


def work(peer, line):
    verb, what, number = line.split()
    kept, took = None, []
    if verb in ("get", "put"):
        items = [Item(f"{what} - {number}")]
    else:
        with open(what, encoding="utf-8") as file:
            items = [Item(text) for text in file.read().splitlines()]
    total = sum(item.size for item in items)
    data = os.urandom(items[0].size) if verb.startswith("put") else b""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    held, cpu, began = status_bytes("VmRSS:"), cpu_s(), time.perf_counter()
    if verb == "get":
        kept = [peer.get(items[0])]
    elif verb == "many":
        kept = peer.many(items, int(number))
    elif verb == "lat":
        kept, took = latencies(peer, items, int(number))
    elif verb == "put":
        peer.put(items[0], data)
    else:
        peer.puts(items, int(number), data)
    seconds, cpu = time.perf_counter() - began, cpu_s() - cpu
    grown = max(0, status_bytes("VmHWM:") - held)
    if verb in ("get", "many", "lat"):
        if kept is None:
            return None, "NONE"
        n_bytes = sum(length(result) for result in kept)
        if n_bytes != total:
            return kept, f"ERROR {n_bytes} bytes came instead of {total}"
    took.sort()
    points = [took[int((len(took) - 1) * p)] * 1e6 if took else 0 for p in (0.5, 0.99, 0.999)]
    return kept, f"OK {total} {seconds:.6f} {cpu:.6f} {grown} " + " ".join(
        f"{p:.0f}" for p in points)


def main():
    peer = SIDES[sys.argv[1]](sys.argv[2], sys.argv[3])
    print("ready", flush=True)
    kept = None
    for line in sys.stdin:
        kept = None
        if line.startswith("drop"):
            print("ready", flush=True)
            continue
        try:
            kept, answer = work(peer, line)
        except Exception as error:  # one peer's failure is a row, not the end of the race
            answer = "ERROR " + " ".join(str(error).split())[:200]
        print(answer, flush=True)
    del kept


main()
