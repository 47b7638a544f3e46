"""fsspec's abstract suite on local files, for pytest: test_fsspec.py runs it."""
import shutil
import tempfile

import fsspec.tests.abstract as abstract
import pytest

from penstock.fsspec import PenstockLocalFileSystem


class Fixtures(abstract.AbstractFixtures):
    @pytest.fixture(scope="class")
    def fs(self):
        return PenstockLocalFileSystem()

    @pytest.fixture
    def fs_path(self):
        path = tempfile.mkdtemp()
        yield path
        shutil.rmtree(path, ignore_errors=True)

    @pytest.fixture
    def supports_empty_directories(self):
        return True


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


if hasattr(abstract, "AbstractPipeTests"):
    class TestPipe(abstract.AbstractPipeTests, Fixtures):
        pass


if hasattr(abstract, "AbstractOpenTests"):
    class TestOpen(abstract.AbstractOpenTests, Fixtures):
        pass
