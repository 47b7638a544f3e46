/* many.c - get_many and get_ranges: functions of the module and methods of Store.
 *
 * Everything is checked and taken before anything is sent. Results come in the order of what was asked for;
 * the same object asked for twice comes twice. Objects of several buckets are read one bucket after the
 * other, since the engine reads many of one store. */
#include "many.h"

#include <stdlib.h>

#define IN_FLIGHT 64u

/* The names of arguments, for tables that are not const. */
static char word_uris[] = "uris", word_keys[] = "keys", word_ranges[] = "ranges",
            word_max_in_flight[] = "max_in_flight", word_timeout[] = "timeout",
            word_return_exceptions[] = "return_exceptions",
            word_merge_gap_bytes[] = "merge_gap_bytes";

/* ---- get_many ------------------------------------------------------------------------------------ */

struct gets {
    PyObject *given; /* the list */
    struct py_place *places;
    pst_get_result *results;
    char *is_taken; /* which of them were read, or are being read */
    size_t n;
    /* Those of the store that is read now: which ones they are, what is asked for, what came. */
    size_t *at;
    pst_get_item *items;
    pst_get_result *came;
    pst_many_options options;
};

static void clear_gets(struct gets *gets)
{
    if (gets->results)
        pst_get_results_free(gets->results, gets->n);
    py_places_clear(gets->places, gets->n);
    free(gets->results);
    free(gets->is_taken);
    free(gets->at);
    free(gets->items);
    free(gets->came);
    Py_CLEAR(gets->given);
}

static int take_gets(PyObject *self, PyObject *value, struct gets *gets)
{
    gets->given = py_items_take(value, py_is_of_store(self) ? "keys" : "uris");
    if (!gets->given)
        return -1;
    gets->n = (size_t)PyList_Size(gets->given);
    size_t room = gets->n ? gets->n : 1;
    gets->places = calloc(room, sizeof(*gets->places));
    gets->results = calloc(room, sizeof(*gets->results));
    gets->is_taken = calloc(room, sizeof(*gets->is_taken));
    gets->at = calloc(room, sizeof(*gets->at));
    gets->items = calloc(room, sizeof(*gets->items));
    gets->came = calloc(room, sizeof(*gets->came));
    if (!gets->places || !gets->results || !gets->is_taken || !gets->at || !gets->items ||
        !gets->came) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < gets->n; i++) {
        if (py_places_take(self, PyList_GetItem(gets->given, (Py_ssize_t)i), gets->places, i) < 0)
            return -1;
    }
    return 0;
}

/* Take all that lie in the store of the first one that was not taken yet. Returns how many. */
static size_t gather(struct gets *gets, size_t first)
{
    size_t n = 0;
    for (size_t i = first; i < gets->n; i++) {
        if (gets->is_taken[i] || gets->places[i].store != gets->places[first].store)
            continue;
        gets->is_taken[i] = 1;
        gets->items[n] = (pst_get_item){.key = gets->places[i].key, .length = PST_UNKNOWN};
        gets->at[n++] = i;
    }
    return n;
}

/* Did the call fail as a whole, before all items had ended? */
static int is_cut_short(const pst_get_result *results, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (results[i].status != PST_OK && !results[i].error)
            return 1;
    }
    return 0;
}

/* Without the GIL. Returns OK when each item has a result, though it may be an error. */
static pst_rc run_gets(struct gets *gets, const pst_call *limits, pst_error *err)
{
    uint64_t began_ms = py_now_ms();
    pst_call call = *limits;
    for (size_t first = 0; first < gets->n; first++) {
        if (gets->is_taken[first])
            continue;
        size_t n = gather(gets, first);
        call.timeout_ms = py_time_left(limits->timeout_ms, began_ms);
        pst_rc rc = pst_get_many(gets->places[first].store, gets->items, n, &gets->options, &call,
                                 gets->came, err);
        for (size_t i = 0; i < n; i++)
            gets->results[gets->at[i]] = gets->came[i];
        if (rc != PST_OK &&
            ((gets->options.flags & PST_MANY_STOP_AT_FIRST) || is_cut_short(gets->came, n)))
            return rc;
    }
    return PST_OK;
}

/* Raise what ended the call: the error of an item, or one of the call itself. Returns NULL. */
static PyObject *raise_get(const struct gets *gets, pst_rc rc, const pst_error *err)
{
    for (size_t i = 0; i < gets->n; i++) {
        if (gets->results[i].status == rc && gets->results[i].error)
            return py_place_fail(&gets->places[i], rc, gets->results[i].error);
    }
    return py_raise(rc, err, NULL);
}

/* The name of an object as it was given, where that was text. New reference. */
static PyObject *name_of(PyObject *given, const struct py_place *place)
{
    return PyUnicode_Check(given) ? Py_NewRef(given) : py_str_of(place->text.str);
}

/* The view of what was read, or the exception in its place. New reference. */
static PyObject *take_result(const struct py_place *place, pst_get_result *result)
{
    if (result->status == PST_OK) {
        pst_buffer *buffer = result->buffer;
        result->buffer = NULL;
        return py_view_new(buffer);
    }
    PyObject *uri = py_place_uri(place);
    PyObject *error = uri ? py_exception_new(result->status, result->error, uri) : NULL;
    Py_XDECREF(uri);
    return error;
}

static PyObject *list_gets(struct gets *gets)
{
    PyObject *list = PyList_New((Py_ssize_t)gets->n);
    for (size_t i = 0; list && i < gets->n; i++) {
        PyObject *given = PyList_GetItem(gets->given, (Py_ssize_t)i);
        PyObject *name = name_of(given, &gets->places[i]);
        PyObject *value = name ? take_result(&gets->places[i], &gets->results[i]) : NULL;
        PyObject *pair = value ? PyTuple_Pack(2, name, value) : NULL;
        Py_XDECREF(value);
        Py_XDECREF(name);
        if (!pair || PyList_SetItem(list, (Py_ssize_t)i, pair) < 0)
            Py_CLEAR(list);
    }
    return list;
}

PyObject *py_get_many(PyObject *self, PyObject *args, PyObject *kwargs)
{
    char *names[] = {py_is_of_store(self) ? word_keys : word_uris, word_max_in_flight,
                     word_return_exceptions, word_timeout, NULL};
    PyObject *uris, *in_flight = Py_None, *timeout = Py_None, *list = NULL;
    struct gets gets = {.options = {.struct_size = sizeof(gets.options)}};
    pst_error err = PST_ERROR_INIT;
    struct py_call call;
    int each_may_fail = 0;
    double timeout_s;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$pO:get_many", names, &uris, &in_flight,
                                     &each_may_fail, &timeout) ||
        py_in_flight_take(in_flight, IN_FLIGHT, &gets.options.max_in_flight) < 0 ||
        py_timeout_take(timeout, &timeout_s) < 0)
        return NULL;
    gets.options.flags = each_may_fail ? 0 : PST_MANY_STOP_AT_FIRST;
    if (take_gets(self, uris, &gets) == 0 && py_call_begin(&call, timeout_s) == 0) {
        pst_rc rc = run_gets(&gets, &call.limits, &err);
        if (py_call_end(&call) == 0)
            list = rc == PST_OK ? list_gets(&gets) : raise_get(&gets, rc, &err);
    }
    clear_gets(&gets);
    return list;
}

/* ---- get_ranges ---------------------------------------------------------------------------------- */

/* Ranges of a list of (offset, length) pairs; free(*out). */
static int take_ranges(PyObject *value, pst_range **out, size_t *n)
{
    PyObject *list = py_items_take(value, "ranges");
    int result = list ? 0 : -1;
    *n = list ? (size_t)PyList_Size(list) : 0;
    *out = list ? calloc(*n ? *n : 1, sizeof(**out)) : NULL;
    if (list && !*out) {
        PyErr_NoMemory();
        result = -1;
    }
    for (size_t i = 0; result == 0 && i < *n; i++) {
        PyObject *pair, *offset, *length;
        result = py_pair_take(PyList_GetItem(list, (Py_ssize_t)i),
                              "each of the ranges must be a pair (offset, length)", &pair, &offset,
                              &length);
        if (result == 0 && (py_u64_take(offset, "offset", 0, &(*out)[i].offset) < 0 ||
                            py_u64_take(length, "length", PST_UNKNOWN, &(*out)[i].length) < 0))
            result = -1;
        Py_XDECREF(pair);
    }
    Py_XDECREF(list);
    if (result < 0) {
        free(*out);
        *out = NULL;
    }
    return result;
}

static PyObject *list_ranges(pst_get_result *results, size_t n)
{
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list && i < n; i++) {
        PyObject *view = py_view_new(results[i].buffer);
        results[i].buffer = NULL;
        if (!view || PyList_SetItem(list, (Py_ssize_t)i, view) < 0)
            Py_CLEAR(list);
    }
    return list;
}

/* Without the arguments: read, and make a list of what came. */
static PyObject *read_ranges(const struct py_place *place, const pst_range *ranges, size_t n,
                             const pst_ranges_options *options, double timeout_s)
{
    pst_get_result *results = calloc(n ? n : 1, sizeof(*results));
    pst_error err = PST_ERROR_INIT;
    PyObject *list = NULL;
    struct py_call call;
    if (!results)
        return PyErr_NoMemory();
    if (py_call_begin(&call, timeout_s) == 0) {
        pst_rc rc = pst_get_ranges(place->store, place->key, ranges, n, options, &call.limits,
                                   results, NULL, &err);
        if (py_call_end(&call) == 0)
            list = rc == PST_OK ? list_ranges(results, n) : py_place_fail(place, rc, &err);
        pst_get_results_free(results, n);
    }
    free(results);
    return list;
}

PyObject *py_get_ranges(PyObject *self, PyObject *args, PyObject *kwargs)
{
    char *names[] = {py_place_word(self),  word_ranges,  word_max_in_flight,
                     word_merge_gap_bytes, word_timeout, NULL};
    PyObject *uri, *value, *in_flight = Py_None, *gap = Py_None, *timeout = Py_None, *list = NULL;
    pst_ranges_options options = {.struct_size = sizeof(options)};
    struct py_place place;
    pst_range *ranges;
    double timeout_s;
    uint64_t gap_bytes;
    size_t n;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$OOO:get_ranges", names, &uri, &value,
                                     &in_flight, &gap, &timeout) ||
        (in_flight != Py_None && py_in_flight_take(in_flight, 0, &options.max_in_flight) < 0) ||
        py_u64_take(gap, "merge_gap_bytes", PST_UNKNOWN, &gap_bytes) < 0 ||
        py_timeout_take(timeout, &timeout_s) < 0 || take_ranges(value, &ranges, &n) < 0)
        return NULL;
    /* To the engine 0 stands for its own choice, and "no gap at all" for no merging. */
    options.merge_gap_bytes = gap == Py_None ? 0 : gap_bytes > 0 ? gap_bytes : PST_UNKNOWN;
    if (py_place_take(self, uri, &place) == 0) {
        list = read_ranges(&place, ranges, n, &options, timeout_s);
        py_place_clear(&place);
    }
    free(ranges);
    return list;
}
