/* list.c - listings as iterators of Entry.
 *
 * A page is fetched without the GIL when the one before is used up, so memory does not grow with the
 * listing. A failure is an exception, never a short list; what follows it asks for the same page again. A
 * listing serves one thread at a time: another that asks meanwhile gets ValueError, as with generators. */
#include "place.h"

#include <string.h>

/* clang-format off */
struct listing {
    PyObject_HEAD
    pst_list *list;
    PyObject *owner; /* the Store, or NULL */
    PyObject *uri;   /* for errors */
    const pst_entry *entries; /* of the page, borrowed until the next one is asked for */
    size_t n, at;
    double timeout_s;
    int is_busy, is_at_end;
};
/* clang-format on */

enum { KEY, SIZE, MTIME, KIND, ETAG, VERSION, ENCODING, CLASS, LATEST, MARKER, N_FIELDS };

static PyObject *kind_names[2]; /* by PST_KIND_* */

static struct listing *listing_of(PyObject *object)
{
    union {
        PyObject *object;
        struct listing *listing;
    } as = {.object = object};
    return as.listing;
}

/* ---- entries ------------------------------------------------------------------------------------- */

static PyObject *text_or_none(pst_str text)
{
    return text.len > 0 ? py_str_of(text) : Py_NewRef(Py_None);
}

static PyObject *entry_new(const pst_entry *from)
{
    PyObject *values[N_FIELDS] = {
        py_str_of(from->key),
        from->kind != PST_KIND_OBJECT || from->size == PST_UNKNOWN
            ? Py_NewRef(Py_None)
            : PyLong_FromUnsignedLongLong(from->size),
        from->mtime_ns == PST_TIME_UNKNOWN ? Py_NewRef(Py_None)
                                           : PyLong_FromLongLong(from->mtime_ns),
        Py_NewRef(kind_names[from->kind == PST_KIND_PREFIX]),
        text_or_none(from->etag),
        text_or_none(from->version),
        text_or_none(from->content_encoding),
        text_or_none(from->storage_class),
        PyBool_FromLong((from->flags & PST_ENTRY_LATEST) != 0),
        PyBool_FromLong((from->flags & PST_ENTRY_DELETE_MARKER) != 0),
    };
    PyObject *entry = PyStructSequence_New(py_module.entry);

    for (int i = 0; i < N_FIELDS; i++) {
        if (entry && values[i])
            PyStructSequence_SetItem(entry, i, values[i]); /* takes it over */
        else
            Py_XDECREF(values[i]);
    }
    if (entry && PyErr_Occurred())
        Py_CLEAR(entry);
    return entry;
}

/* ---- the iterator -------------------------------------------------------------------------------- */

static int fetch_page(struct listing *self)
{
    pst_error err = PST_ERROR_INIT;
    struct py_call call;
    int result;
    pst_rc rc;

    if (py_call_begin(&call, self->timeout_s) < 0)
        return -1;
    self->is_busy = 1;
    self->n = self->at = 0;
    rc = pst_list_page(self->list, &call.limits, &self->entries, &self->n, &err);
    result = py_call_end(&call);
    self->is_busy = 0;
    if (rc != PST_OK)
        self->n = 0;
    if (result < 0)
        return -1;
    if (rc != PST_OK) {
        py_raise(rc, &err, self->uri);
        return -1;
    }
    self->is_at_end = self->n == 0;
    return 0;
}

static PyObject *listing_next(PyObject *object)
{
    struct listing *self = listing_of(object);

    if (self->is_busy) {
        PyErr_SetString(PyExc_ValueError, "another thread is using this listing");
        return NULL;
    }
    if (self->at == self->n && !self->is_at_end && fetch_page(self) < 0)
        return NULL;
    return self->at < self->n ? entry_new(&self->entries[self->at++]) : NULL;
}

static PyObject *listing_iter(PyObject *object)
{
    return Py_NewRef(object);
}

static int listing_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(listing_of(object)->owner);
    return 0;
}

static void listing_dealloc(PyObject *object)
{
    struct listing *self = listing_of(object);
    PyTypeObject *type = Py_TYPE(object);
    pst_list *list = self->list;
    PyThreadState *save;

    PyObject_GC_UnTrack(object);
    if (list) {
        save = PyEval_SaveThread();
        pst_list_free(list);
        PyEval_RestoreThread(save);
    }
    Py_CLEAR(self->owner);
    Py_CLEAR(self->uri);
    PyObject_GC_Del(object);
    Py_DECREF((PyObject *)type);
}

/* Takes over `list`, after a failure too. */
static PyObject *listing_new(pst_list *list, const struct py_place *place, double timeout_s)
{
    PyObject *object = PyType_GenericAlloc(py_module.listing, 0);
    struct listing *self = listing_of(object);

    if (!object) {
        pst_list_free(list);
        return NULL;
    }
    self->list = list;
    self->timeout_s = timeout_s;
    if (PyObject_TypeCheck(place->self, py_module.store))
        self->owner = Py_NewRef(place->self);
    self->uri = py_place_uri(place);
    if (!self->uri)
        Py_CLEAR(object);
    return object;
}

/* ---- starting one -------------------------------------------------------------------------------- */

struct list_in {
    PyObject *prefix, *delimiter, *start_after, *page_entries, *timeout;
    int is_recursive, is_ordered, wants_versions, wants_empty_dirs;
};

/* The only delimiter there is. */
static int check_delimiter(struct list_in *in)
{
    if (!in->delimiter || in->delimiter == Py_None)
        return 0;
    if (!PyUnicode_Check(in->delimiter)) {
        PyErr_Format(PyExc_TypeError, "delimiter must be a str or None, not %R",
                     Py_TYPE(in->delimiter));
        return -1;
    }
    if (PyUnicode_CompareWithASCIIString(in->delimiter, "/") != 0) {
        PyErr_Format(PyExc_ValueError, "delimiter can only be '/' or None, not %R", in->delimiter);
        return -1;
    }
    in->is_recursive = 0;
    return 0;
}

static int take_options(struct list_in *in, struct py_text *after, pst_list_options *out,
                        double *timeout_s)
{
    uint64_t page_entries;

    if (check_delimiter(in) < 0 || py_timeout_take(in->timeout, timeout_s) < 0 ||
        py_u64_take(in->page_entries, "page_entries", 0, &page_entries) < 0)
        return -1;
    if (in->page_entries != Py_None && (page_entries == 0 || page_entries > 1000000)) {
        PyErr_SetString(PyExc_ValueError, "page_entries is not from 1 to 1,000,000");
        return -1;
    }
    if (py_text_take_optional(in->start_after, "start_after", after) < 0)
        return -1;
    *out = (pst_list_options){
        .struct_size = sizeof(*out),
        .flags = (in->is_recursive ? PST_LISTING_RECURSIVE : 0) |
                 (in->is_ordered ? 0 : PST_LISTING_UNORDERED) |
                 (in->wants_versions ? PST_LISTING_VERSIONS : 0) |
                 (in->wants_empty_dirs ? PST_LISTING_EMPTY_DIRS : 0),
        .start_after = after->str,
        .page_entries = (uint32_t)page_entries,
    };
    return 0;
}

/* `prefix` NULL: an empty key. */
static int take_prefix(PyObject *self, PyObject *prefix, struct py_place *place)
{
    PyObject *empty = prefix ? Py_NewRef(prefix) : PyUnicode_FromString("");
    int result = empty ? py_place_take(self, empty, place) : -1;

    Py_XDECREF(empty);
    return result;
}

static PyObject *start_listing(PyObject *self, struct list_in *in)
{
    pst_error err = PST_ERROR_INIT;
    pst_list_options options;
    PyObject *result = NULL;
    struct py_text after;
    struct py_place place;
    pst_list *list = NULL;
    double timeout_s;
    pst_rc rc;

    if (take_options(in, &after, &options, &timeout_s) < 0)
        return NULL;
    if (take_prefix(self, in->prefix, &place) == 0) {
        rc = pst_list_open(place.store, place.key, &options, &list, &err);
        result = rc == PST_OK ? listing_new(list, &place, timeout_s)
                              : py_place_fail(&place, rc, &err);
        py_place_clear(&place);
    }
    py_text_clear(&after);
    return result;
}

PyObject *py_list_new(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char prefix[] = "prefix", uri[] = "uri";
    int is_store = PyObject_TypeCheck(self, py_module.store);
    char *names[] = {is_store ? prefix : uri,
                     "recursive",
                     "delimiter",
                     "start_after",
                     "ordered",
                     "versions",
                     "empty_dirs",
                     "page_entries",
                     "timeout",
                     NULL};
    struct list_in in = {
        .page_entries = Py_None, .timeout = Py_None, .is_recursive = 1, .is_ordered = 1};

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, is_store ? "|O$pOOpppOO:list" : "O|$pOOpppOO:iterate", names, &in.prefix,
            &in.is_recursive, &in.delimiter, &in.start_after, &in.is_ordered, &in.wants_versions,
            &in.wants_empty_dirs, &in.page_entries, &in.timeout))
        return NULL;
    return start_listing(self, &in);
}

PyObject *py_list_new_containers(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char prefix_word[] = "prefix", uri_word[] = "uri";
    int is_store = PyObject_TypeCheck(self, py_module.store);
    char *names[] = {is_store ? prefix_word : uri_word, "timeout", NULL};
    PyObject *prefix = NULL, *timeout = Py_None, *result = NULL;
    pst_error err = PST_ERROR_INIT;
    struct py_place place;
    pst_list *list = NULL;
    double timeout_s;
    pst_rc rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs,
                                     is_store ? "|O$O:list_containers" : "O|$O:iterate_containers",
                                     names, &prefix, &timeout) ||
        py_timeout_take(timeout, &timeout_s) < 0 || take_prefix(self, prefix, &place) < 0)
        return NULL;
    rc = pst_container_list(place.store, place.key, &list, &err);
    result = rc == PST_OK ? listing_new(list, &place, timeout_s) : py_place_fail(&place, rc, &err);
    py_place_clear(&place);
    return result;
}

/* ---- the module's part --------------------------------------------------------------------------- */

static int add_entry_type(PyObject *module)
{
    static PyStructSequence_Field fields[] = {
        {"key", "the whole key; a common prefix ends in '/'"},
        {"size", "bytes as stored; None of a prefix"},
        {"mtime_ns", "last modified, nanoseconds since 1970 UTC, or None"},
        {"kind", "'object' or 'prefix'"},
        {"etag", "names this content, or None"},
        {"version", "the provider's version id, or None"},
        {"content_encoding", "as the store keeps it, or None"},
        {"storage_class", "as the store keeps it, or None"},
        {"is_latest", "of a listing of versions: a read without a version gets this one"},
        {"is_delete_marker", "of a listing of versions: the key was deleted here"},
        {NULL, NULL},
    };
    static PyStructSequence_Desc desc = {"penstock.Entry", "One line of a listing.", fields,
                                         N_FIELDS};

    py_module.entry = PyStructSequence_NewType(&desc);
    return py_module.entry ? PyModule_AddObjectRef(module, "Entry", (PyObject *)py_module.entry)
                           : -1;
}

int py_list_init(PyObject *module)
{
    PyType_Slot slots[] = {
        {Py_tp_doc, "A listing under way: iterate over it."},
        {Py_tp_dealloc, PY_SLOT(listing_dealloc)},
        {Py_tp_traverse, PY_SLOT(listing_traverse)},
        {Py_tp_iter, PY_SLOT(listing_iter)},
        {Py_tp_iternext, PY_SLOT(listing_next)},
        {0, NULL},
    };
    PyType_Spec spec = {.name = "penstock.Listing",
                        .basicsize = sizeof(struct listing),
                        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                 Py_TPFLAGS_DISALLOW_INSTANTIATION,
                        .slots = slots};
    PyObject *type;

    kind_names[PST_KIND_OBJECT] = PyUnicode_InternFromString("object");
    kind_names[PST_KIND_PREFIX] = PyUnicode_InternFromString("prefix");
    if (!kind_names[0] || !kind_names[1] || add_entry_type(module) < 0)
        return -1;
    type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!type)
        return -1;
    py_module.listing = (PyTypeObject *)type;
    return PyModule_AddObjectRef(module, "Listing", type);
}
