"""fsspec's abstract suite, for pytest: on local files, as test_fsspec.py runs it, and on S3:

    tests/servers/up minio -- python3 -m pytest bindings/python/tests/fsspec_suite.py
"""
import os
import shutil
import tempfile
import uuid

import fsspec.tests.abstract as abstract
import pytest

from penstock.fsspec import PenstockLocalFileSystem, PenstockS3FileSystem

SUITES = [getattr(abstract, f"Abstract{name}Tests")
          for name in ("Copy", "Get", "Put", "Pipe", "Open")
          if hasattr(abstract, f"Abstract{name}Tests")]
ENDPOINT = os.environ.get("PST_MINIO_ENDPOINT")


class Local(abstract.AbstractFixtures):
    @pytest.fixture
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


class S3(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self):
        return PenstockS3FileSystem(endpoint=ENDPOINT)

    @pytest.fixture
    def fs_path(self, fs):
        bucket = "fsspec-" + uuid.uuid4().hex
        fs.mkdir(bucket)
        yield bucket
        fs.rm(bucket, recursive=True)
        fs.rmdir(bucket)

    @pytest.fixture
    def supports_empty_directories(self):
        return False


for fixtures in (Local, S3) if ENDPOINT else (Local,):
    for suite in SUITES:
        test = "Test" + fixtures.__name__ + suite.__name__
        globals()[test] = type(test, (suite, fixtures), {})
