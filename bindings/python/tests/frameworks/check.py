"""What was read, in arrays of the frameworks, without a copy: the address of each is that of the view.

Run by the script beside this, in an environment that has them all.
"""
import ctypes
import os
import pickle
import shutil
import tempfile
import unittest
import warnings

import jax
import numpy
import tensorflow
import torch

import penstock

MIB = 1 << 20


def address(exporter):
    return numpy.frombuffer(exporter, numpy.uint8).ctypes.data


def capsule_address(capsule):
    """The first member of a DLManagedTensor is the address of its bytes."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.c_void_p.from_address(pointer(capsule, b"dltensor")).value


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.numbers = numpy.arange(MIB, dtype=numpy.float32)
        self.uri = f"file://{self.dir}/numbers"
        penstock.put_bytes(self.uri, self.numbers)
        self.view = penstock.get(self.uri)
        self.at = address(self.view)

    def handed_out(self):
        return penstock.stats()["handed_out_bytes"]


class NumPy(Case):
    def test_frombuffer(self):
        for source in (self.view, self.view.memoryview()):
            array = numpy.frombuffer(source, numpy.float32)
            self.assertEqual(array.ctypes.data, self.at)
            self.assertFalse(array.flags.writeable)
            self.assertTrue((array == self.numbers).all())

    def test_from_dlpack(self):
        array = numpy.from_dlpack(self.view)
        self.assertEqual((array.ctypes.data, array.dtype), (self.at, numpy.uint8))
        self.assertFalse(array.flags.writeable)
        self.assertTrue((array.view(numpy.float32) == self.numbers).all())
        copied = numpy.from_dlpack(self.view, copy=True)
        self.assertTrue(copied.flags.writeable)
        self.assertNotEqual(copied.ctypes.data, self.at)

    def test_from_dlpack_of_what_does_not_lie_at_64_bytes(self):
        with self.assertRaises(BufferError):
            numpy.from_dlpack(self.view[4:])
        self.assertEqual(numpy.from_dlpack(self.view[64:]).ctypes.data, self.at + 64)
        self.assertTrue((numpy.from_dlpack(self.view[4:], copy=True).view(numpy.float32)
                         == self.numbers[1:]).all())

    def test_array_outlives_view_and_lets_go(self):
        before = self.handed_out()
        array = numpy.frombuffer(penstock.get(self.uri), numpy.float32)
        other = numpy.from_dlpack(penstock.get(self.uri))
        self.assertGreaterEqual(self.handed_out(), before + 2 * self.numbers.nbytes)
        self.assertTrue((array == self.numbers).all())
        self.assertTrue((other.view(numpy.float32) == self.numbers).all())
        del array, other
        self.assertEqual(self.handed_out(), before)

    def test_get_into_an_array_writes_there(self):
        array = numpy.zeros((1024, 1024), numpy.float32)
        at = array.ctypes.data
        self.assertEqual(penstock.get_into(self.uri, array), array.nbytes)
        self.assertEqual(array.ctypes.data, at)
        self.assertTrue((array.ravel() == self.numbers).all())
        half = numpy.zeros(10, numpy.float32)
        self.assertEqual(penstock.get_into(self.uri, half, 40), 40)
        self.assertTrue((half == self.numbers[10:20]).all())

    def test_get_into_what_cannot_be_is_refused(self):
        array = numpy.zeros((8, 8), numpy.float32)
        for wrong in (array[:, ::2], array.T[1:, :3]):
            with self.assertRaises(ValueError):
                penstock.get_into(self.uri, wrong)
        array.flags.writeable = False
        with self.assertRaises((TypeError, ValueError)):
            penstock.get_into(self.uri, array)
        self.assertFalse(array.any())

    def test_put_of_an_array_that_does_not_lie_together_is_refused(self):
        with self.assertRaises(ValueError):
            penstock.put_bytes(self.uri + "2", self.numbers[::2])
        self.assertFalse(penstock.exists(self.uri + "2"))

    def test_pickle(self):
        self.assertEqual(pickle.loads(pickle.dumps(self.view, 5)), self.view)


class Torch(Case):
    def test_frombuffer(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the buffer is not writable
            tensor = torch.frombuffer(self.view, dtype=torch.float32)
        self.assertEqual(tensor.data_ptr(), self.at)
        self.assertTrue((tensor.numpy() == self.numbers).all())

    def test_from_dlpack_aliases_or_refuses(self):
        before = self.handed_out()
        try:
            tensor = torch.from_dlpack(self.view)
        except BufferError:
            return  # torch knows no read-only memory
        self.assertEqual(tensor.data_ptr(), self.at)
        del tensor
        self.assertEqual(self.handed_out(), before)

    def test_get_into_a_tensor_writes_there(self):
        tensor = torch.zeros(MIB, dtype=torch.float32)
        penstock.get_into(self.uri, tensor.numpy())
        self.assertTrue((tensor.numpy() == self.numbers).all())

    def test_put_of_a_tensor(self):
        tensor = torch.arange(100, dtype=torch.int64)
        penstock.put_bytes(self.uri, tensor.numpy())
        self.assertEqual(penstock.get(self.uri), tensor.numpy().tobytes())


class Jax(Case):
    def test_from_dlpack(self):
        before = self.handed_out()
        for arguments in ({}, {"copy": False}):
            array = jax.dlpack.from_dlpack(self.view.for_jax(), **arguments)
            self.assertEqual(array.unsafe_buffer_pointer(), self.at)
            self.assertTrue((numpy.asarray(array).view(numpy.float32) == self.numbers).all())
        del array
        self.assertEqual(self.handed_out(), before)

    def test_array_outlives_view(self):
        array = jax.dlpack.from_dlpack(penstock.get(self.uri).for_jax())
        self.assertTrue((numpy.asarray(array).view(numpy.float32) == self.numbers).all())

    def test_what_it_cannot_alias_is_a_buffer_error_and_no_copy(self):
        with self.assertRaises(BufferError):
            jax.dlpack.from_dlpack(self.view)
        with self.assertRaises(BufferError):
            jax.dlpack.from_dlpack(self.view[4:].for_jax())


class TensorFlow(Case):
    def test_from_dlpack(self):
        before = self.handed_out()
        tensor = tensorflow.experimental.dlpack.from_dlpack(self.view.for_tensorflow())
        self.assertEqual(capsule_address(tensorflow.experimental.dlpack.to_dlpack(tensor)), self.at)
        numbers = tensorflow.bitcast(tensorflow.reshape(tensor, (-1, 4)), tensorflow.float32)
        self.assertTrue((numbers.numpy() == self.numbers).all())
        del tensor, numbers
        self.assertEqual(self.handed_out(), before)

    def test_tensor_outlives_view(self):
        view = penstock.get(self.uri).for_tensorflow()
        tensor = tensorflow.experimental.dlpack.from_dlpack(view)
        del view
        self.assertTrue((tensor.numpy().view(numpy.float32) == self.numbers).all())

    def test_what_it_cannot_alias_is_a_buffer_error(self):
        with self.assertRaises(BufferError):
            self.view[4:].for_tensorflow()


class Memory(Case):
    def test_one_gib_takes_one_gib(self):
        size = 1 << 30
        path = os.path.join(self.dir, "large")
        with open(path, "wb") as f:
            f.truncate(size)
            f.seek(size - 1)
            f.write(b"\7")
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")  # the peak starts anew
        before = self.memory("VmRSS")
        array = numpy.frombuffer(penstock.get(f"file://{path}"), numpy.uint8)
        self.assertEqual((array.nbytes, array[-1]), (size, 7))
        growth = self.memory("VmHWM") - before
        print(f"growth of the peak: {growth / size:.3f} of the object")
        self.assertLess(growth, 1.05 * size)

    def memory(self, name):
        with open("/proc/self/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith(name)) * 1024


if __name__ == "__main__":
    unittest.main()
