/* ops.c - the tables of operations.
 *
 * Each is a method of Store that takes a key and a function of the module that takes a URI (place.h). All
 * arguments are understood before anything is asked of the store. Every call waits without the GIL and ends
 * soon after Ctrl-C; what had come by then is released. */
#include "ops.h"

#define KEYWORDS (METH_VARARGS | METH_KEYWORDS)
#define WRITE_SIGNATURE ", data, *, " PY_WRITE_SHOWN ", timeout=None)\n--\n\n"
#define WRITE_DOC                                                                                  \
    "Write a whole object; readers see the old one or the new one. Returns its etag.\n\n"          \
    "data: anything with a contiguous buffer; it is not copied. create_only: ExistsError where "   \
    "the object is there. if_match: replace only the content of this etag, else "                  \
    "PreconditionError. checksum: 'crc32c', 'crc64nvme', 'sha256' or 'md5' is computed and given " \
    "to the store."

/* `self` and `word` are what the first two parameters are called in help(). */
#define OPERATIONS(self, word)                                                                     \
    {"get", PY_METHOD(py_op_get), KEYWORDS,                                                        \
     "get($" self ", " word ", *, version=None, if_match=None, verify=False, decode=None, "        \
     "timeout=None)\n--\n\n"                                                                       \
     "Read a whole object, as a BytesView.\n\n"                                                    \
     "verify: True compares with the checksum that the store keeps, 'crc32c:e3069283' with that "  \
     "one; DataLossError. decode: 'zstd' decompresses, 'name' does so for keys that end in "       \
     ".zst. timeout: seconds, for the whole call."},                                               \
        {"get_range", PY_METHOD(py_op_get_range), KEYWORDS,                                        \
         "get_range($" self ", " word ", offset, length=None, *, exact=False, version=None, "      \
         "if_match=None, verify=False, decode=None, timeout=None)\n--\n\n"                         \
         "Read length bytes at offset (None: to the end), as a BytesView. Cut short only by the "  \
         "end of the object, empty at or beyond it; with exact=True that is a RangeError."},       \
        {"get_suffix", PY_METHOD(py_op_get_suffix), KEYWORDS,                                      \
         "get_suffix($" self ", " word ", length, *, exact=False, version=None, if_match=None, "   \
         "timeout=None)\n--\n\n"                                                                   \
         "Read the last length bytes, all of a shorter object, as a BytesView."},                  \
        {"get_into", PY_METHOD(py_op_get_into), KEYWORDS,                                          \
         "get_into($" self ", " word ", buffer, offset=0, *, version=None, if_match=None, "        \
         "decode=None, timeout=None)\n--\n\n"                                                      \
         "Read up to len(buffer) bytes at offset straight into a writable buffer. Returns how "    \
         "many. Once this has returned, with an exception too, nothing writes there any more."},   \
        {"put", PY_METHOD(py_op_put), KEYWORDS, "put($" self ", " word WRITE_SIGNATURE WRITE_DOC}, \
        {"put_bytes", PY_METHOD(py_op_put), KEYWORDS,                                              \
         "put_bytes($" self ", " word WRITE_SIGNATURE WRITE_DOC},                                  \
        {"stat", PY_METHOD(py_op_stat), KEYWORDS,                                                  \
         "stat($" self ", " word ", *, version=None, timeout=None)\n--\n\n"                        \
         "Read the attributes of an object, as a dict. NotFoundError where there is none."},       \
        {"exists", PY_METHOD(py_op_exists), KEYWORDS,                                              \
         "exists($" self ", " word ", *, timeout=None)\n--\n\n"                                    \
         "Tell whether there is an object; any failure but its absence is an exception."},         \
        {"delete_prefix", PY_METHOD(py_op_delete_prefix), KEYWORDS,                                \
         "delete_prefix($" self ", " word ", *, timeout=None)\n--\n\n"                             \
         "Delete every object whose key begins with this, byte by byte ('foo' also matches "       \
         "'foobar'). Returns how many. An empty prefix is refused."},                              \
        {"copy", PY_METHOD(py_op_copy), KEYWORDS,                                                  \
         "copy($" self ", src, dst, *, create_only=False, if_match=None, from_if_match=None, "     \
         "from_version=None, timeout=None)\n--\n\n"                                                \
         "Copy an object, by the store's own means where it can, else through memory in parts. "   \
         "Returns the etag of the copy. if_match is of the target, from_if_match of the source."}, \
        {"rename", PY_METHOD(py_op_rename), KEYWORDS,                                              \
         "rename($" self ", src, dst, *, create_only=False, timeout=None)\n--\n\n"                 \
         "Rename an object in one step; UnsupportedOperationError where the store cannot."},       \
        {"create_container", PY_METHOD(py_op_create_container), KEYWORDS,                          \
         "create_container($" self ", " word ", *, timeout=None)\n--\n\n"                          \
         "Create a bucket, or a directory of file://. ExistsError where it is there."},            \
        {"delete_container", PY_METHOD(py_op_delete_container), KEYWORDS,                          \
         "delete_container($" self ", " word ", *, timeout=None)\n--\n\n"                          \
         "Delete an empty bucket, or an empty directory of file://."},                             \
        {"presign", PY_METHOD(py_op_presign), KEYWORDS,                                            \
         "presign($" self ", " word ", method='GET', expires_s=3600, *, timeout=None)\n--\n\n"     \
         "Make a URL that grants one method on one object for a while."},

/* What many.c, put_many.c, reader.c and writer_open.c do. */
#define STREAMS(self, word)                                                                        \
    {"get_many", PY_METHOD(py_get_many), KEYWORDS,                                                 \
     "get_many($" self ", " word "s, max_in_flight=64, *, return_exceptions=False, "               \
     "timeout=None)\n--\n\n"                                                                       \
     "Read whole objects side by side: a list of (name, BytesView) in the order "                  \
     "asked for.\n\n"                                                                              \
     "Names given twice come twice; URIs have one scheme. The first failure is "                   \
     "raised and stops the rest, unless return_exceptions is true: then an "                       \
     "exception stands in the place of the view."},                                                \
        {"get_ranges", PY_METHOD(py_get_ranges), KEYWORDS,                                         \
         "get_ranges($" self ", " word ", ranges, *, max_in_flight=None, "                         \
         "merge_gap_bytes=None, timeout=None)\n--\n\n"                                             \
         "Read (offset, length) ranges of one version of an object: a list of "                    \
         "BytesView in their order.\n\n"                                                           \
         "A length of None means to the end. Ranges at most merge_gap_bytes apart "                \
         "(None: 64 KiB) share a request; 0 keeps each to itself."},                               \
        {"put_many", PY_METHOD(py_put_many), KEYWORDS,                                             \
         "put_many($" self ", items, max_in_flight=64, *, return_exceptions=False, "               \
         "timeout=None)\n--\n\n"                                                                   \
         "Write whole objects side by side, from (name, data) pairs; the data is "                 \
         "not copied.\n\n"                                                                         \
         "The first failure is raised and stops the rest, unless return_exceptions "               \
         "is true: then a list tells None or an exception for each."},                             \
        {"open_reader", PY_METHOD(py_open_reader), KEYWORDS,                                       \
         "open_reader($" self ", " word ", *, readahead=True, part_bytes=None, "                   \
         "max_in_flight=None, decode=None, timeout=None)\n--\n\n"                                  \
         "Open an object as a raw binary file: read, readinto, seek.\n\n"                          \
         "Reads in a row come from up to max_in_flight parts fetched ahead. All are "              \
         "of one version: an object that is replaced meanwhile is a ChangedError. "                \
         "decode: 'zstd' decompresses, 'name' where the key ends in .zst. The "                    \
         "timeout is that of each call."},                                                         \
        {"open_writer", PY_METHOD(py_open_writer), KEYWORDS,                                       \
         "open_writer($" self ", " word ", *, part_bytes=None, buffer_bytes=None, "                \
         "max_in_flight=None, size_hint=None, " PY_WRITE_SHOWN                                     \
         ", compression_level=None, timeout=None)\n--\n\n"                                         \
         "Start an object of any length: an ObjectWriter.\n\n"                                     \
         "Parts of part_bytes, at most max_in_flight at once, travel while the next "              \
         "one is filled; buffer_bytes is a wish for their length. create_only and "                \
         "if_match are conditions of publishing. compression_level, 1 to 22, stores "              \
         "zstd frames under the name that was given. The timeout is that of each "                 \
         "call."},

#define DELETE_DOC                                                                                 \
    ", *, version=None, if_match=None, timeout=None)\n--\n\n"                                      \
    "Delete exactly this object; one that is not there is no error."
#define LIST_SIGNATURE                                                                             \
    ", *, recursive=True, delimiter=None, start_after=None, ordered=True, versions=False, "        \
    "empty_dirs=False, page_entries=None, timeout=None)\n--\n\n"
#define LIST_DOC                                                                                   \
    "Iterate over the objects whose keys begin with a prefix (bytes: 'a/b' also matches "          \
    "'a/bc'), as Entry. recursive=False, or delimiter='/': one level, with common prefixes as "    \
    "entries of kind 'prefix'. Pages are fetched as needed; timeout is for each."

/* clang-format off */
static PyMethodDef store_methods[] = {
    OPERATIONS("self", "key")
    STREAMS("self", "key")
    {"delete_object", PY_METHOD(py_op_delete), KEYWORDS, "delete_object($self, key" DELETE_DOC},
    {"delete_many", PY_METHOD(py_op_delete_many), KEYWORDS,
     "delete_many($self, keys, *, return_exceptions=False, timeout=None)\n--\n\n"
     "Delete several keys in batches. return_exceptions: returns a list with None or an exception "
     "for each key, instead of raising the first."},
    {"list", PY_METHOD(py_list_new), KEYWORDS, "list($self, prefix=''" LIST_SIGNATURE LIST_DOC},
    {"iterate", PY_METHOD(py_list_new), KEYWORDS,
     "iterate($self, prefix=''" LIST_SIGNATURE LIST_DOC},
    {"list_containers", PY_METHOD(py_list_new_containers), KEYWORDS,
     "list_containers($self, prefix='', *, timeout=None)\n--\n\n"
     "Iterate over the buckets whose names begin with a prefix, as Entry."},
    {"describe", py_op_describe_store, METH_NOARGS,
     "describe($self)\n--\n\nTell what the store is and can do, as a dict."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef module_functions[] = {
    OPERATIONS("module", "uri")
    STREAMS("module", "uri")
    {"delete_object", PY_METHOD(py_op_delete), KEYWORDS, "delete_object($module, uri" DELETE_DOC},
    {"iterate", PY_METHOD(py_list_new), KEYWORDS, "iterate($module, uri" LIST_SIGNATURE LIST_DOC},
    {"iterate_containers", PY_METHOD(py_list_new_containers), KEYWORDS,
     "iterate_containers($module, uri, *, timeout=None)\n--\n\n"
     "Iterate over the buckets of a provider, as Entry."},
    {"describe", py_op_describe, METH_O,
     "describe($module, uri, /)\n--\n\n"
     "Tell what the store of a URI is and can do, as a dict."},
    {"transfer", PY_METHOD(py_transfer), KEYWORDS,
     "transfer($module, pairs, max_in_flight=32, *, source=None, target=None, progress=None, "
     "timeout=None)\n--\n\n"
     "Copy objects through memory, several at a time. pairs: (from, to), each a URI, or a key of "
     "the Store that source or target is. The first failure stops the others and is raised. "
     "progress(n_objects, n_bytes) is called about ten times a second. Returns the bytes."},
    {NULL, NULL, 0, NULL},
};
/* clang-format on */

PyMethodDef *py_store_methods(void)
{
    return store_methods;
}

int py_ops_init(PyObject *module)
{
    return PyModule_AddFunctions(module, module_functions);
}
