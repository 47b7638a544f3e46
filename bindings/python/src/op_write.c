/* op_write.c - writing an object: from memory of the caller, or from another object.
 *
 * put reads the caller's memory in place. copy leaves the work to the store where that can do it, and goes
 * through memory in parts where not (transfer.c). */
#include "ops.h"

#include <string.h>

void py_writing_clear(struct py_writing *writing)
{
    py_text_clear(&writing->if_match);
    for (int i = 0; i < PY_N_TEXTS; i++)
        py_text_clear(&writing->texts[i]);
    py_kv_clear(&writing->metadata);
    py_kv_clear(&writing->tags);
}

static int take_texts(const struct py_write_in *in, struct py_writing *out)
{
    static const char *const names[PY_N_TEXTS] = {PY_TEXT_WORDS};
    pst_str *const into[PY_N_TEXTS] = {&out->attr.content_type,     &out->attr.content_encoding,
                                       &out->attr.content_language, &out->attr.content_disposition,
                                       &out->attr.cache_control,    &out->attr.storage_class};

    for (int i = 0; i < PY_N_TEXTS; i++) {
        if (py_text_take_optional(in->texts[i], names[i], &out->texts[i]) < 0)
            return -1;
        *into[i] = out->texts[i].str;
    }
    if (py_kv_take(in->metadata, "metadata", &out->metadata) < 0 ||
        py_kv_take(in->tags, "tags", &out->tags) < 0)
        return -1;
    out->attr.struct_size = sizeof(out->attr);
    out->attr.user_meta = out->metadata.kv;
    out->attr.n_user_meta = out->metadata.n;
    out->attr.tags = out->tags.kv;
    out->attr.n_tags = out->tags.n;
    return 0;
}

int py_writing_take(const struct py_write_in *in, struct py_writing *out)
{
    static const char *const sums[] = {"crc32c", "crc64nvme", "sha256", "md5", NULL};
    static const uint32_t numbers[] = {PST_SUM_CRC32C, PST_SUM_CRC64NVME, PST_SUM_SHA256,
                                       PST_SUM_MD5};
    uint32_t sum;
    int is_create_only = in->create_only ? PyObject_IsTrue(in->create_only) : 0;

    memset(out, 0, sizeof(*out));
    out->options.struct_size = sizeof(out->options);
    if (is_create_only < 0 ||
        py_timeout_take(in->timeout ? in->timeout : Py_None, &out->timeout_s) < 0 ||
        py_choose(in->checksum, "checksum", sums, &sum) < 0)
        return -1;
    if (py_text_take_optional(in->if_match, "if_match", &out->if_match) < 0 ||
        take_texts(in, out) < 0) {
        py_writing_clear(out);
        return -1;
    }
    out->options.flags = is_create_only ? PST_WRITE_CREATE_ONLY : 0;
    out->options.sums = sum ? 1u << numbers[sum - 1] : 0;
    out->options.if_match = out->if_match.str;
    out->options.attr = &out->attr;
    return 0;
}

/* None where the store gave none. */
static PyObject *etag_of(const pst_write_result *result)
{
    return result->etag[0] ? py_str_of_chars(result->etag) : Py_NewRef(Py_None);
}

static PyObject *write_bytes(PyObject *self, PyObject *where, const Py_buffer *src,
                             const struct py_write_in *in)
{
    pst_write_result written = {.struct_size = sizeof(written)};
    const pst_iov iov = {.ptr = src->buf, .len = (size_t)src->len};
    pst_error err = PST_ERROR_INIT;
    PyObject *result = NULL;
    struct py_writing writing;
    struct py_place place;
    struct py_call call;
    pst_rc rc;

    if (py_writing_take(in, &writing) < 0)
        return NULL;
    if (py_place_take(self, where, &place) < 0) {
        py_writing_clear(&writing);
        return NULL;
    }
    if (py_call_begin(&call, writing.timeout_s) == 0) {
        rc = pst_put(place.store, place.key, &iov, 1, &writing.options, &call.limits, &written,
                     &err);
        if (py_call_end(&call) == 0)
            result = rc == PST_OK ? etag_of(&written) : py_place_fail(&place, rc, &err);
    }
    py_place_clear(&place);
    py_writing_clear(&writing);
    return result;
}

PyObject *py_op_put(PyObject *self, PyObject *args, PyObject *kwargs)
{
    char *names[] = {py_place_word(self), "data", PY_WRITE_WORDS, NULL};
    PyObject *where, *data, *result;
    struct py_write_in in = {0};
    Py_buffer src;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$" PY_WRITE_FORMAT ":put", names, &where,
                                     &data, PY_WRITE_INTO(&in)) ||
        py_bytes_take(data, &src) < 0)
        return NULL;
    result = write_bytes(self, where, &src, &in);
    PyBuffer_Release(&src);
    return result;
}

/* ---- copying ------------------------------------------------------------------------------------- */

struct copy_in {
    PyObject *from, *to, *create_only, *if_match, *from_if_match, *from_version, *timeout;
};

/* *etag is NULL where the copy has to go through memory: then 1. */
static int copy_inside(const struct py_place *from, const struct py_place *to,
                       const pst_copy_options *options, double timeout_s, PyObject **etag)
{
    pst_write_result written = {.struct_size = sizeof(written)};
    pst_error err = PST_ERROR_INIT;
    struct py_call call;
    pst_rc rc;

    if (py_call_begin(&call, timeout_s) < 0)
        return -1;
    rc = pst_copy(from->store, from->key, to->store, to->key, options, &call.limits, &written,
                  &err);
    if (py_call_end(&call) < 0)
        return -1;
    if (rc == PST_E_UNIMPLEMENTED)
        return 1;
    if (rc == PST_OK)
        *etag = etag_of(&written);
    else
        py_place_fail(from->store == to->store ? from : to, rc, &err); /* as its message does */
    return *etag ? 0 : -1;
}

static PyObject *copy_places(const struct py_place *from, const struct py_place *to,
                             const pst_copy_options *options, double timeout_s)
{
    PyObject *etag = NULL;
    int result = copy_inside(from, to, options, timeout_s, &etag);

    if (result > 0)
        result = py_transfer_one(from, to, options, timeout_s, &etag);
    return result == 0 ? etag : NULL;
}

static PyObject *rename_places(const struct py_place *from, const struct py_place *to,
                               const pst_copy_options *options, double timeout_s)
{
    pst_error err = PST_ERROR_INIT;
    struct py_call call;
    pst_rc rc;

    if (from->store != to->store) {
        PyErr_SetString(PyExc_ValueError, "rename stays within one store: copy and delete instead");
        return NULL;
    }
    if (py_call_begin(&call, timeout_s) < 0)
        return NULL;
    rc = pst_rename(from->store, from->key, to->key, options, &call.limits, &err);
    if (py_call_end(&call) < 0)
        return NULL;
    return rc == PST_OK ? Py_NewRef(Py_None) : py_place_fail(from, rc, &err);
}

typedef PyObject *(*pair_fn)(const struct py_place *from, const struct py_place *to,
                             const pst_copy_options *options, double timeout_s);

static PyObject *run_pair(PyObject *self, const struct copy_in *in, pair_fn fn)
{
    pst_copy_options options = {.struct_size = sizeof(options)};
    struct py_text match = {0}, from_match = {0}, version = {0};
    int is_create_only = in->create_only ? PyObject_IsTrue(in->create_only) : 0;
    struct py_place from = {0}, to = {0};
    PyObject *result = NULL;
    double timeout_s;

    if (is_create_only < 0 ||
        py_timeout_take(in->timeout ? in->timeout : Py_None, &timeout_s) < 0 ||
        py_text_take_optional(in->if_match, "if_match", &match) < 0 ||
        py_text_take_optional(in->from_if_match, "from_if_match", &from_match) < 0 ||
        py_text_take_optional(in->from_version, "from_version", &version) < 0 ||
        py_place_take(self, in->from, &from) < 0 || py_place_take(self, in->to, &to) < 0)
        goto out;
    options.flags = is_create_only ? PST_WRITE_CREATE_ONLY : 0;
    options.if_match = match.str;
    options.from_if_match = from_match.str;
    options.from_version = version.str;
    result = fn(&from, &to, &options, timeout_s);
out:
    py_place_clear(&to);
    py_place_clear(&from);
    py_text_clear(&version);
    py_text_clear(&from_match);
    py_text_clear(&match);
    return result;
}

PyObject *py_op_copy(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"src",           "dst",          "create_only", "if_match",
                            "from_if_match", "from_version", "timeout",     NULL};
    struct copy_in in = {0};

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$OOOOO:copy", names, &in.from, &in.to,
                                     &in.create_only, &in.if_match, &in.from_if_match,
                                     &in.from_version, &in.timeout))
        return NULL;
    return run_pair(self, &in, copy_places);
}

PyObject *py_op_rename(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"src", "dst", "create_only", "timeout", NULL};
    struct copy_in in = {0};

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$OO:rename", names, &in.from, &in.to,
                                     &in.create_only, &in.timeout))
        return NULL;
    return run_pair(self, &in, rename_places);
}
