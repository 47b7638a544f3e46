/* tour.c - one operation of each kind, for requirements that hold for all of them.
 *
 * Each step makes what its operation needs (an object, an upload with a part, a cursor), always
 * through a host that behaves, and leaves the operation itself to the test, which runs it its own way:
 * with BUSY, with a cancel, with an allocation that fails. */
#include <string.h>
#include <unistd.h>

#include "kit.h"

#define BYTES 70001u

enum step {
    READ_EARLY,
    READ_LATE,
    READ_MISSING,
    STAT,
    LIST,
    LIST_OPEN,
    LIST_PAGE,
    PRESIGN,
    PUT,
    UPLOAD_OPEN,
    UPLOAD_PART,
    UPLOAD_COMMIT,
    UPLOAD_ABORT,
    COPY,
    RENAME,
    APPEND,
    REMOVE,
    CONTAINER_CREATE,
    CONTAINER_DELETE,
    N_STEPS
};

static const struct {
    enum k_slot slot;
    uint64_t caps;
    bool writes;
    const char *what;
} steps[N_STEPS] = {
    [READ_EARLY] = {K_READ, PST_CAP_READ, false, "a read into given memory"},
    [READ_LATE] = {K_READ, PST_CAP_READ, false, "a read with late destination"},
    [READ_MISSING] = {K_READ, PST_CAP_READ, false, "a read of an object that is not there"},
    [STAT] = {K_STAT, PST_CAP_STAT, false, "stat"},
    [LIST] = {K_LIST, PST_CAP_LIST, false, "list"},
    [LIST_OPEN] = {K_LIST_OPEN, PST_CAP_LIST, false, "list_open"},
    [LIST_PAGE] = {K_LIST_PAGE, PST_CAP_LIST, false, "list_page"},
    [PRESIGN] = {K_PRESIGN, PST_CAP_PRESIGN, false, "presign"},
    [PUT] = {K_PUT, PST_CAP_PUT, true, "put"},
    [UPLOAD_OPEN] = {K_UPLOAD_OPEN, PST_CAP_UPLOAD, true, "upload_open"},
    [UPLOAD_PART] = {K_UPLOAD_PART, PST_CAP_UPLOAD, true, "upload_part"},
    [UPLOAD_COMMIT] = {K_UPLOAD_COMMIT, PST_CAP_UPLOAD, true, "upload_commit"},
    [UPLOAD_ABORT] = {K_UPLOAD_ABORT, PST_CAP_UPLOAD, true, "upload_abort"},
    [COPY] = {K_COPY, PST_CAP_COPY, true, "copy"},
    [RENAME] = {K_RENAME, PST_CAP_RENAME, true, "rename"},
    [APPEND] = {K_APPEND, PST_CAP_APPEND, true, "append"},
    [REMOVE] = {K_REMOVE, PST_CAP_REMOVE, true, "remove"},
    [CONTAINER_CREATE] = {K_CONTAINER_CREATE, PST_CAP_CONTAINER | PST_CAP_EMPTY_DIRS, true,
                          "container_create"},
    [CONTAINER_DELETE] = {K_CONTAINER_DELETE, PST_CAP_CONTAINER | PST_CAP_EMPTY_DIRS, true,
                          "container_delete"},
};

static bool is_offered(const struct k_tour *tour, unsigned step)
{
    struct k_store *s = tour->store;
    if (steps[step].writes && s->test->config->profile == K_RO)
        return false;
    if ((s->caps & steps[step].caps) != steps[step].caps || !k_has_slot(s, steps[step].slot))
        return false;
    if (step == LIST)
        return k_lists_by_token(s);
    return (step != LIST_OPEN && step != LIST_PAGE) || k_lists_by_cursor(s);
}

static bool make_container(struct k_tour *tour)
{
    struct k_call *c = k_call_new(tour->store, K_CONTAINER_CREATE, NULL);
    c->in.container.name = tour->key;
    (void)k_call_run(c);
    bool is_made = k_want(c, PST_OK, "container_create");
    k_call_free(c);
    return is_made;
}

static void prepare_read(struct k_tour *tour, enum step step)
{
    struct k_call *c = tour->call;
    c->in.read.key = step == READ_MISSING ? tour->key : tour->object.key;
    c->in.read.length = tour->object.size;
    if (step == READ_EARLY)
        k_call_dst(c, (size_t)tour->object.size, 0, K_AT_END);
    if (step == READ_MISSING) {
        tour->expected = PST_E_NOT_FOUND;
        c->in.read.length = 100;
    }
}

static bool prepare_listing(struct k_tour *tour, enum step step)
{
    if (step != LIST_PAGE) {
        tour->call->in.list.prefix = tour->object.key;
        tour->call->in.list.flags = PST_LIST_RECURSIVE;
        tour->call->in.list.max_entries = 10;
        return true;
    }
    struct k_call *open = k_call_new(tour->store, K_LIST_OPEN, NULL);
    open->in.list.prefix = tour->object.key;
    open->in.list.flags = PST_LIST_RECURSIVE;
    (void)k_call_run(open);
    bool is_open = k_want(open, PST_OK, "list_open");
    if (is_open)
        tour->cursor = open->out.cursor.cursor;
    k_call_free(open);
    tour->call->object = tour->cursor;
    tour->call->in.page.max_entries = 10;
    return is_open;
}

static bool prepare_put(struct k_tour *tour)
{
    struct k_call *c = tour->call;
    tour->source = k_source_new(tour->what, BYTES, 11, 0, 0);
    c->in.put.key = tour->key;
    c->in.put.size_hint = BYTES;
    c->in.put.src = tour->source->iov;
    c->in.put.n_src = tour->source->n;
    return true;
}

static bool prepare_upload(struct k_tour *tour, enum step step)
{
    struct k_call *c = tour->call;
    if (step == UPLOAD_OPEN) {
        c->in.put.key = tour->key;
        c->in.put.size_hint = PST_UNKNOWN;
        return true;
    }
    if (!k_writer_open(&tour->writer, tour->store, tour->key, 12))
        return false;
    c->object = tour->writer.upload;
    if (step == UPLOAD_PART) {
        tour->source = k_source_new(tour->what, (size_t)tour->writer.part_bytes, 12, 0, 0);
        c->in.part.src = tour->source->iov;
        c->in.part.n_src = tour->source->n;
        return true;
    }
    if (!k_writer_part(&tour->writer, 0, tour->writer.part_bytes))
        return false;
    c->in.commit.size = step == UPLOAD_COMMIT ? tour->writer.part_bytes : 0;
    if (step == UPLOAD_COMMIT)
        c->in.commit.n_parts = 1;
    return true;
}

static bool prepare(struct k_tour *tour, enum step step)
{
    struct k_store *s = tour->store;
    struct k_call *c = tour->call;
    switch (step) {
    case READ_EARLY:
    case READ_LATE:
    case READ_MISSING:
        prepare_read(tour, step);
        return true;
    case STAT:
        c->in.stat.key = tour->object.key;
        return true;
    case LIST:
    case LIST_OPEN:
    case LIST_PAGE:
        return prepare_listing(tour, step);
    case PRESIGN:
        c->in.presign.key = tour->object.key;
        c->in.presign.method = PST_STR("GET");
        c->in.presign.expires_s = 60;
        return true;
    case PUT:
    case APPEND:
        return prepare_put(tour);
    case UPLOAD_OPEN:
    case UPLOAD_PART:
    case UPLOAD_COMMIT:
    case UPLOAD_ABORT:
        return prepare_upload(tour, step);
    case COPY:
    case RENAME:
        c->in.copy.from = step == COPY ? tour->object.key : k_key(s->test, "rename-from");
        c->in.copy.to = tour->key;
        return step == COPY || k_make(s, c->in.copy.from, 100, 1);
    case REMOVE:
        c->in.remove.keys = &tour->key;
        c->in.remove.n_keys = 1;
        return k_make(s, tour->key, 100, 2);
    case CONTAINER_CREATE:
        c->in.container.name = tour->key;
        return true;
    case CONTAINER_DELETE:
        c->in.container.name = tour->key;
        return make_container(tour);
    case N_STEPS:
        break;
    }
    return false;
}

bool k_tour_next(struct k_tour *tour)
{
    struct k_store *s = tour->store;
    struct k_test *t = s->test;
    if (!tour->object.key.ptr && !k_object(s, BYTES, &tour->object))
        return false;
    for (; tour->step < N_STEPS; tour->step++) {
        if (!is_offered(tour, tour->step))
            continue;
        static atomic_uint n;
        enum step step = (enum step)tour->step++;
        tour->what = steps[step].what;
        tour->expected = PST_OK;
        tour->key = k_key(t, "tour-%d-%u", (int)getpid(), atomic_fetch_add(&n, 1));
        k_step(t, "preparing %s", tour->what);
        tour->call = k_call_new(s, steps[step].slot, NULL);
        if (!prepare(tour, step))
            return false;
        k_step(t, "running %s", tour->what);
        return true;
    }
    k_object_fini(&tour->object);
    return false;
}

bool k_tour_check_or(struct k_tour *tour, pst_rc also)
{
    struct k_call *c = tour->call;
    struct k_test *t = tour->store->test;
    if (c->hung)
        return false;
    if (also != 0 && c->rc == also)
        return true;
    if (!k_want(c, tour->expected, tour->what) || c->rc != PST_OK)
        return c->rc == tour->expected;
    if (c->slot == K_READ)
        return k_that(t,
                      c->out.read.n_read == tour->object.size &&
                          memcmp(c->snapshot, tour->object.data, tour->object.size) == 0,
                      "expected the %llu bytes of the object from %s, got %llu or other ones",
                      (unsigned long long)tour->object.size, tour->what,
                      (unsigned long long)c->out.read.n_read);
    if (c->slot == K_STAT)
        return k_that(t, c->out.attr.size == tour->object.size,
                      "expected size %llu from stat, got "
                      "%llu",
                      (unsigned long long)tour->object.size, (unsigned long long)c->out.attr.size);
    if (c->slot == K_LIST || c->slot == K_LIST_PAGE)
        return k_that(t, k_entries_find(&c->entries, tour->object.key) != NULL,
                      "expected %s to show %s, got %zu other entries", tour->what,
                      k_show(tour->object.key), c->entries.n);
    if (c->slot == K_REMOVE)
        return k_that(t, c->statuses[0] == PST_OK,
                      "expected the key's status OK from remove, got %s",
                      k_rc_name(c->statuses[0]));
    return true;
}

bool k_tour_check(struct k_tour *tour)
{
    return k_tour_check_or(tour, 0);
}

void k_tour_done(struct k_tour *tour)
{
    struct k_call *c = tour->call;
    struct k_store *s = tour->store;
    if (c->hung)
        return; /* the plugin may still use all of it */
    if (c->slot == K_LIST_OPEN && c->rc == PST_OK && c->out.cursor.cursor)
        s->ops->list_close(c->out.cursor.cursor);
    if (c->slot == K_UPLOAD_OPEN && c->rc == PST_OK && c->out.upload.upload)
        s->ops->upload_free(c->out.upload.upload);
    if (tour->cursor)
        s->ops->list_close(tour->cursor);
    tour->cursor = NULL;
    k_writer_free(&tour->writer);
    if (tour->source)
        k_source_bury(tour->source);
    tour->source = NULL;
    k_call_free(c);
    tour->call = NULL;
}

void k_tour_run(struct k_store *s)
{
    struct k_tour tour = {.store = s};
    while (k_tour_next(&tour)) {
        (void)k_call_run(tour.call);
        (void)k_tour_check(&tour);
        k_tour_done(&tour);
    }
}
