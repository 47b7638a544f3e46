#!/usr/bin/env python3
"""peers.py s3dlio|obstore: does what penstock_bench asks for, line by line, and measures itself.

    get PATH       one object, whole
    direct PATH    the same past the page cache, where the peer can
    many FILE      the objects whose paths stand in FILE, 64 at a time

Answers with "BYTES SECONDS CPU_SECONDS". The result is kept until the next line: to give it back is not
measured, as with the other sides.
"""
import asyncio
import resource
import sys
import time

IN_FLIGHT = 64


class S3dlio:
    def __init__(self):
        import s3dlio

        self.module = s3dlio

    def get(self, path):
        return [self.module.get("file://" + path)]

    def direct(self, path):
        return [self.module.get("direct://" + path)]

    def many(self, paths):
        uris = ["file://" + path for path in paths]
        return [view for _, view in self.module.get_many(uris, max_in_flight=IN_FLIGHT)]


class Obstore:
    def __init__(self):
        from obstore.store import LocalStore

        self.store = LocalStore("/")

    def get(self, path):
        return [self.store.get(path[1:]).bytes()]

    def many(self, paths):
        return asyncio.run(self.gather(paths))

    async def gather(self, paths):
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def fetch(path):
            async with slots:
                result = await self.store.get_async(path[1:])
                return await result.bytes_async()

        return await asyncio.gather(*[fetch(path) for path in paths])


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    peer = {"s3dlio": S3dlio, "obstore": Obstore}[sys.argv[1]]()
    print("ready", flush=True)
    kept = None
    for line in sys.stdin:
        verb, path = line.rstrip("\n").split(" ", 1)
        work = path
        if verb == "many":
            with open(path, encoding="utf-8") as file:
                work = file.read().splitlines()
        kept = None
        call = getattr(peer, verb)
        started_cpu_s, started_s = cpu_s(), time.perf_counter()
        kept = call(work)
        took_s, took_cpu_s = time.perf_counter() - started_s, cpu_s() - started_cpu_s
        n_bytes = sum(len(memoryview(result)) for result in kept)
        print(f"{n_bytes} {took_s:.6f} {took_cpu_s:.6f}", flush=True)


main()
