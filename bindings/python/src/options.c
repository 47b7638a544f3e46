/* options.c - which options of a Store may be shown and pickled.
 *
 * A plugin's manifest says which of its options are secrets. Where there is no manifest to read, as for a
 * plugin that is linked in, every option counts as one. So does a URL with a password, whatever the option. */
#include "store.h"

#include <string.h>

#include <penstock/plugins.h>

static PyObject *known; /* {plugin id: frozenset of the names of its options that are no secrets} */

PyObject *py_options_join(PyObject *options, PyObject *credentials)
{
    PyObject *all;

    if (options != Py_None && !PyDict_Check(options)) {
        PyErr_Format(PyExc_TypeError, "options must be a dict or None, not %R", Py_TYPE(options));
        return NULL;
    }
    all = PyDict_New();
    if (all && options != Py_None && PyDict_Merge(all, options, 1) < 0)
        Py_CLEAR(all);
    if (all && PyDict_Check(credentials) && PyDict_Merge(all, credentials, 1) < 0)
        Py_CLEAR(all);
    return all;
}

/* The manifest of the plugin, as json.load gives it; None where there is no file. */
static PyObject *load_manifest(const char *id)
{
    PyObject *path = NULL, *io, *file, *json, *result;
    pst_plugin_info *infos = NULL, *info;
    size_t n = 0;

    if (pst_plugins_list(py_context(), &infos, &n, NULL) != PST_OK)
        return PyErr_NoMemory();
    info = infos;
    for (size_t i = 0; i < n && !path && !PyErr_Occurred(); i++) {
        if (info->state != PST_PLUGIN_SHADOWED && strcmp(info->id, id) == 0 &&
            info->manifest_path[0])
            path = py_str_of_chars(info->manifest_path);
        info = (pst_plugin_info *)(void *)((char *)info + info->struct_size);
    }
    pst_plugins_free(infos);
    if (!path)
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    json = PyImport_ImportModule("json");
    io = json ? PyImport_ImportModule("io") : NULL;
    file = io ? PyObject_CallMethod(io, "open", "Os", path, "rb") : NULL;
    result = file ? PyObject_CallMethod(json, "load", "O", file) : NULL;
    if (result)
        Py_XDECREF(PyObject_CallMethod(file, "close", NULL));
    Py_XDECREF(file);
    Py_XDECREF(io);
    Py_XDECREF(json);
    Py_DECREF(path);
    return result;
}

static int add_public_name(PyObject *names, PyObject *option)
{
    PyObject *name = PyDict_Check(option) ? PyDict_GetItemString(option, "name") : NULL;

    if (!name || PyDict_GetItemString(option, "secret"))
        return 0;
    return PySet_Add(names, name);
}

static PyObject *load_public_names(const char *id)
{
    PyObject *manifest = load_manifest(id), *options, *names;

    if (!manifest)
        return NULL;
    names = PySet_New(NULL);
    options = PyDict_Check(manifest) ? PyDict_GetItemString(manifest, "options") : NULL;
    if (options && PyList_Check(options)) {
        for (Py_ssize_t i = 0; names && i < PyList_Size(options); i++) {
            if (add_public_name(names, PyList_GetItem(options, i)) < 0)
                Py_CLEAR(names);
        }
    }
    Py_DECREF(manifest);
    return names;
}

/* Borrowed. */
static PyObject *find_public_names(const char *id)
{
    PyObject *names;

    if (!known)
        known = PyDict_New();
    names = known ? PyDict_GetItemString(known, id) : NULL;
    if (names || !known)
        return names;
    names = load_public_names(id);
    if (names && PyDict_SetItemString(known, id, names) < 0)
        Py_CLEAR(names);
    Py_XDECREF(names); /* the dict has it */
    return names;
}

static const char *find_any(const char *begin, const char *end, const char *set)
{
    while (begin < end && !strchr(set, *begin))
        begin++;
    return begin;
}

/* "http://user:password@host", or the same without a scheme, as proxies may be named. */
static int holds_password(pst_str text)
{
    const char *end = text.ptr + text.len;
    const char *mark = text.len > 0 ? memmem(text.ptr, text.len, "://", 3) : NULL;
    const char *begin = mark ? mark + 3 : text.ptr;
    const char *stop = find_any(begin, end, "/?#");
    const char *colon = find_any(begin, stop, ":");

    return find_any(colon, stop, "@") < stop;
}

/* -1 with an exception. */
static int is_shown(PyObject *names, PyObject *key, PyObject *value)
{
    int result = PySet_Contains(names, key);
    struct py_text text;

    if (result <= 0 || !(PyUnicode_Check(value) || PyBytes_Check(value)))
        return result;
    if (py_text_take(value, "an option", &text) < 0)
        return -1;
    result = !holds_password(text.str);
    py_text_clear(&text);
    return result;
}

PyObject *py_options_public(pst_store *store, PyObject *options)
{
    pst_store_info info = {.struct_size = sizeof(info)};
    PyObject *names, *key, *value, *result = PyDict_New();
    Py_ssize_t at = 0;

    if (!result || PyDict_Size(options) == 0)
        return result;
    pst_store_describe(store, &info);
    names = find_public_names(info.plugin);
    if (!names)
        Py_CLEAR(result);
    while (result && PyDict_Next(options, &at, &key, &value)) {
        int is_public = is_shown(names, key, value);
        if (is_public < 0 || (is_public && PyDict_SetItem(result, key, value) < 0))
            Py_CLEAR(result);
    }
    return result;
}
