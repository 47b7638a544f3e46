/* store.c - penstock.Store, and the stores that URIs lie in.
 *
 * A Store is one scheme, one authority and one set of options; its methods (ops.c) take keys. URIs lie in
 * stores with the default options, which are opened once, kept, and found again by scheme and authority.
 *
 * Credentials that are a mapping are options like others. A callable needs the context's callback, so such a
 * Store has a context of its own; it is called on a thread of that context, which takes the GIL for it.
 *
 * close() lets go of the store when no call is using it any more. One that could not be opened counts as
 * closed: __del__ of a subclass sees it.
 *
 * Pickled are the URI, the options that are no secrets, and a credentials function by its name. What was left
 * out is not looked for elsewhere on the other side: half a key is an error there. */
#include "store.h"

#include <string.h>

/* clang-format off */
struct store_object {
    PyObject_HEAD
    pst_context *context; /* its own, or NULL */
    pst_store *store;     /* NULL: closed */
    PyObject *uri;        /* "s3://bucket/" */
    PyObject *options;    /* without secrets; NULL until it is open */
    PyObject *credentials; /* the callable, or NULL */
    struct py_asker *asker;
    size_t n_busy; /* calls under way */
    int is_closed;
};
/* clang-format on */

static PyObject *kept; /* {b"s3://bucket": address of the store} */

static struct store_object *store_of(PyObject *value)
{
    union {
        PyObject *object;
        struct store_object *store;
    } as = {.object = value};
    return as.store;
}

static int is_store(PyObject *value)
{
    return PyObject_TypeCheck(value, py_module.store);
}

/* ---- opening ------------------------------------------------------------------------------------- */

/* "s3://bucket/" of a URI without a key. */
static int take_uri(PyObject *value, struct py_text *text, PyObject **out)
{
    pst_error err = PST_ERROR_INIT;
    PyObject *given, *base;
    pst_uri parts;
    pst_rc rc;

    if (py_uri_take(value, text) < 0)
        return -1;
    given = py_str_of(text->str);
    if (!given)
        goto fail;
    rc = pst_uri_parse(text->str, &parts, &err);
    if (rc == PST_OK && parts.key.len > 0) {
        rc = PST_E_INVALID;
        PyOS_snprintf(err.message, sizeof(err.message),
                      "the URI of a Store ends with its bucket ('s3://bucket/', 'file:///'): keys "
                      "go to its methods");
        err.code = rc;
    }
    if (rc != PST_OK) {
        py_raise(rc, &err, given);
        Py_DECREF(given);
        goto fail;
    }
    base = py_str_of(pst_str_of(text->str.ptr, parts.scheme.len + 3 + parts.authority.len));
    *out = base ? PyUnicode_FromFormat("%U/", base) : NULL;
    Py_XDECREF(base);
    Py_DECREF(given);
    if (*out)
        return 0;
fail:
    py_text_clear(text);
    return -1;
}

static int open_store(struct store_object *self, pst_str uri, PyObject *options)
{
    pst_error err = PST_ERROR_INIT;
    pst_context *context;
    PyThreadState *save;
    struct py_kv kv;
    pst_rc rc;

    if (py_kv_take(options, "an option", &kv) < 0)
        return -1;
    if (self->credentials) {
        self->asker = py_asker_new(self->credentials);
        self->context = self->asker ? py_asker_context(self->asker, self->uri) : NULL;
    }
    context = self->credentials ? self->context : py_context();
    if (!context) {
        py_kv_clear(&kv);
        return -1;
    }
    save = PyEval_SaveThread();
    rc = pst_store_open(context, uri, kv.kv, kv.n, &self->store, &err);
    PyEval_RestoreThread(save);
    py_kv_clear(&kv);
    if (rc != PST_OK) {
        self->store = NULL;
        py_raise(rc, &err, self->uri);
        return -1;
    }
    self->options = py_options_public(self->store, options);
    if (!self->options)
        return -1;
    self->is_closed = 0;
    return 0;
}

static PyObject *store_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"uri", "options", "credentials", NULL};
    PyObject *uri, *options = Py_None, *credentials = Py_None, *all, *base;
    struct store_object *self;
    struct py_text text;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$O:Store", names, &uri, &options,
                                     &credentials))
        return NULL;
    if (credentials != Py_None && !PyDict_Check(credentials) && !PyCallable_Check(credentials))
        return PyErr_Format(PyExc_TypeError,
                            "credentials must be a dict, a callable or None, not %R",
                            Py_TYPE(credentials));
    all = py_options_join(options, credentials);
    if (!all)
        return NULL;
    if (take_uri(uri, &text, &base) < 0) {
        Py_DECREF(all);
        return NULL;
    }
    self = store_of(PyType_GenericAlloc(type, 0));
    if (self) {
        self->uri = Py_NewRef(base);
        self->is_closed = 1;
        if (credentials != Py_None && !PyDict_Check(credentials))
            self->credentials = Py_NewRef(credentials);
        if (open_store(self, text.str, all) < 0)
            Py_CLEAR(self);
    }
    Py_DECREF(base);
    py_text_clear(&text);
    Py_DECREF(all);
    return (PyObject *)self;
}

/* ---- closing ------------------------------------------------------------------------------------- */

/* Without the GIL: what is in flight may need it to end. */
static void let_go(struct store_object *self)
{
    pst_context *context = self->context;
    pst_store *store = self->store;
    PyThreadState *save;

    self->store = NULL;
    self->context = NULL;
    py_asker_drop(self->asker);
    if (!store && !context)
        return;
    save = PyEval_SaveThread();
    if (store)
        pst_store_free(store);
    pst_context_free(context);
    PyEval_RestoreThread(save);
}

static PyObject *store_close(PyObject *object, PyObject *unused)
{
    struct store_object *self = store_of(object);

    (void)unused;
    if (!self->is_closed) {
        self->is_closed = 1;
        if (self->n_busy == 0)
            let_go(self);
    }
    Py_RETURN_NONE;
}

static PyObject *store_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    if (store_of(object)->is_closed) {
        PyErr_SetString(PyExc_ValueError, "the Store is closed");
        return NULL;
    }
    return Py_NewRef(object);
}

static PyObject *store_exit(PyObject *object, PyObject *args)
{
    (void)args;
    return store_close(object, NULL);
}

static int store_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct store_object *self = store_of(object);

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->options);
    Py_VISIT(self->credentials);
    return 0;
}

static void store_dealloc(PyObject *object)
{
    struct store_object *self = store_of(object);
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    let_go(self);
    Py_CLEAR(self->uri);
    Py_CLEAR(self->options);
    Py_CLEAR(self->credentials);
    PyObject_GC_Del(object);
    Py_DECREF((PyObject *)type);
}

/* ---- the rest of the type ------------------------------------------------------------------------ */

/* A function is pickled by its name. Other callables would carry what they hold, secrets perhaps. */
static int is_named_function(PyObject *callable)
{
    PyObject *types = PyImport_ImportModule("types");
    PyObject *function = types ? PyObject_GetAttrString(types, "FunctionType") : NULL;
    int result = function ? PyObject_IsInstance(callable, function) : -1;

    Py_XDECREF(function);
    Py_XDECREF(types);
    return result;
}

/* To the exception that is set: why options that were given are not there. */
static void note_secrets(void)
{
    PyObject *type, *value, *trace, *done;

    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    done = value ? PyObject_CallMethod(value, "add_note", "s",
                                       "secrets are left out when a Store is pickled: give it a "
                                       "function as its credentials, or none, so that they are "
                                       "found where it runs")
                 : NULL;
    Py_XDECREF(done);
    PyErr_Clear();
    PyErr_Restore(type, value, trace);
}

static PyObject *restore(PyObject *module, PyObject *args)
{
    PyObject *type, *uri, *options, *credentials, *positional, *named = NULL, *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(args, "OOOO:_restore_store", &type, &uri, &options, &credentials))
        return NULL;
    positional = PyTuple_Pack(2, uri, options);
    named = positional ? PyDict_New() : NULL;
    if (named && PyDict_SetItemString(named, "credentials", credentials) == 0)
        result = PyObject_Call(type, positional, named);
    if (!result && PyErr_ExceptionMatches(py_module.error))
        note_secrets();
    Py_XDECREF(named);
    Py_XDECREF(positional);
    return result;
}

static PyObject *store_reduce(PyObject *object, PyObject *unused)
{
    struct store_object *self = store_of(object);
    PyObject *module, *function, *state, *result;
    int is_named = self->credentials ? is_named_function(self->credentials) : 1;

    (void)unused;
    if (is_named < 0)
        return NULL;
    if (!is_named) {
        PyErr_SetString(PyExc_TypeError, "a Store is pickled with a function as its credentials, "
                                         "by name, but not with other callables");
        return NULL;
    }
    module = PyImport_ImportModule("penstock._penstock");
    function = module ? PyObject_GetAttrString(module, "_restore_store") : NULL;
    /* The attributes that a subclass brings; None of a plain Store. */
    state = function ? PyObject_CallMethod(object, "__getstate__", NULL) : NULL;
    result = state ? Py_BuildValue("O(OOOO)O", function, (PyObject *)Py_TYPE(object), self->uri,
                                   self->options ? self->options : Py_None,
                                   self->credentials ? self->credentials : Py_None, state)
                   : NULL;
    Py_XDECREF(state);
    Py_XDECREF(function);
    Py_XDECREF(module);
    return result;
}

/* For copy and deepcopy, which would leave the secrets out as well: all holders share one Store. */
static PyObject *store_copy(PyObject *object, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(object);
}

static PyObject *store_repr(PyObject *object)
{
    struct store_object *self = store_of(object);

    return PyUnicode_FromFormat("<penstock.Store %R%s>", self->uri,
                                self->is_closed ? ", closed" : "");
}

static PyObject *get_uri(PyObject *object, void *unused)
{
    (void)unused;
    return Py_NewRef(store_of(object)->uri);
}

static PyObject *get_options(PyObject *object, void *unused)
{
    (void)unused;
    PyObject *options = store_of(object)->options;
    return options ? PyDict_Copy(options) : PyDict_New();
}

static PyObject *get_closed(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(store_of(object)->is_closed);
}

/* clang-format off */
static PyGetSetDef store_values[] = {
    {"uri", get_uri, NULL, "Scheme and authority, with a slash at the end.", NULL},
    {"options", get_options, NULL, "A copy of the options that are no secrets.", NULL},
    {"closed", get_closed, NULL, "Was close() called?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef own_methods[] = {
    {"close", store_close, METH_NOARGS,
     "close($self)\n--\n\nLet go of the store; calls under way end first. May be repeated."},
    {"__enter__", store_enter, METH_NOARGS, NULL},
    {"__exit__", store_exit, METH_VARARGS, NULL},
    {"__reduce__", store_reduce, METH_NOARGS, NULL},
    {"__copy__", store_copy, METH_NOARGS, "__copy__($self, /)\n--\n\nThe Store itself."},
    {"__deepcopy__", store_copy, METH_O, "__deepcopy__($self, memo, /)\n--\n\nThe Store itself."},
    {NULL, NULL, 0, NULL},
};
/* clang-format on */

/* A type has one table. */
static PyMethodDef *join_methods(void)
{
    static PyMethodDef all[64];
    size_t n = 0;

    for (const PyMethodDef *m = own_methods; m->ml_name; m++)
        all[n++] = *m;
    for (const PyMethodDef *m = py_store_methods(); m->ml_name; m++)
        all[n++] = *m;
    return all;
}

/* ---- places -------------------------------------------------------------------------------------- */

pst_context *py_store_context(PyObject *value)
{
    struct store_object *self = store_of(value);
    return is_store(value) && self->context ? self->context : py_context();
}

static pst_store *find_kept(PyObject *name)
{
    PyObject *address = PyDict_GetItemWithError(kept, name);
    return address ? PyLong_AsVoidPtr(address) : NULL;
}

/* Open the store and keep it, unless another thread was faster. */
static pst_store *open_kept(PyObject *name, pst_str uri)
{
    pst_error err = PST_ERROR_INIT;
    pst_context *context = py_context();
    pst_store *store = NULL, *other;
    PyThreadState *save;
    PyObject *address;
    pst_rc rc;

    if (!context)
        return NULL;
    save = PyEval_SaveThread();
    rc = pst_store_open(context, uri, NULL, 0, &store, &err);
    PyEval_RestoreThread(save);
    if (rc != PST_OK) {
        PyObject *text = py_str_of(uri);
        if (text)
            py_raise(rc, &err, text);
        Py_XDECREF(text);
        return NULL;
    }
    other = find_kept(name);
    if (other) {
        pst_store_free(store); /* not the last reference */
        return other;
    }
    address = PyErr_Occurred() ? NULL : PyLong_FromVoidPtr(store);
    if (!address || PyDict_SetItem(kept, name, address) < 0) {
        pst_store_free(store);
        store = NULL;
    }
    Py_XDECREF(address);
    return store;
}

pst_store *py_store_at(pst_str uri, pst_str *key)
{
    pst_error err = PST_ERROR_INIT;
    pst_store *store = NULL;
    PyObject *name;
    pst_uri parts;
    pst_rc rc = pst_uri_parse(uri, &parts, &err);

    if (rc != PST_OK) {
        PyObject *text = py_str_of(uri);
        if (text)
            py_raise(rc, &err, text);
        Py_XDECREF(text);
        return NULL;
    }
    *key = parts.key;
    name = PyBytes_FromStringAndSize(uri.ptr,
                                     (Py_ssize_t)(parts.scheme.len + 3 + parts.authority.len));
    if (!name)
        return NULL;
    store = find_kept(name);
    if (!store && !PyErr_Occurred())
        store = open_kept(name, uri);
    Py_DECREF(name);
    return store;
}

char *py_place_word(PyObject *self)
{
    static char key[] = "key", uri[] = "uri";
    return is_store(self) ? key : uri;
}

int py_place_take(PyObject *self, PyObject *value, struct py_place *out)
{
    memset(out, 0, sizeof(*out));
    out->self = self;
    if (is_store(self)) {
        struct store_object *store = store_of(self);
        if (store->is_closed) {
            PyErr_SetString(PyExc_ValueError, "the Store is closed");
            return -1;
        }
        if (py_text_take(value, "key", &out->text) < 0)
            return -1;
        out->store = store->store;
        out->key = out->text.str;
        store->n_busy++;
        return 0;
    }
    if (py_uri_take(value, &out->text) < 0)
        return -1;
    out->store = py_store_at(out->text.str, &out->key);
    if (out->store)
        return 0;
    py_text_clear(&out->text);
    return -1;
}

void py_place_clear(struct py_place *place)
{
    if (!place->store)
        return;
    py_text_clear(&place->text);
    place->store = NULL;
    if (is_store(place->self)) {
        struct store_object *store = store_of(place->self);
        store->n_busy--;
        if (store->n_busy == 0 && store->is_closed)
            let_go(store);
    }
}

PyObject *py_place_uri(const struct py_place *place)
{
    PyObject *text = py_str_of(place->text.str), *uri;

    if (!text || !is_store(place->self))
        return text;
    uri = PyUnicode_Concat(store_of(place->self)->uri, text);
    Py_DECREF(text);
    return uri;
}

PyObject *py_place_fail(const struct py_place *place, pst_rc rc, const pst_error *err)
{
    PyObject *uri = PyErr_Occurred() ? NULL : py_place_uri(place);

    if (uri)
        py_raise(rc, err, uri);
    Py_XDECREF(uri);
    return NULL;
}

/* ---- the module's part --------------------------------------------------------------------------- */

int py_store_init(PyObject *module)
{
    static PyMethodDef functions[] = {{"_restore_store", restore, METH_VARARGS, NULL},
                                      {NULL, NULL, 0, NULL}};
    PyType_Slot slots[] = {
        {Py_tp_doc,
         "Store(uri, options=None, *, credentials=None)\n--\n\n"
         "One bucket or file system with options of its own; its methods take keys.\n\n"
         "options: a dict of the backend's own options. credentials: a dict of them, or a callable "
         "that is given the URI and returns such a dict, with 'expires' (seconds since 1970, or a "
         "datetime) where they end."},
        {Py_tp_new, PY_SLOT(store_new)},
        {Py_tp_dealloc, PY_SLOT(store_dealloc)},
        {Py_tp_traverse, PY_SLOT(store_traverse)},
        {Py_tp_repr, PY_SLOT(store_repr)},
        {Py_tp_methods, join_methods()},
        {Py_tp_getset, store_values},
        {0, NULL},
    };
    PyType_Spec spec = {.name = "penstock.Store",
                        .basicsize = sizeof(struct store_object),
                        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                        .slots = slots};
    PyObject *type;

    kept = PyDict_New();
    if (!kept || py_asker_init() < 0 || PyModule_AddFunctions(module, functions) < 0)
        return -1;
    type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!type)
        return -1;
    py_module.store = (PyTypeObject *)type;
    if (PyModule_AddObjectRef(module, "Store", type) < 0)
        return -1;
    return py_ops_init(module);
}
