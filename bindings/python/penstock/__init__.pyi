"""Object and file storage through plugins: zero-copy reads, writers and listings."""
import builtins
import io
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Literal, TypeAlias, TypedDict, final, overload

from typing_extensions import Buffer, Self

__version__: str

_Path: TypeAlias = str | os.PathLike[str]
_Uri: TypeAlias = str | bytes | os.PathLike[str]
_Key: TypeAlias = str | bytes
_Value: TypeAlias = str | bytes | int | bool | None
_Progress: TypeAlias = Callable[[int, int], object]
_Credentials: TypeAlias = Mapping[str, _Value] | Callable[[str], Mapping[str, Any]]

class _Stat(TypedDict):
    size: int
    last_modified: str | None
    etag: str | None
    content_type: str | None
    content_language: str | None
    content_encoding: str | None
    cache_control: str | None
    content_disposition: str | None
    expires: str | None
    storage_class: str | None
    server_side_encryption: str | None
    ssekms_key_id: str | None
    sse_customer_algorithm: str | None
    version_id: str | None
    replication_status: str | None
    metadata: dict[str, str]
    kind: Literal["object", "prefix"]
    mtime_ns: int | None
    etag_strength: Literal["strong", "weak", "none"]
    checksums: dict[str, str]
    tags: dict[str, str]

class _Container(TypedDict):
    name: str
    uri: str
    creation_date: str | None

def stats() -> dict[str, int]: ...

# ---- exceptions ----------------------------------------------------------------------------

class Error(RuntimeError):
    code: str | None
    uri: str | None
    http_status: int | None
    request_id: str | None
    attempt: int | None
    max_attempts: int | None
    provider_code: str | None
    endpoint: str | None
    retryable: bool
    maybe_applied: bool

class BadPluginError(Error): ...
class CancelledError(Error): ...
class ChangedError(Error): ...
class DataLossError(Error): ...
class ExistsError(Error, FileExistsError): ...
class ForkedError(Error): ...
class InternalError(Error): ...
class InvalidArgumentError(Error, ValueError): ...

class LengthMismatchError(Error, ValueError):
    expected: int | None
    actual: int | None

class NoMemoryError(Error, MemoryError): ...
class NoSchemeError(Error, ValueError): ...
class NotFoundError(Error, FileNotFoundError): ...
class OverBudgetError(Error, MemoryError): ...
class PermissionDeniedError(Error, PermissionError): ...
class PreconditionError(Error): ...
class RangeError(Error, ValueError): ...
class StoreIOError(Error, OSError): ...
class NoSpaceError(StoreIOError): ...
class TimeoutError(Error, builtins.TimeoutError): ...
class UnauthenticatedError(Error, PermissionError): ...
class UnavailableError(Error, ConnectionError): ...
class ThrottledError(UnavailableError): ...
class UnsupportedOperationError(Error, NotImplementedError): ...

ObjectNotFoundError = NotFoundError

# ---- memory --------------------------------------------------------------------------------

@final
class BytesView:
    def __new__(cls, data: Buffer = b"", /) -> Self: ...
    @property
    def nbytes(self) -> int: ...
    def memoryview(self) -> builtins.memoryview: ...
    def to_bytes(self) -> bytes: ...
    def release(self) -> None: ...
    def for_jax(self) -> Any: ...
    def for_tensorflow(self) -> Any: ...
    def __bytes__(self) -> bytes: ...
    def __len__(self) -> int: ...
    def __contains__(self, value: int | Buffer, /) -> bool: ...
    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> BytesView: ...
    def __buffer__(self, flags: int, /) -> builtins.memoryview: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

# ---- by URI -----------------------------------------------------------------------------

@overload
def get_many(
    uris: Iterable[_Uri],
    max_in_flight: int = 64,
    *,
    return_exceptions: Literal[False] = False,
    timeout: float | None = None,
) -> builtins.list[tuple[str, BytesView]]: ...
@overload
def get_many(
    uris: Iterable[_Uri],
    max_in_flight: int = 64,
    *,
    return_exceptions: bool,
    timeout: float | None = None,
) -> builtins.list[tuple[str, BytesView | Error]]: ...
def get(
    uri: _Uri,
    *,
    version: str | None = None,
    if_match: str | None = None,
    verify: bool | str = False,
    decode: str | None = None,
    timeout: float | None = None,
) -> BytesView: ...
def get_range(
    uri: _Uri,
    offset: int,
    length: int | None = None,
    *,
    exact: bool = False,
    version: str | None = None,
    if_match: str | None = None,
    verify: bool | str = False,
    decode: str | None = None,
    timeout: float | None = None,
) -> BytesView: ...
def get_suffix(
    uri: _Uri,
    length: int | None,
    *,
    exact: bool = False,
    version: str | None = None,
    if_match: str | None = None,
    timeout: float | None = None,
) -> BytesView: ...
def get_into(
    uri: _Uri,
    buffer: Buffer,
    offset: int = 0,
    *,
    version: str | None = None,
    if_match: str | None = None,
    decode: str | None = None,
    timeout: float | None = None,
) -> int: ...
def get_ranges(
    uri: _Uri,
    ranges: Iterable[tuple[int, int | None]],
    *,
    max_in_flight: int | None = None,
    merge_gap_bytes: int | None = None,
    timeout: float | None = None,
) -> builtins.list[BytesView]: ...
def get_bytes(uri: _Uri, *, timeout: float | None = None) -> bytes: ...
def get_object(bucket: str, key: _Key, *, timeout: float | None = None) -> BytesView: ...
def put_bytes(
    uri: _Uri,
    data: Buffer,
    *,
    create_only: bool = False,
    if_match: str | None = None,
    content_type: str | None = None,
    content_encoding: str | None = None,
    content_language: str | None = None,
    content_disposition: str | None = None,
    cache_control: str | None = None,
    storage_class: str | None = None,
    metadata: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    checksum: str | None = None,
    timeout: float | None = None,
) -> str | None: ...
def put(uri: _Uri, data: Buffer, *args: Any, **kwargs: Any) -> str | None: ...
def put_many(
    items: Iterable[tuple[_Uri, Buffer]],
    max_in_flight: int = 64,
    *,
    return_exceptions: bool = False,
    timeout: float | None = None,
) -> builtins.list[Error | None] | None: ...
def open(
    uri: _Uri,
    mode: str = "rb",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    **options: Any,
) -> io.RawIOBase | io.BufferedReader | io.TextIOWrapper: ...
def open_async(uri: _Uri, mode: str = "rb", **options: Any) -> AsyncReader | AsyncWriter: ...
def open_reader(
    uri: _Uri,
    *,
    readahead: bool = True,
    part_bytes: int | None = None,
    max_in_flight: int | None = None,
    decode: str | None = None,
    timeout: float | None = None,
) -> Reader: ...
def open_writer(
    uri: _Uri,
    *,
    part_bytes: int | None = None,
    buffer_bytes: int | None = None,
    max_in_flight: int | None = None,
    size_hint: int | None = None,
    create_only: bool = False,
    if_match: str | None = None,
    content_type: str | None = None,
    content_encoding: str | None = None,
    content_language: str | None = None,
    content_disposition: str | None = None,
    cache_control: str | None = None,
    storage_class: str | None = None,
    metadata: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    checksum: str | None = None,
    compression_level: int | None = None,
    timeout: float | None = None,
) -> ObjectWriter: ...
def iterate(
    uri: _Uri,
    *,
    recursive: bool = True,
    delimiter: str | None = None,
    start_after: _Key | None = None,
    ordered: bool = True,
    versions: bool = False,
    empty_dirs: bool = False,
    page_entries: int | None = None,
    timeout: float | None = None,
) -> Iterator[Entry]: ...
def list(
    uri: _Uri,
    recursive: bool = False,
    pattern: str | re.Pattern[str] | None = None,
    *,
    timeout: float | None = None,
) -> builtins.list[str]: ...
def list_containers(
    uri: _Uri = "s3://", *, timeout: float | None = None
) -> builtins.list[_Container]: ...
def stat(uri: _Uri, *, version: str | None = None, timeout: float | None = None) -> _Stat: ...
def exists(uri: _Uri, *, timeout: float | None = None) -> bool: ...
def delete(
    uri: _Uri,
    recursive: bool = False,
    *,
    version: str | None = None,
    if_match: str | None = None,
    whole_store: bool = False,
    timeout: float | None = None,
) -> None: ...
def delete_prefix(uri: _Uri, *, timeout: float | None = None) -> int: ...
def copy(
    src: _Uri,
    dst: _Uri,
    *,
    create_only: bool = False,
    if_match: str | None = None,
    from_if_match: str | None = None,
    from_version: str | None = None,
    timeout: float | None = None,
) -> str | None: ...
def rename(
    src: _Uri, dst: _Uri, *, create_only: bool = False, timeout: float | None = None
) -> None: ...
def upload(
    src_patterns: _Path | Iterable[_Path],
    dest_prefix: _Uri,
    max_in_flight: int = 32,
    create_bucket: bool = False,
    *,
    progress: _Progress | Literal[True] | None = None,
    timeout: float | None = None,
) -> int: ...
def download(
    src_uri: _Uri,
    dest_dir: _Path,
    max_in_flight: int = 64,
    recursive: bool = True,
    *,
    progress: _Progress | Literal[True] | None = None,
    timeout: float | None = None,
) -> int: ...
def mkdir(uri: _Uri, *, timeout: float | None = None) -> None: ...
def create_container(uri: _Uri, *, timeout: float | None = None) -> None: ...
def delete_container(uri: _Uri, *, timeout: float | None = None) -> None: ...
def create_bucket(bucket_name: str, *, timeout: float | None = None) -> None: ...
def delete_bucket(bucket_name: str, *, timeout: float | None = None) -> None: ...
def presign(
    uri: _Uri, method: str = "GET", expires_s: int = 3600, *, timeout: float | None = None
) -> str: ...
def describe(uri: _Uri, /) -> dict[str, Any]: ...
def create_filesystem_writer(uri: _Uri, options: WriterOptions | None = None) -> ObjectWriter: ...
def create_direct_filesystem_writer(
    uri: _Uri, options: WriterOptions | None = None
) -> ObjectWriter: ...
def create_s3_writer(uri: _Uri, options: WriterOptions | None = None) -> ObjectWriter: ...
def create_azure_writer(uri: _Uri, options: WriterOptions | None = None) -> ObjectWriter: ...

# ---- the same, to be awaited -------------------------------------------------------------

@overload
async def get_many_async(
    uris: Iterable[_Uri],
    max_in_flight: int = 64,
    *,
    return_exceptions: Literal[False] = False,
    timeout: float | None = None,
) -> builtins.list[tuple[str, BytesView]]: ...
@overload
async def get_many_async(
    uris: Iterable[_Uri],
    max_in_flight: int = 64,
    *,
    return_exceptions: bool,
    timeout: float | None = None,
) -> builtins.list[tuple[str, BytesView | Error]]: ...
async def get_async(uri: _Uri, *, timeout: float | None = None, **options: Any) -> BytesView: ...
async def get_range_async(
    uri: _Uri,
    offset: int,
    length: int | None = None,
    *,
    timeout: float | None = None,
    **options: Any,
) -> BytesView: ...
async def get_suffix_async(
    uri: _Uri,
    length: int | None,
    *,
    exact: bool = False,
    version: str | None = None,
    if_match: str | None = None,
    timeout: float | None = None,
) -> BytesView: ...
async def get_into_async(
    uri: _Uri,
    buffer: Buffer,
    offset: int = 0,
    *,
    expected_len: int | None = None,
    timeout: float | None = None,
    **options: Any,
) -> int: ...
async def get_ranges_async(
    uri: _Uri,
    ranges: Iterable[tuple[int, int | None]],
    *,
    max_in_flight: int | None = None,
    merge_gap_bytes: int | None = None,
    timeout: float | None = None,
) -> builtins.list[BytesView]: ...
async def get_bytes_async(uri: _Uri, *, timeout: float | None = None) -> bytes: ...
async def get_object_async(
    bucket: str, key: _Key, *, timeout: float | None = None
) -> BytesView: ...
async def put_bytes_async(
    uri: _Uri, data: Buffer, *, borrow: bool = True, timeout: float | None = None, **options: Any
) -> str | None: ...
async def put_async(
    uri: _Uri, data: Buffer, *args: Any, timeout: float | None = None, **options: Any
) -> str | None: ...
async def put_many_async(
    items: Iterable[tuple[_Uri, Buffer]],
    max_in_flight: int = 64,
    *,
    borrow: bool = True,
    return_exceptions: bool = False,
    timeout: float | None = None,
) -> builtins.list[Error | None] | None: ...
async def list_async(
    uri: _Uri,
    recursive: bool = False,
    pattern: str | re.Pattern[str] | None = None,
    *,
    timeout: float | None = None,
) -> builtins.list[str]: ...
def iterate_async(uri: _Uri, **options: Any) -> AsyncIterator[Entry]: ...
async def list_containers_async(
    uri: _Uri = "s3://", *, timeout: float | None = None
) -> builtins.list[_Container]: ...
async def stat_async(uri: _Uri, *, timeout: float | None = None, **options: Any) -> _Stat: ...
async def exists_async(uri: _Uri, *, timeout: float | None = None) -> bool: ...
async def delete_async(
    uri: _Uri, recursive: bool = False, *, timeout: float | None = None, **options: Any
) -> None: ...
async def delete_prefix_async(uri: _Uri, *, timeout: float | None = None) -> int: ...
async def copy_async(
    src: _Uri, dst: _Uri, *, timeout: float | None = None, **options: Any
) -> str | None: ...
async def rename_async(
    src: _Uri, dst: _Uri, *, create_only: bool = False, timeout: float | None = None
) -> None: ...
async def upload_async(
    src_patterns: _Path | Iterable[_Path],
    dest_prefix: _Uri,
    max_in_flight: int = 32,
    create_bucket: bool = False,
    *,
    progress: _Progress | Literal[True] | None = None,
    timeout: float | None = None,
) -> int: ...
async def download_async(
    src_uri: _Uri,
    dest_dir: _Path,
    max_in_flight: int = 64,
    recursive: bool = True,
    *,
    progress: _Progress | Literal[True] | None = None,
    timeout: float | None = None,
) -> int: ...
async def mkdir_async(uri: _Uri, *, timeout: float | None = None) -> None: ...
async def create_container_async(uri: _Uri, *, timeout: float | None = None) -> None: ...
async def delete_container_async(uri: _Uri, *, timeout: float | None = None) -> None: ...
async def create_bucket_async(bucket_name: str, *, timeout: float | None = None) -> None: ...
async def delete_bucket_async(bucket_name: str, *, timeout: float | None = None) -> None: ...
async def presign_async(
    uri: _Uri, method: str = "GET", expires_s: int = 3600, *, timeout: float | None = None
) -> str: ...
@overload
async def stat_many_async(
    uris: Iterable[_Uri],
    max_in_flight: int = 64,
    *,
    return_exceptions: Literal[False] = False,
    timeout: float | None = None,
) -> builtins.list[_Stat]: ...
@overload
async def stat_many_async(
    uris: Iterable[_Uri],
    max_in_flight: int = 64,
    *,
    return_exceptions: bool,
    timeout: float | None = None,
) -> builtins.list[_Stat | Error]: ...

# ---- a store of one's own ----------------------------------------------------------------

@final
class Entry:
    @property
    def key(self) -> str: ...
    @property
    def size(self) -> int | None: ...
    @property
    def mtime_ns(self) -> int | None: ...
    @property
    def kind(self) -> Literal["object", "prefix"]: ...
    @property
    def etag(self) -> str | None: ...
    @property
    def version(self) -> str | None: ...
    @property
    def content_encoding(self) -> str | None: ...
    @property
    def storage_class(self) -> str | None: ...
    @property
    def is_latest(self) -> bool: ...
    @property
    def is_delete_marker(self) -> bool: ...

@final
class Listing:
    def __iter__(self) -> Self: ...
    def __next__(self) -> Entry: ...

class Store:
    def __new__(
        cls,
        uri: _Uri,
        options: Mapping[str, _Value] | None = None,
        *,
        credentials: _Credentials | None = None,
    ) -> Self: ...
    @property
    def uri(self) -> str: ...
    @property
    def options(self) -> dict[str, _Value]: ...
    @property
    def closed(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, memo: dict[int, Any], /) -> Self: ...
    @overload
    def get_many(
        self, keys: Iterable[_Key],
        max_in_flight: int = 64,
        *,
        return_exceptions: Literal[False] = False,
        timeout: float | None = None,
    ) -> builtins.list[tuple[str, BytesView]]: ...
    @overload
    def get_many(
        self, keys: Iterable[_Key],
        max_in_flight: int = 64,
        *,
        return_exceptions: bool,
        timeout: float | None = None,
    ) -> builtins.list[tuple[str, BytesView | Error]]: ...
    def get(
        self,
        key: _Key,
        *,
        version: str | None = None,
        if_match: str | None = None,
        verify: bool | str = False,
        decode: str | None = None,
        timeout: float | None = None,
    ) -> BytesView: ...
    def get_range(
        self,
        key: _Key,
        offset: int,
        length: int | None = None,
        *,
        exact: bool = False,
        version: str | None = None,
        if_match: str | None = None,
        verify: bool | str = False,
        decode: str | None = None,
        timeout: float | None = None,
    ) -> BytesView: ...
    def get_suffix(
        self,
        key: _Key,
        length: int | None,
        *,
        exact: bool = False,
        version: str | None = None,
        if_match: str | None = None,
        timeout: float | None = None,
    ) -> BytesView: ...
    def get_into(
        self,
        key: _Key,
        buffer: Buffer,
        offset: int = 0,
        *,
        version: str | None = None,
        if_match: str | None = None,
        decode: str | None = None,
        timeout: float | None = None,
    ) -> int: ...
    def get_ranges(
        self,
        key: _Key,
        ranges: Iterable[tuple[int, int | None]],
        *,
        max_in_flight: int | None = None,
        merge_gap_bytes: int | None = None,
        timeout: float | None = None,
    ) -> builtins.list[BytesView]: ...
    def get_bytes(self, key: _Key, *, timeout: float | None = None) -> bytes: ...
    def put_bytes(
        self,
        key: _Key,
        data: Buffer,
        *,
        create_only: bool = False,
        if_match: str | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        content_language: str | None = None,
        content_disposition: str | None = None,
        cache_control: str | None = None,
        storage_class: str | None = None,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        checksum: str | None = None,
        timeout: float | None = None,
    ) -> str | None: ...
    def put(
        self,
        key: _Key,
        data: Buffer,
        *,
        create_only: bool = False,
        if_match: str | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        content_language: str | None = None,
        content_disposition: str | None = None,
        cache_control: str | None = None,
        storage_class: str | None = None,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        checksum: str | None = None,
        timeout: float | None = None,
    ) -> str | None: ...
    def put_many(
        self,
        items: Iterable[tuple[_Key, Buffer]],
        max_in_flight: int = 64,
        *,
        return_exceptions: bool = False,
        timeout: float | None = None,
    ) -> builtins.list[Error | None] | None: ...
    def open_reader(
        self,
        key: _Key,
        *,
        readahead: bool = True,
        part_bytes: int | None = None,
        max_in_flight: int | None = None,
        decode: str | None = None,
        timeout: float | None = None,
    ) -> Reader: ...
    def open_writer(
        self,
        key: _Key,
        *,
        part_bytes: int | None = None,
        buffer_bytes: int | None = None,
        max_in_flight: int | None = None,
        size_hint: int | None = None,
        create_only: bool = False,
        if_match: str | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        content_language: str | None = None,
        content_disposition: str | None = None,
        cache_control: str | None = None,
        storage_class: str | None = None,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        checksum: str | None = None,
        compression_level: int | None = None,
        timeout: float | None = None,
    ) -> ObjectWriter: ...
    def iterate(
        self,
        prefix: _Key = "",
        *,
        recursive: bool = True,
        delimiter: str | None = None,
        start_after: _Key | None = None,
        ordered: bool = True,
        versions: bool = False,
        empty_dirs: bool = False,
        page_entries: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Entry]: ...
    def list(
        self,
        prefix: _Key = "",
        *,
        recursive: bool = True,
        delimiter: str | None = None,
        start_after: _Key | None = None,
        ordered: bool = True,
        versions: bool = False,
        empty_dirs: bool = False,
        page_entries: int | None = None,
        timeout: float | None = None,
    ) -> Listing: ...
    def list_async(self, prefix: _Key = "", **options: Any) -> AsyncIterator[Entry]: ...
    def list_containers_async(
        self, prefix: _Key = "", **options: Any
    ) -> AsyncIterator[Entry]: ...
    def list_containers(self, prefix: _Key = "", *, timeout: float | None = None) -> Listing: ...
    def stat(
        self, key: _Key, *, version: str | None = None, timeout: float | None = None
    ) -> _Stat: ...
    def exists(self, key: _Key, *, timeout: float | None = None) -> bool: ...
    def delete(
        self,
        key: _Key,
        recursive: bool = False,
        *,
        version: str | None = None,
        if_match: str | None = None,
        whole_store: bool = False,
        timeout: float | None = None,
    ) -> None: ...
    def delete_prefix(self, key: _Key, *, timeout: float | None = None) -> int: ...
    def copy(
        self,
        src: _Key,
        dst: _Key,
        *,
        create_only: bool = False,
        if_match: str | None = None,
        from_if_match: str | None = None,
        from_version: str | None = None,
        timeout: float | None = None,
    ) -> str | None: ...
    def rename(
        self, src: _Key, dst: _Key, *, create_only: bool = False, timeout: float | None = None
    ) -> None: ...
    def upload(
        self,
        src_patterns: _Path | Iterable[_Path],
        dest_prefix: _Key = "",
        max_in_flight: int = 32,
        *,
        progress: _Progress | Literal[True] | None = None,
        timeout: float | None = None,
    ) -> int: ...
    def download(
        self,
        key: _Key,
        dest_dir: _Path,
        max_in_flight: int = 64,
        recursive: bool = True,
        *,
        progress: _Progress | Literal[True] | None = None,
        timeout: float | None = None,
    ) -> int: ...
    def mkdir(self, key: _Key, *, timeout: float | None = None) -> None: ...
    def create_container(self, key: _Key, *, timeout: float | None = None) -> None: ...
    def delete_container(self, key: _Key, *, timeout: float | None = None) -> None: ...
    def presign(
        self,
        key: _Key,
        method: str = "GET",
        expires_s: int = 3600,
        *,
        timeout: float | None = None,
    ) -> str: ...
    def describe(self) -> dict[str, Any]: ...
    def close(self) -> None: ...
    def delete_many(
        self,
        keys: Iterable[_Key],
        *,
        return_exceptions: bool = False,
        timeout: float | None = None,
    ) -> builtins.list[Error | None] | None: ...
    def delete_object(
        self,
        key: _Key,
        *,
        version: str | None = None,
        if_match: str | None = None,
        timeout: float | None = None,
    ) -> None: ...
    @overload
    async def get_many_async(
        self, keys: Iterable[_Key],
        max_in_flight: int = 64,
        *,
        return_exceptions: Literal[False] = False,
        timeout: float | None = None,
    ) -> builtins.list[tuple[str, BytesView]]: ...
    @overload
    async def get_many_async(
        self, keys: Iterable[_Key],
        max_in_flight: int = 64,
        *,
        return_exceptions: bool,
        timeout: float | None = None,
    ) -> builtins.list[tuple[str, BytesView | Error]]: ...
    async def get_async(
        self, key: _Key, *, timeout: float | None = None, **options: Any
    ) -> BytesView: ...
    async def get_range_async(
        self,
        key: _Key,
        offset: int,
        length: int | None = None,
        *,
        timeout: float | None = None,
        **options: Any,
    ) -> BytesView: ...
    async def get_suffix_async(
        self,
        key: _Key,
        length: int | None,
        *,
        exact: bool = False,
        version: str | None = None,
        if_match: str | None = None,
        timeout: float | None = None,
    ) -> BytesView: ...
    async def get_into_async(
        self,
        key: _Key,
        buffer: Buffer,
        offset: int = 0,
        *,
        expected_len: int | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> int: ...
    async def get_ranges_async(
        self,
        key: _Key,
        ranges: Iterable[tuple[int, int | None]],
        *,
        max_in_flight: int | None = None,
        merge_gap_bytes: int | None = None,
        timeout: float | None = None,
    ) -> builtins.list[BytesView]: ...
    async def get_bytes_async(self, key: _Key, *, timeout: float | None = None) -> bytes: ...
    async def put_async(
        self, key: _Key, data: Buffer, *, timeout: float | None = None, **options: Any
    ) -> str | None: ...
    async def put_bytes_async(
        self,
        key: _Key,
        data: Buffer,
        *,
        borrow: bool = True,
        timeout: float | None = None,
        **options: Any,
    ) -> str | None: ...
    async def put_many_async(
        self,
        items: Iterable[tuple[_Key, Buffer]],
        max_in_flight: int = 64,
        *,
        borrow: bool = True,
        return_exceptions: bool = False,
        timeout: float | None = None,
    ) -> builtins.list[Error | None] | None: ...
    async def stat_async(
        self, key: _Key, *, timeout: float | None = None, **options: Any
    ) -> _Stat: ...
    async def exists_async(self, key: _Key, *, timeout: float | None = None) -> bool: ...
    async def delete_async(
        self,
        key: _Key,
        recursive: bool = False,
        *,
        timeout: float | None = None,
        **options: Any,
    ) -> None: ...
    async def delete_prefix_async(self, key: _Key, *, timeout: float | None = None) -> int: ...
    async def copy_async(
        self, src: _Key, dst: _Key, *, timeout: float | None = None, **options: Any
    ) -> str | None: ...
    async def rename_async(
        self, src: _Key, dst: _Key, *, create_only: bool = False, timeout: float | None = None
    ) -> None: ...
    async def upload_async(
        self,
        src_patterns: _Path | Iterable[_Path],
        dest_prefix: _Key = "",
        max_in_flight: int = 32,
        *,
        progress: _Progress | Literal[True] | None = None,
        timeout: float | None = None,
    ) -> int: ...
    async def download_async(
        self,
        key: _Key,
        dest_dir: _Path,
        max_in_flight: int = 64,
        recursive: bool = True,
        *,
        progress: _Progress | Literal[True] | None = None,
        timeout: float | None = None,
    ) -> int: ...
    async def mkdir_async(self, key: _Key, *, timeout: float | None = None) -> None: ...
    async def create_container_async(self, key: _Key, *, timeout: float | None = None) -> None: ...
    async def delete_container_async(self, key: _Key, *, timeout: float | None = None) -> None: ...
    async def presign_async(
        self,
        key: _Key,
        method: str = "GET",
        expires_s: int = 3600,
        *,
        timeout: float | None = None,
    ) -> str: ...
    async def delete_many_async(
        self,
        keys: Iterable[_Key],
        *,
        return_exceptions: bool = False,
        timeout: float | None = None,
    ) -> builtins.list[Error | None] | None: ...
    @overload
    async def stat_many_async(
        self,
        keys: Iterable[_Key],
        max_in_flight: int = 64,
        *,
        return_exceptions: Literal[False] = False,
        timeout: float | None = None,
    ) -> builtins.list[_Stat]: ...
    @overload
    async def stat_many_async(
        self,
        keys: Iterable[_Key],
        max_in_flight: int = 64,
        *,
        return_exceptions: bool,
        timeout: float | None = None,
    ) -> builtins.list[_Stat | Error]: ...

# ---- streams -------------------------------------------------------------------------------

class WriterOptions:
    compression: str | None
    compression_level: int | None
    buffer_size: int | None
    def __init__(self) -> None: ...
    def with_compression(self, compression_type: str, level: int | None = None) -> Self: ...
    def with_buffer_size(self, size: int) -> Self: ...

PyWriterOptions = WriterOptions

@final
class ObjectWriter:
    @property
    def uri(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def etag(self) -> str | None: ...
    @property
    def version(self) -> str | None: ...
    @property
    def parts(self) -> int | None: ...
    def write(self, data: Buffer, /) -> int: ...
    def write_chunk(self, data: Buffer, /) -> None: ...
    def write_owned_bytes(self, data: Buffer, *, copy: bool = False) -> None: ...
    def reserve(self, size: int, /) -> memoryview: ...
    def commit(self, nbytes: int | None = None, /) -> None: ...
    def finalize(self) -> tuple[int, int]: ...
    def cancel(self) -> None: ...
    def bytes_written(self) -> int: ...
    def compressed_bytes(self) -> int | None: ...
    def checksum(self) -> str: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...

PyObjectWriter = ObjectWriter

class MultipartUploadWriter:
    def __init__(
        self,
        bucket: str,
        key: str,
        part_size: int | None = None,
        max_in_flight: int | None = None,
        content_type: str | None = None,
        abort_on_drop: bool | None = None,
    ) -> None: ...
    @classmethod
    def from_uri(
        cls,
        uri: _Uri,
        part_size: int | None = None,
        max_in_flight: int | None = None,
        content_type: str | None = None,
        abort_on_drop: bool | None = None,
    ) -> Self: ...
    def write(self, data: Buffer, *, copy: bool = False) -> None: ...
    def reserve(self, size: int) -> memoryview: ...
    def commit(self, nbytes: int | None = None) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> dict[str, Any]: ...
    def abort(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

class Reader(io.RawIOBase):
    def __init__(self, raw: Any, name: str) -> None: ...
    name: str
    mode: str
    def size(self) -> int | None: ...

class WriterFile(io.RawIOBase):
    name: str
    mode: str
    def __init__(self, writer: ObjectWriter, mode: str = "wb") -> None: ...
    def discard(self) -> None: ...

class TextWriter(io.TextIOWrapper):
    mode: str
    def __init__(
        self,
        file: WriterFile,
        encoding: str = "utf-8",
        errors: str | None = None,
        newline: str | None = None,
        line_buffering: bool = False,
    ) -> None: ...
    def discard(self) -> None: ...

class AsyncReader:
    name: str
    mode: str
    def __init__(self, reader: Reader) -> None: ...
    @property
    def closed(self) -> bool: ...
    async def read(self, size: int = -1, /) -> bytes: ...
    async def readinto(self, buffer: Buffer, /) -> int: ...
    async def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...
    async def size(self) -> int | None: ...
    async def close(self) -> None: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> bytes: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

class AsyncWriter:
    name: str
    mode: str
    def __init__(self, writer: ObjectWriter, mode: str = "wb") -> None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def etag(self) -> str | None: ...
    async def write(self, data: Buffer, /) -> int: ...
    def tell(self) -> int: ...
    async def close(self) -> None: ...
    async def discard(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

# ---- several endpoints ---------------------------------------------------------------------

class _Figures(TypedDict):
    total_requests: int
    bytes_read: int
    bytes_written: int
    error_count: int
    active_requests: int

class _EndpointFigures(_Figures):
    uri: str

class MultiEndpointStore:
    def __init__(
        self,
        uris: Iterable[_Uri],
        strategy: str | None = None,
        *,
        options: Mapping[str, _Value] | None = None,
        credentials: _Credentials | None = None,
        tls: bool = False,
    ) -> None: ...
    async def get(self, uri: _Uri, *, timeout: float | None = None, **options: Any) -> BytesView: ...
    async def get_range(
        self,
        uri: _Uri,
        offset: int,
        length: int | None = None,
        *,
        timeout: float | None = None,
        **options: Any,
    ) -> BytesView: ...
    async def put(
        self,
        uri: _Uri,
        data: Buffer,
        *,
        borrow: bool = True,
        timeout: float | None = None,
        **options: Any,
    ) -> str | None: ...
    async def list(
        self, prefix: _Uri = "", recursive: bool = False, *, timeout: float | None = None
    ) -> builtins.list[str]: ...
    async def delete(self, uri: _Uri, *, timeout: float | None = None, **options: Any) -> None: ...
    async def get_from_endpoint(
        self, index: int, path: _Uri, *, timeout: float | None = None, **options: Any
    ) -> BytesView: ...
    async def put_to_endpoint(
        self,
        index: int,
        path: _Uri,
        data: Buffer,
        *,
        borrow: bool = True,
        timeout: float | None = None,
        **options: Any,
    ) -> str | None: ...
    async def delete_from_endpoint(
        self, index: int, path: _Uri, *, timeout: float | None = None, **options: Any
    ) -> None: ...
    async def put_all_endpoints(
        self,
        path: _Uri,
        data: Buffer,
        *,
        borrow: bool = True,
        return_exceptions: bool = False,
        timeout: float | None = None,
        **options: Any,
    ) -> builtins.list[Error | None] | None: ...
    async def delete_all_endpoints(
        self, path: _Uri, *, return_exceptions: bool = False, timeout: float | None = None
    ) -> builtins.list[Error | None] | None: ...
    async def list_all_endpoints(
        self, prefix: _Uri = "", recursive: bool = False, *, timeout: float | None = None
    ) -> builtins.list[str]: ...
    def endpoint_count(self) -> int: ...
    def strategy(self) -> str: ...
    def get_endpoint_stats(self) -> builtins.list[_EndpointFigures]: ...
    def get_total_stats(self) -> _Figures: ...

def create_multi_endpoint_store(
    uris: Iterable[_Uri],
    strategy: str | None = None,
    *,
    options: Mapping[str, _Value] | None = None,
    credentials: _Credentials | None = None,
    tls: bool = False,
) -> MultiEndpointStore: ...
def create_multi_endpoint_store_from_template(
    uri_template: _Uri,
    strategy: str | None = None,
    *,
    options: Mapping[str, _Value] | None = None,
    credentials: _Credentials | None = None,
    tls: bool = False,
) -> MultiEndpointStore: ...
def create_multi_endpoint_store_from_file(
    file_path: _Path,
    strategy: str | None = None,
    *,
    options: Mapping[str, _Value] | None = None,
    credentials: _Credentials | None = None,
    tls: bool = False,
) -> MultiEndpointStore: ...
def create_multi_endpoint_store_from_env(
    strategy: str | None = None,
    *,
    options: Mapping[str, _Value] | None = None,
    credentials: _Credentials | None = None,
    tls: bool = False,
) -> MultiEndpointStore: ...
