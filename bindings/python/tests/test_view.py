"""BytesView: what it shows, how long it lives, and how it is exported."""
import array
import copy
import ctypes
import gc
import pickle
import threading
import unittest

import penstock
from penstock import BytesView

DATA = bytes(range(256)) * 16


class Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32),
                ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
                ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
                ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64)]


class Legacy(ctypes.Structure):
    _fields_ = [("tensor", Tensor), ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class Versioned(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32),
                ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p),
                ("flags", ctypes.c_uint64), ("tensor", Tensor)]


READ_ONLY, IS_COPIED = 1, 2  # flags of DLPack
WRITABLE = 1  # PyBUF_WRITABLE

capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
capsule_pointer.restype = ctypes.c_void_p
capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
capsule_rename = ctypes.pythonapi.PyCapsule_SetName
capsule_rename.argtypes = [ctypes.py_object, ctypes.c_char_p]
get_buffer = ctypes.pythonapi.PyObject_GetBuffer
release_buffer = ctypes.pythonapi.PyBuffer_Release


class RawBuffer(ctypes.Structure):
    _fields_ = [("buf", ctypes.c_void_p), ("obj", ctypes.py_object), ("len", ctypes.c_ssize_t),
                ("itemsize", ctypes.c_ssize_t), ("readonly", ctypes.c_int), ("ndim", ctypes.c_int),
                ("format", ctypes.c_char_p), ("shape", ctypes.c_void_p),
                ("strides", ctypes.c_void_p), ("suboffsets", ctypes.c_void_p),
                ("internal", ctypes.c_void_p)]


def address(exporter):
    """Where the bytes of any object with a buffer lie."""
    raw = RawBuffer()
    get_buffer(ctypes.py_object(exporter), ctypes.byref(raw), 0)
    try:
        return raw.buf
    finally:
        release_buffer(ctypes.byref(raw))


def handed_out():
    gc.collect()
    return penstock.stats()["handed_out_bytes"]


class Bytes(unittest.TestCase):
    def setUp(self):
        self.view = BytesView(DATA)

    def test_length_and_bytes(self):
        self.assertEqual(len(self.view), len(DATA))
        self.assertEqual(self.view.nbytes, len(DATA))
        self.assertEqual(bytes(self.view), DATA)
        self.assertEqual(self.view.to_bytes(), DATA)
        self.assertIs(type(bytes(self.view)), bytes)

    def test_buffer_is_read_only_bytes_in_one_dimension(self):
        mv = memoryview(self.view)
        self.assertTrue(mv.readonly)
        self.assertEqual((mv.format, mv.itemsize, mv.ndim, mv.shape), ("B", 1, 1, (len(DATA),)))
        self.assertTrue(mv.c_contiguous)
        with self.assertRaises(TypeError):
            mv[0] = 1
        with self.assertRaises(BufferError):
            get_buffer(ctypes.py_object(self.view), ctypes.byref(RawBuffer()), WRITABLE)

    def test_memoryview_method_shows_the_same_memory(self):
        mv = self.view.memoryview()
        self.assertEqual(address(mv), address(self.view))
        self.assertEqual(mv, DATA)

    def test_whole_views_are_aligned(self):
        for n in (1, 63, 64, 4096, 1 << 20):
            self.assertEqual(address(BytesView(bytes(n))) % 64, 0)

    def test_items(self):
        self.assertEqual(self.view[0], DATA[0])
        self.assertEqual(self.view[-1], DATA[-1])
        self.assertEqual(list(self.view), list(DATA))
        self.assertIn(255, self.view)
        for i in (len(DATA), -len(DATA) - 1, 1 << 70):
            with self.assertRaises(IndexError):
                self.view[i]
        for index in ("0", 0.0, None, (0,)):
            with self.assertRaises(TypeError):
                self.view[index]

    def test_contains_what_bytes_would(self):
        data = b"one\ntwo\0"
        view = BytesView(data)
        for part in (b"two", b"one\n", b"", data, data + b"x", b"tow", bytearray(b"w"), view[2:5],
                     memoryview(b"\0"), ord("w"), 255, True):
            with self.subTest(part=part):
                self.assertIs(part in view, part in data)
        self.assertNotIn(b"x", BytesView(b""))
        self.assertIn(b"", BytesView(b""))
        for kind, part in ((TypeError, "two"), (TypeError, None), (ValueError, 256),
                           (ValueError, -1), (ValueError, 1 << 70)):
            with self.subTest(part=part), self.assertRaises(kind):
                part in view
        view.release()
        with self.assertRaises(ValueError):
            b"one" in view

    def test_slices_show_the_same_memory(self):
        at = address(self.view)
        for piece, start in ((self.view[10:20], 10), (self.view[-5:], len(DATA) - 5),
                             (self.view[10:20][3:], 13)):
            self.assertIs(type(piece), BytesView)
            self.assertEqual(address(piece), at + start)
            self.assertEqual(piece, DATA[start:start + len(piece)])

    def test_slices_are_cut_as_those_of_bytes(self):
        for a in (None, 0, 1, 5, 4095, 4096, 9999, -1, -4096, -9999):
            for b in (None, 0, 1, 5, 4095, 4096, 9999, -1, -4096, -9999):
                self.assertEqual(bytes(self.view[a:b]), DATA[a:b])

    def test_slices_with_another_step_are_refused(self):
        for step in (2, -1):
            with self.assertRaisesRegex(ValueError, "memoryview"):
                self.view[::step]
        with self.assertRaises(ValueError):
            self.view[::0]

    def test_repr_tells_the_size(self):
        self.assertEqual(repr(BytesView(b"abc")), "<penstock.BytesView of 3 bytes>")

    def test_empty(self):
        for empty in (BytesView(), BytesView(b""), self.view[5:5]):
            self.assertEqual((len(empty), bytes(empty)), (0, b""))
            self.assertEqual(empty, b"")
            self.assertFalse(empty)
            self.assertEqual(memoryview(empty).nbytes, 0)
            self.assertEqual(bytes(empty[0:10]), b"")
            self.assertEqual(hash(empty), hash(b""))
            with self.assertRaises(IndexError):
                empty[0]

    def test_made_from_anything_contiguous_by_a_copy(self):
        numbers = array.array("i", [1, 2, 3])
        view = BytesView(numbers)
        numbers[0] = 9
        self.assertEqual(bytes(view), array.array("i", [1, 2, 3]).tobytes())
        with self.assertRaisesRegex(TypeError, "not str"):
            BytesView("text")
        with self.assertRaises(TypeError):
            BytesView(7)
        with self.assertRaisesRegex(ValueError, "contiguous"):
            BytesView(memoryview(DATA)[::2])
        with self.assertRaises(TypeError):
            BytesView(data=b"")

    def test_no_subclass_and_no_attribute(self):
        with self.assertRaises(TypeError):
            type("Sub", (BytesView,), {})
        with self.assertRaises(AttributeError):
            self.view.anything = 1
        with self.assertRaises(TypeError):
            BytesView.anything = 1

    def test_large_ones_are_copied_and_compared_without_the_gil(self):
        data = bytes(range(256)) * (1 << 15)  # 8 MiB
        view = BytesView(data)
        results = []

        def work():
            for _ in range(8):
                results.append(bytes(view) == data and view == data and view[1:] != data[:-1])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(results, [True] * 32)


class Comparison(unittest.TestCase):
    def test_equal_to_bytes_of_every_kind(self):
        view = BytesView(b"abc")
        for other in (b"abc", bytearray(b"abc"), memoryview(b"abc"), BytesView(b"abc")):
            self.assertTrue(view == other)
            self.assertTrue(other == view)
            self.assertFalse(view != other)
        for other in (b"abd", b"ab", b"abcd", "abc", None, 7, [97, 98, 99]):
            self.assertFalse(view == other)
            self.assertTrue(view != other)

    def test_order_is_that_of_bytes(self):
        words = [b"", b"a", b"a\0", b"ab", b"b", b"\xff"]
        for a in words:
            for b in words:
                for left, right in ((BytesView(a), b), (a, BytesView(b)),
                                    (BytesView(a), BytesView(b))):
                    self.assertEqual((left < right, left <= right, left > right, left >= right),
                                     (a < b, a <= b, a > b, a >= b))
        with self.assertRaises(TypeError):
            BytesView(b"a") < "a"

    def test_hash_is_that_of_bytes(self):
        for data in (b"", b"abc", DATA):
            self.assertEqual(hash(BytesView(data)), hash(data))
        self.assertEqual({b"abc": 1}[BytesView(b"abc")], 1)
        self.assertEqual(len({BytesView(b"x"), BytesView(b"x"), b"x"}), 1)


class Life(unittest.TestCase):
    """The memory lives as long as anything shows it, and not longer."""

    def test_slice_outlives_its_view(self):
        before = handed_out()
        view = BytesView(DATA)
        piece = view[100:200]
        del view
        gc.collect()
        self.assertEqual(bytes(piece), DATA[100:200])
        self.assertGreater(handed_out(), before)
        del piece
        self.assertEqual(handed_out(), before)

    def test_memoryview_outlives_its_view(self):
        before = handed_out()
        mv = BytesView(DATA).memoryview()
        self.assertEqual(mv, DATA)
        mv.release()
        self.assertEqual(handed_out(), before)

    def test_released_view_refuses_everything(self):
        before = handed_out()
        view = BytesView(DATA)
        view.release()
        view.release()
        self.assertEqual(handed_out(), before)
        for use in (len, bytes, memoryview, hash, list, lambda v: v[0], lambda v: v[-1],
                    lambda v: v[1:], lambda v: v == b"", lambda v: v.nbytes, BytesView,
                    lambda v: v.to_bytes(), lambda v: v.memoryview(), lambda v: v.__enter__(),
                    lambda v: v.__dlpack__(max_version=(1, 0)), pickle.dumps):
            with self.assertRaisesRegex(ValueError, "released"):
                use(view)
        self.assertEqual(repr(view), "<penstock.BytesView, released>")

    def test_with_gives_the_memory_back(self):
        before = handed_out()
        with BytesView(DATA) as view:
            self.assertEqual(view, DATA)
            self.assertGreater(handed_out(), before)
        self.assertEqual(handed_out(), before)
        with self.assertRaises(ValueError):
            with view:
                pass

    def test_with_leaves_the_memory_to_what_still_shows_it(self):
        before = handed_out()
        with BytesView(DATA) as view:
            mv = memoryview(view)
            piece = view[5:10]
        self.assertEqual(mv, DATA)
        self.assertEqual(piece, DATA[5:10])
        with self.assertRaises(ValueError):
            len(view)
        mv.release()
        self.assertEqual(piece, DATA[5:10])
        del piece
        self.assertEqual(handed_out(), before)

    def test_dropped_in_another_thread(self):
        before = handed_out()
        views = [BytesView(bytes(1 << 20)) for _ in range(8)]
        thread = threading.Thread(target=views.clear)
        thread.start()
        thread.join()
        self.assertEqual(handed_out(), before)


class Pickle(unittest.TestCase):
    def test_every_protocol_keeps_the_bytes(self):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            for data in (b"", DATA):
                again = pickle.loads(pickle.dumps(BytesView(data), protocol))
                self.assertIs(type(again), BytesView)
                self.assertEqual(again, data)

    def test_out_of_band_the_stream_has_no_bytes(self):
        buffers = []
        view = BytesView(DATA)
        stream = pickle.dumps(view, 5, buffer_callback=buffers.append)
        self.assertLess(len(stream), 200)
        self.assertEqual(address(buffers[0]), address(view))
        self.assertEqual(pickle.loads(stream, buffers=buffers), DATA)

    def test_copy(self):
        view = BytesView(DATA)
        self.assertEqual(copy.copy(view), view)
        self.assertEqual(copy.deepcopy(view), view)


class DLPack(unittest.TestCase):
    def versioned(self, view, **arguments):
        capsule = view.__dlpack__(max_version=(1, 0), **arguments)
        return capsule, Versioned.from_address(capsule_pointer(capsule, b"dltensor_versioned"))

    def test_device(self):
        self.assertEqual(BytesView(DATA).__dlpack_device__(), (1, 0))

    def test_versioned_export_shows_the_same_memory_read_only(self):
        view = BytesView(DATA)
        for arguments in ({}, {"copy": False}, {"dl_device": (1, 0)}, {"stream": None}):
            capsule, managed = self.versioned(view, **arguments)
            tensor = managed.tensor
            self.assertEqual((managed.major, managed.minor, managed.flags), (1, 0, READ_ONLY))
            self.assertEqual(tensor.data, address(view))
            self.assertEqual((tensor.device_type, tensor.device_id, tensor.ndim), (1, 0, 1))
            self.assertEqual((tensor.code, tensor.bits, tensor.lanes), (1, 8, 1))
            self.assertEqual((tensor.shape[0], tensor.strides[0]), (len(DATA), 1))
            self.assertEqual(tensor.byte_offset, 0)
            del capsule

    def test_later_consumers_get_1_0(self):
        capsule = BytesView(DATA).__dlpack__(max_version=(2, 3))
        managed = Versioned.from_address(capsule_pointer(capsule, b"dltensor_versioned"))
        self.assertEqual((managed.major, managed.minor), (1, 0))

    def test_legacy_consumer_is_refused_but_for_a_copy(self):
        view = BytesView(DATA)
        for arguments in ({}, {"max_version": None}, {"max_version": (0, 8)}, {"copy": False}):
            with self.assertRaisesRegex(BufferError, "copy=True"):
                view.__dlpack__(**arguments)
        capsule = view.__dlpack__(copy=True)
        tensor = Legacy.from_address(capsule_pointer(capsule, b"dltensor")).tensor
        self.assertNotEqual(tensor.data, address(view))
        self.assertEqual(ctypes.string_at(tensor.data, tensor.shape[0]), DATA)

    def test_copy_is_writable_and_aligned(self):
        piece = BytesView(DATA)[1:]
        capsule, managed = self.versioned(piece, copy=True)
        self.assertEqual(managed.flags, IS_COPIED)
        self.assertEqual(managed.tensor.data % 64, 0)
        ctypes.memset(managed.tensor.data, 0, 10)
        self.assertEqual(piece, DATA[1:])
        del capsule

    def test_unaligned_view_is_refused_but_for_a_copy(self):
        view = BytesView(DATA)
        self.versioned(view[64:])
        for start in (1, 8, 32):
            with self.assertRaisesRegex(BufferError, "copy=True"):
                self.versioned(view[start:])
            capsule, managed = self.versioned(view[start:], copy=True)
            self.assertEqual(ctypes.string_at(managed.tensor.data, 10), DATA[start:start + 10])

    def test_other_devices_and_streams_are_refused(self):
        view = BytesView(DATA)
        for arguments in ({"dl_device": (2, 0)}, {"dl_device": (1, 1)}, {"stream": 1}):
            with self.assertRaises(BufferError):
                self.versioned(view, **arguments)
        for arguments in ({"dl_device": 1}, {"dl_device": ("cpu", 0)}):
            with self.assertRaises(TypeError):
                self.versioned(view, **arguments)
        with self.assertRaises(TypeError):
            view.__dlpack__(max_version=1)
        with self.assertRaises(TypeError):
            view.__dlpack__(None)

    def test_exporter_for_jax_takes_the_legacy_protocol_too(self):
        before = handed_out()
        view = BytesView(DATA)
        exporter = view.for_jax()
        at = address(view)
        self.assertEqual(exporter.__dlpack_device__(), (1, 0))
        del view
        capsule = exporter.__dlpack__(stream=None)
        tensor = Legacy.from_address(capsule_pointer(capsule, b"dltensor")).tensor
        self.assertEqual((tensor.data, tensor.shape[0]), (at, len(DATA)))
        capsule = exporter.__dlpack__(max_version=(1, 0))
        managed = Versioned.from_address(capsule_pointer(capsule, b"dltensor_versioned"))
        self.assertEqual((managed.flags, managed.tensor.data), (READ_ONLY, at))
        for name in ("for_jax", "for_tensorflow"):
            with self.assertRaises(BufferError):
                getattr(BytesView(DATA)[1:], name)().__dlpack__(stream=None)
        with self.assertRaises(TypeError):
            type(exporter)()
        del capsule, exporter
        self.assertEqual(handed_out(), before)

    def test_capsule_for_tensorflow_shows_the_same_memory(self):
        before = handed_out()
        view = BytesView(DATA)
        capsule = view.for_tensorflow()
        tensor = Legacy.from_address(capsule_pointer(capsule, b"dltensor")).tensor
        self.assertEqual((tensor.data, tensor.shape[0]), (address(view), len(DATA)))
        del capsule, view
        self.assertEqual(handed_out(), before)

    def test_empty(self):
        capsule, managed = self.versioned(BytesView())
        self.assertEqual(managed.tensor.shape[0], 0)

    def test_capsule_that_nobody_took_lets_go(self):
        before = handed_out()
        for copied in (False, True):
            capsule, managed = self.versioned(BytesView(DATA), copy=copied)
            self.assertGreater(handed_out(), before)
            self.assertEqual(ctypes.string_at(managed.tensor.data, len(DATA)), DATA)
            del capsule, managed
            self.assertEqual(handed_out(), before)
        capsule = BytesView(DATA).__dlpack__(copy=True)
        del capsule
        self.assertEqual(handed_out(), before)

    def test_tensor_that_was_taken_lives_until_its_deleter_runs_on_any_thread(self):
        before = handed_out()
        used = b"used_dltensor_versioned"
        capsule, managed = self.versioned(BytesView(DATA))
        capsule_rename(capsule, used)
        del capsule
        self.assertEqual(ctypes.string_at(managed.tensor.data, len(DATA)), DATA)
        # A CDLL function runs without the GIL, as a framework's own thread would.
        deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(managed.deleter)
        thread = threading.Thread(target=deleter, args=(ctypes.addressof(managed),))
        thread.start()
        thread.join()
        self.assertEqual(handed_out(), before)


if __name__ == "__main__":
    unittest.main()
