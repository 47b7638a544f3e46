/* transfer_tidy.c - what follows when every object is where it should be: empty directories, what
 * --delete deletes, and directories that lost their last object.
 *
 * None of it runs after a failure (transfer.c sees to that), so an object that could not be copied
 * never costs its older copy. Directories are removed by asking the store to, which refuses when
 * there is anything in them; so nothing here can remove more than emptiness. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <penstock/plugin.h>

#include "transfer.h"

enum { DELETE_BATCH = 1000 };

static void say_plan(struct transfer *t, const char *what, pst_str name)
{
    struct cli_text_buf line = {0};
    cli_addf(&line, "%s %s", what, t->target.shown);
    cli_add(&line, name.ptr, name.len);
    cli_add(&line, "\n", 1);
    cli_put_text(t->cli, &line);
    cli_text_fini(&line);
}

static void set_key(struct cli_text_buf *key, const struct transfer_place *place, pst_str name)
{
    key->len = 0;
    cli_addf(key, "%s", place->prefix);
    cli_add(key, name.ptr, name.len);
}

/* ---- empty directories -------------------------------------------------------------------------- */

static int make_dir(struct transfer *t, pst_str name)
{
    struct cli_text_buf key = {0};
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;

    name.len--; /* its slash */
    set_key(&key, &t->target, name);
    rc = pst_container_create(t->target.store, pst_str_of(key.data, key.len), &t->cli->call, &err);
    cli_text_fini(&key);
    if (rc == PST_OK || rc == PST_E_EXISTS)
        return CLI_OK;
    return cli_fail_rc_at(t->cli, rc, &err, "%s%.*s: ", t->target.shown, (int)name.len, name.ptr);
}

static bool has_dir(const struct transfer_place *target, const struct cli_text_buf *name)
{
    struct cli_text_buf path = {0};
    struct stat st;
    bool is_there;

    if (!target->dir)
        return false;
    cli_addf(&path, "%s/%.*s", target->dir, (int)name->len, name->data);
    is_there = stat(path.data, &st) == 0 && S_ISDIR(st.st_mode);
    cli_text_fini(&path);
    return is_there;
}

int transfer_make_dirs(struct transfer *t)
{
    struct cli_text_buf name = {0};
    bool has_name = false;
    int code = transfer_spool_rewind(t->cli, &t->dirs);

    while (code == CLI_OK) {
        code = transfer_spool_next(t->cli, &t->dirs, &name, &has_name);
        if (code != CLI_OK || !has_name)
            break;
        if (t->options->is_dry_run && !has_dir(&t->target, &name))
            say_plan(t, "make", pst_str_of(name.data, name.len));
        else if (!t->options->is_dry_run)
            code = make_dir(t, pst_str_of(name.data, name.len));
    }
    cli_text_fini(&name);
    return code;
}

/* ---- directories that are no longer needed ------------------------------------------------------ */

/* Remove the empty directory `name` ("a/b/"), then those above it that it leaves empty. */
static int remove_upwards(struct transfer *t, const struct transfer_place *place, pst_str name,
                          const struct transfer_set *kept)
{
    struct cli_text_buf key = {0};
    pst_error err = PST_ERROR_INIT;
    pst_rc rc = PST_OK;

    while (rc == PST_OK && name.len > 0 && !(kept && transfer_set_has(kept, name))) {
        name.len--;
        set_key(&key, place, name);
        rc = pst_container_delete(place->store, pst_str_of(key.data, key.len), &t->cli->call, &err);
        while (name.len > 0 && name.ptr[name.len - 1] != '/')
            name.len--;
    }
    if (rc == PST_OK || rc == PST_E_PRECONDITION || rc == PST_E_NOT_FOUND)
        rc = PST_OK;
    int code = rc == PST_OK ? CLI_OK
                            : cli_fail_rc_at(t->cli, rc, &err, "%s%.*s: ", place->location.uri,
                                             (int)key.len, key.data);
    cli_text_fini(&key);
    return code;
}

/* They are written down first: a listing under way is no place to remove directories. */
static int spool_empty_dirs(struct transfer *t, const struct transfer_place *place,
                            struct transfer_spool *spool)
{
    pst_list_options options = {.struct_size = sizeof(options),
                                .flags = PST_LISTING_RECURSIVE | PST_LISTING_EMPTY_DIRS |
                                         PST_LISTING_UNORDERED};
    size_t n_prefix = strlen(place->prefix);
    pst_error err = PST_ERROR_INIT;
    const pst_entry *entry = NULL;
    pst_list *list = NULL;
    int code = CLI_OK;
    pst_rc rc = pst_list_open(place->store, pst_str_of(place->prefix, n_prefix), &options, &list,
                              &err);

    while (rc == PST_OK && code == CLI_OK) {
        rc = pst_list_next(list, &t->cli->call, &entry, &err);
        if (rc != PST_OK || !entry)
            break;
        if (entry->kind == PST_KIND_PREFIX)
            code = transfer_spool_add(
                t->cli, spool, pst_str_of(entry->key.ptr + n_prefix, entry->key.len - n_prefix));
    }
    pst_list_free(list);
    return rc == PST_OK ? code : cli_fail_rc_at(t->cli, rc, &err, "%s: ", place->shown);
}

/* Remove every empty directory below `place` but those in `kept`. */
static int remove_empty_dirs(struct transfer *t, const struct transfer_place *place,
                             const struct transfer_set *kept)
{
    struct transfer_spool spool = {0};
    struct cli_text_buf name = {0};
    bool has_name = true;
    int code = spool_empty_dirs(t, place, &spool);

    if (code == CLI_OK)
        code = transfer_spool_rewind(t->cli, &spool);
    while (code == CLI_OK) {
        code = transfer_spool_next(t->cli, &spool, &name, &has_name);
        if (code != CLI_OK || !has_name)
            break;
        code = remove_upwards(t, place, pst_str_of(name.data, name.len), kept);
    }
    cli_text_fini(&name);
    transfer_spool_fini(&spool);
    return code;
}

int transfer_remove_source_dirs(struct transfer *t, const struct transfer_place *source)
{
    pst_str key = source->location.parts.key;
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;
    int code;

    if (source->name || !source->is_tree || !(source->info.caps & PST_CAP_EMPTY_DIRS))
        return CLI_OK;
    code = remove_empty_dirs(t, source, NULL);
    /* "tree/" stands for what is in it, "tree" for itself. */
    if (code != CLI_OK || source->location.is_directory)
        return code;
    rc = pst_container_delete(source->location.store, key, &t->cli->call, &err);
    return rc == PST_OK ? CLI_OK : cli_fail_rc_at(t->cli, rc, &err, "%s: ", source->location.arg);
}

/* ---- sync --delete ------------------------------------------------------------------------------ */

struct batch {
    struct cli_text_buf bytes; /* the keys one after the other */
    size_t ends[DELETE_BATCH];
    pst_str keys[DELETE_BATCH];
    pst_rc statuses[DELETE_BATCH];
    size_t n;
};

static int delete_batch(struct transfer *t, struct batch *batch)
{
    size_t n_prefix = strlen(t->target.prefix);
    pst_error err = PST_ERROR_INIT;
    int code = CLI_OK;
    pst_rc rc;

    for (size_t i = 0, begin = 0; i < batch->n; begin = batch->ends[i++])
        batch->keys[i] = pst_str_of(batch->bytes.data + begin, batch->ends[i] - begin);
    rc = pst_delete_many(t->target.store, batch->keys, NULL, batch->n, &t->cli->call,
                         batch->statuses, &err);
    if (rc == PST_E_CANCELLED)
        code = cli_fail_rc(t->cli, rc, &err);
    for (size_t i = 0; i < batch->n; i++) {
        pst_str key = batch->keys[i];
        if (batch->statuses[i] == PST_OK) {
            t->n_deleted++;
            continue;
        }
        if (rc != PST_E_CANCELLED)
            code = cli_fail(t->cli, pst_rc_exit_code(batch->statuses[i]), "%s%.*s: not deleted: %s",
                            t->target.shown, (int)(key.len - n_prefix), key.ptr + n_prefix,
                            pst_rc_text(batch->statuses[i]));
        cli_tally_add(&t->tally, code);
    }
    batch->n = 0;
    batch->bytes.len = 0;
    return CLI_OK;
}

static int delete_names(struct transfer *t)
{
    struct batch *batch = cli_alloc(1, sizeof(*batch));
    struct cli_text_buf name = {0};
    bool has_name = true;
    int code = CLI_OK;

    while (code == CLI_OK && has_name) {
        code = transfer_spool_next(t->cli, &t->extras, &name, &has_name);
        if (code == CLI_OK && has_name && t->options->is_dry_run) {
            say_plan(t, "delete", pst_str_of(name.data, name.len));
        } else if (code == CLI_OK && has_name) {
            cli_addf(&batch->bytes, "%s", t->target.prefix);
            cli_add(&batch->bytes, name.data, name.len);
            batch->ends[batch->n++] = batch->bytes.len;
            cli_verbose(t->cli, "%s%.*s: deleted", t->target.shown, (int)name.len, name.data);
        }
        if (code == CLI_OK && batch->n > 0 && (batch->n == DELETE_BATCH || !has_name))
            code = cli_interrupted(t->cli) ? CLI_INTERRUPTED : delete_batch(t, batch);
    }
    cli_text_fini(&name);
    cli_text_fini(&batch->bytes);
    free(batch);
    return code;
}

int transfer_delete_extras(struct transfer *t)
{
    int code = transfer_spool_rewind(t->cli, &t->extras);

    if (code != CLI_OK || !t->target.store)
        return code;
    /* What looks like an empty source is more often a disk that is not mounted. */
    if (t->n_planned == 0 && t->extras.n > 0)
        return cli_fail(t->cli, CLI_SOME_FAILED, "%s: holds no object: nothing is deleted from %s",
                        t->sources[0].location.arg, t->target.location.arg);
    code = delete_names(t);
    if (code == CLI_OK && !t->options->is_dry_run && (t->target.info.caps & PST_CAP_EMPTY_DIRS))
        code = remove_empty_dirs(t, &t->target, &t->dir_names);
    return code;
}
