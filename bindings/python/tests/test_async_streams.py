"""Readers and writers of coroutines: what is published, and what a cancellation leaves."""
import asyncio
import gc
import os
import time
import unittest

import penstock
from streams import BUCKET, MIB, WithFiles, WithServer, pattern, wait_until

DATA = pattern(3 * MIB + 5)
SOON_S = 3.0  # half a second, on a machine that has much else to do


class Reading(WithFiles, unittest.IsolatedAsyncioTestCase):
    async def test_reads_seeks_and_tells(self):
        async with penstock.open_async(self.make("a", DATA)) as reader:
            self.assertIsInstance(reader, penstock.AsyncReader)
            self.assertEqual((reader.name, reader.mode), (self.uri("a"), "rb"))
            self.assertEqual(await reader.read(10), DATA[:10])
            self.assertEqual(reader.tell(), 10)
            self.assertEqual(await reader.seek(-5, os.SEEK_END), len(DATA) - 5)
            self.assertEqual(await reader.read(), DATA[-5:])
            self.assertEqual(await reader.size(), len(DATA))
            await reader.seek(100)
            buffer = bytearray(50)
            self.assertEqual(await reader.readinto(buffer), 50)
            self.assertEqual(buffer, DATA[100:150])
            self.assertFalse(reader.closed)
        self.assertTrue(reader.closed)
        await reader.close()
        with self.assertRaises(ValueError):
            await reader.read(1)

    async def test_chunks(self):
        chunks = []
        async with penstock.open_async(self.make("a", DATA), "rb") as reader:
            async for chunk in reader:
                chunks.append(chunk)
        self.assertEqual([len(chunk) for chunk in chunks], [MIB, MIB, MIB, 5])
        self.assertEqual(b"".join(chunks), DATA)

    async def test_one_that_is_not_there(self):
        reader = penstock.open_async(self.uri("a"))
        with self.assertRaises(FileNotFoundError):
            async for _ in reader:
                pass


class Writing(WithFiles, unittest.IsolatedAsyncioTestCase):
    def left(self):
        return os.listdir(self.directory)

    async def test_the_end_of_the_block_publishes(self):
        async with penstock.open_async(self.uri("a"), "wb") as writer:
            self.assertIsInstance(writer, penstock.AsyncWriter)
            self.assertEqual(await writer.write(DATA), len(DATA))
            self.assertEqual(await writer.write(bytearray(b"end")), 3)
            self.assertEqual(writer.tell(), len(DATA) + 3)
            self.assertFalse(penstock.exists(self.uri("a")) or writer.closed)
        self.assertTrue(writer.closed)
        self.assertEqual(self.content("a"), DATA + b"end")
        self.assertEqual(writer.etag, penstock.stat(self.uri("a"))["etag"])
        await writer.close()

    async def test_an_exception_drops(self):
        with self.assertRaises(KeyError):
            async with penstock.open_async(self.uri("a"), "wb") as writer:
                await writer.write(DATA)
                raise KeyError
        self.assertTrue(writer.closed)
        self.assertEqual(self.left(), [])

    async def test_discard_and_the_last_reference_gone_drop(self):
        async with penstock.open_async(self.uri("a"), "wb") as writer:
            await writer.write(DATA)
            await writer.discard()
            await writer.discard()
        self.assertTrue(writer.closed)
        writer = penstock.open_async(self.uri("b"), "wb")
        await writer.write(DATA)
        del writer
        gc.collect()
        self.assertTrue(wait_until(lambda: not self.left()))  # the executor may have the last one

    async def test_a_generator_that_is_left_drops(self):
        async def write():
            async with penstock.open_async(self.uri("a"), "wb") as writer:
                while True:
                    yield await writer.write(DATA)

        steps = write()
        await anext(steps)
        await steps.aclose()
        coroutine = self.stuck()
        coroutine.send(None)
        coroutine.close()
        self.assertEqual(self.left(), [])

    async def stuck(self):
        async with penstock.open_async(self.uri("a"), "wb"):
            await asyncio.get_running_loop().create_future()

    async def test_must_not_exist_yet(self):
        for data in (b"first", b"second"):
            writer = penstock.open_async(self.uri("a"), "xb")
            await writer.write(data)
            if data == b"first":
                await writer.close()
        with self.assertRaises(FileExistsError):
            await writer.close()
        self.assertTrue(writer.closed)
        self.assertEqual(self.content("a"), b"first")

    async def test_wrong_calls(self):
        for error, mode in ((ValueError, "r"), (ValueError, "w"), (ValueError, "ab"),
                            (ValueError, "rb+"), (ValueError, ""), (TypeError, 1)):
            with self.subTest(mode), self.assertRaises(error):
                penstock.open_async(self.uri("a"), mode)
        with self.assertRaises(TypeError):
            penstock.AsyncReader(penstock.open(self.make("a", b"")))
        with self.assertRaises(TypeError):
            penstock.AsyncWriter(b"")
        with self.assertRaises(TypeError):
            async with penstock.open_async(self.uri("b"), "wb") as writer:
                await writer.write("text")
        self.assertEqual(self.left(), ["a"])


class Cancelled(WithServer, unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        asyncio.get_running_loop().slow_callback_duration = 60

    def stall(self, on):
        self.server.set_faults({"on": on, "times": 0,
                                "fault": {"stall": {"at": "before_head"}, "apply": False}})

    async def assert_soon_gone(self, task):
        began = time.monotonic()
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        self.assertLess(time.monotonic() - began, SOON_S)
        self.assertTrue(wait_until(lambda: not self.server.uploads()))
        self.assertEqual(self.server.objects(), [])

    async def until(self, condition):
        while not condition():
            await asyncio.sleep(0.01)

    async def test_within_a_write_nothing_is_left(self):
        self.stall("upload_part")

        async def write():
            async with penstock.open_async(self.s3("a"), "wb", part_bytes=5 * MIB) as writer:
                while True:
                    await writer.write(bytes(5 * MIB))

        task = asyncio.create_task(write())
        await self.until(self.server.uploads)
        await asyncio.sleep(0.3)
        await self.assert_soon_gone(task)

    async def test_within_a_write_without_a_block_either(self):
        self.stall("upload_part")
        writer = penstock.open_async(self.s3("a"), "wb", part_bytes=5 * MIB)

        async def write():
            while True:
                await writer.write(bytes(5 * MIB))

        task = asyncio.create_task(write())
        await self.until(self.server.uploads)
        await asyncio.sleep(0.3)
        await self.assert_soon_gone(task)
        self.assertTrue(writer.closed)
        for _ in range(2):
            with self.assertRaisesRegex(ValueError, "cancelled"):
                await writer.close()

    async def test_within_the_commit_nothing_is_left(self):
        self.stall("upload_commit")

        async def write():
            async with penstock.open_async(self.s3("a"), "wb", part_bytes=5 * MIB) as writer:
                for _ in range(3):
                    await writer.write(bytes(5 * MIB))

        task = asyncio.create_task(write())
        await self.until(lambda: len(self.requests("POST")) == 2)
        await self.assert_soon_gone(task)

    async def test_again_and_again(self):
        """As a scope of anyio cancels: at every await, until the task is out."""
        self.stall("upload_part")
        writer = penstock.open_async(self.s3("a"), "wb", part_bytes=5 * MIB)

        async def write():
            async with writer:
                while True:
                    await writer.write(bytes(5 * MIB))

        task = asyncio.create_task(write())
        await self.until(self.server.uploads)
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        self.assertTrue(task.cancelled() and writer.closed)
        self.assertTrue(wait_until(lambda: not self.server.uploads()))

    async def test_elsewhere_in_the_block_nothing_is_left(self):
        async def write():
            async with penstock.open_async(self.s3("a"), "wb", part_bytes=5 * MIB) as writer:
                for _ in range(3):
                    await writer.write(bytes(5 * MIB))
                await asyncio.sleep(60)

        task = asyncio.create_task(write())
        await self.until(self.server.uploads)
        await self.assert_soon_gone(task)

    async def test_a_read_ends_and_can_be_made_again(self):
        self.server.put(f"{BUCKET}/a", DATA)
        for readahead in (True, False):
            reader = penstock.open_async(self.s3("a"), readahead=readahead)
            self.stall("get")
            buffer = bytearray(MIB)
            for read in (lambda: reader.readinto(buffer), reader.read):
                began = time.monotonic()
                with self.assertRaises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await read()
                self.assertLess(time.monotonic() - began, 0.3 + SOON_S)
            buffer.append(0)  # nobody holds it any more
            self.server.set_faults()
            self.assertEqual(await reader.read(), DATA)
            await reader.close()

    async def test_side_by_side(self):
        async def write(number):
            async with penstock.open_async(self.s3(f"{number}"), "wb", part_bytes=5 * MIB) as writer:
                for _ in range(2):
                    await writer.write(pattern(5 * MIB, number))

        await asyncio.gather(*(write(number) for number in range(4)))
        for number in range(4):
            async with penstock.open_async(self.s3(f"{number}")) as reader:
                self.assertEqual(await reader.read(), pattern(5 * MIB, number) * 2)


if __name__ == "__main__":
    unittest.main()
