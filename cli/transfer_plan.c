/* transfer_plan.c - from places to items.
 *
 * Each source is listed page by page and every object becomes an item, pushed to the workers at once,
 * so a plan needs no more memory than a page and a queue however many objects there are. cp, mv,
 * upload and download leave it to the worker to look whether the target has the object. sync lists
 * the target as well: both listings come in key byte order and are merged, which tells for every name
 * whether it is there and how large, without a request for each, and leaves over what the source does
 * not have. Those extras go into a file of names for later. A store without order, and escaped names
 * (which sort differently), take the other way: a set of hashes of all names of the source, against
 * which the target's listing is held when the source has been read.
 *
 * A listing that fails ends the plan with its error; then nothing is ever deleted. What a listing of
 * local files leaves out (transfer_links.c) is named and counted as failed, unless links=skip.
 *
 * Not done here: nothing is written but the target directory itself, once there is something to put
 * into it or a source directory that was there and empty. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <penstock/plugin.h>

#include "escape.h"
#include "transfer.h"

struct plan {
    struct transfer *t;
    const struct transfer_place *source;
    pst_list *names, *there; /* of the source; of the target, when they are merged */
    const pst_entry *next_there;
    size_t n_source_prefix, n_target_prefix; /* bytes of their prefixes */
    uint64_t n_objects;
    bool is_merged;
    bool is_compressed; /* the object that `to` names */
    bool is_target_new; /* the target directory was not there: nothing can be in it */
    struct cli_text_buf to;
};

/* ---- names -------------------------------------------------------------------------------------- */

/* Append the key that the file name `name` was made from; false if it was not made by escaping. */
static bool add_unescaped(const struct plan *plan, pst_str name, struct cli_text_buf *out)
{
    char *work = cli_alloc(CLI_UNESCAPE_BYTES(name.len), 1);
    size_t len = 0;
    bool is_escaped = cli_unescape_key(name, work, &len) &&
                      transfer_is_marked_rightly(plan->source->dir, name);

    if (is_escaped)
        cli_add(out, work, len);
    free(work);
    return is_escaped;
}

static void add_escaped(pst_str key, struct cli_text_buf *out)
{
    char *work = cli_alloc(CLI_ESCAPED_MAX(key.len), 1);
    cli_add(out, work, cli_escape_key(key, work));
    free(work);
}

/* Find the target's name for the source's `name` into plan->to. A directory's ends in '/', before
 * and after. Marks are not set here: the worker looks what is in the way. */
static bool find_target_name(struct plan *plan, pst_str name)
{
    const struct transfer_options *options = plan->t->options;
    const struct transfer_place *target = &plan->t->target;
    struct cli_text_buf key = {0};
    bool is_dir = plan->source->dir && name.len > 0 && name.ptr[name.len - 1] == '/';
    bool is_ok = true;

    plan->to.len = 0;
    plan->is_compressed = !is_dir && cli_flow_compresses(&plan->t->flow, name);
    if (target->name) {
        pst_str given = pst_str_of(target->name, strlen(target->name));
        cli_addf(&plan->to, "%s%s", target->name,
                 plan->is_compressed && !pst_key_is_zstd(given) ? ".zst" : "");
        return true;
    }
    name.len -= is_dir;
    cli_addf(&key, "%s", plan->source->into);
    if (options->unescapes)
        is_ok = add_unescaped(plan, name, &key);
    else
        cli_add(&key, name.ptr, name.len);
    if (plan->is_compressed)
        cli_addf(&key, ".zst");
    if (options->escapes)
        add_escaped(pst_str_of(key.data, key.len), &plan->to);
    else
        cli_add(&plan->to, key.data, key.len);
    cli_add(&plan->to, "/", is_dir);
    cli_text_fini(&key);
    return is_ok;
}

/* Does the key ever lie below the target twice? Several sources can make it so, and a suffix. */
static bool is_taken(struct plan *plan)
{
    struct transfer *t = plan->t;
    return (t->n_sources > 1 || t->flow.zstd_level > 0) && !t->options->is_sync &&
           !transfer_set_add(&t->names, pst_str_of(plan->to.data, plan->to.len));
}

static void fail_item(struct plan *plan, int exit_code, pst_str name, const char *why)
{
    struct transfer *t = plan->t;
    cli_fail(t->cli, exit_code, "%s%.*s: %s", plan->source->shown, (int)name.len, name.ptr, why);
    cli_tally_add(&t->tally, exit_code);
}

/* ---- items -------------------------------------------------------------------------------------- */

static int push_item(struct plan *plan, pst_str name, uint64_t size, int64_t mtime_ns,
                     enum transfer_there there, const pst_entry *target_entry)
{
    struct transfer *t = plan->t;
    struct transfer_item *item;
    char *text;

    if (!t->options->is_dry_run && !t->target.store) {
        int code = transfer_target_ready(t->cli, &t->target);
        if (code != CLI_OK)
            return code;
    }
    item = cli_alloc(1, sizeof(*item) + name.len + plan->to.len);
    text = (char *)(item + 1);
    memcpy(text, name.ptr, name.len);
    memcpy(text + name.len, plan->to.data, plan->to.len);
    item->source = plan->source;
    item->size = size;
    item->mtime_ns = mtime_ns;
    item->there = there;
    item->is_compressed = plan->is_compressed;
    if (target_entry) {
        item->target_size = target_entry->size;
        item->target_mtime_ns = target_entry->mtime_ns;
    }
    item->from = pst_str_of(text, name.len);
    item->to = pst_str_of(text + name.len, plan->to.len);
    t->n_planned++;
    t->planned_bytes += size;
    transfer_push(t, item);
    return CLI_OK;
}

static int plan_object(struct plan *plan, pst_str name, uint64_t size, int64_t mtime_ns,
                       enum transfer_there there, const pst_entry *target_entry)
{
    if (!find_target_name(plan, name)) {
        fail_item(plan, CLI_USAGE, name, "no name that --escape-keys writes");
        return CLI_OK;
    }
    if (is_taken(plan)) {
        fail_item(plan, CLI_CONFLICT, name,
                  plan->t->n_sources > 1 ? "another source has an object of this name"
                                         : "another object gets this name, with .zst");
        return CLI_OK;
    }
    return push_item(plan, name, size, mtime_ns, there, target_entry);
}

static int plan_dir(struct plan *plan, pst_str name)
{
    struct transfer *t = plan->t;
    int code = CLI_OK;

    if (!(t->target.info.caps & PST_CAP_EMPTY_DIRS))
        return CLI_OK;
    if (!find_target_name(plan, name)) {
        fail_item(plan, CLI_USAGE, name, "no name that --escape-keys writes");
        return CLI_OK;
    }
    if (transfer_set_add(&t->dir_names, pst_str_of(plan->to.data, plan->to.len)))
        code = transfer_spool_add(t->cli, &t->dirs, pst_str_of(plan->to.data, plan->to.len));
    return code;
}

/* ---- the target's side of sync ------------------------------------------------------------------ */

static int open_list(struct plan *plan, const struct transfer_place *place, uint32_t flags,
                     pst_list **out)
{
    pst_list_options options = {.struct_size = sizeof(options), .flags = flags};
    pst_error err = PST_ERROR_INIT;
    pst_rc rc = pst_list_open(place->store, pst_str_of(place->prefix, strlen(place->prefix)),
                              &options, out, &err);
    return rc == PST_OK ? CLI_OK : cli_fail_rc_at(plan->t->cli, rc, &err, "%s: ", place->shown);
}

static int read_list(struct plan *plan, const struct transfer_place *place, pst_list *list,
                     const pst_entry **out)
{
    pst_error err = PST_ERROR_INIT;
    pst_rc rc = pst_list_next(list, &plan->t->cli->call, out, &err);
    return rc == PST_OK ? CLI_OK : cli_fail_rc_at(plan->t->cli, rc, &err, "%s: ", place->shown);
}

static pst_str cut_prefix(const pst_entry *entry, size_t n_prefix)
{
    return pst_str_of(entry->key.ptr + n_prefix, entry->key.len - n_prefix);
}

static int compare_names(pst_str a, pst_str b)
{
    int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* Put aside the target's names that come before `name` (NULL: all that are left). The next entry is
 * then `name` itself or one after it. */
static int pass_extras(struct plan *plan, const pst_str *name)
{
    struct transfer *t = plan->t;
    int code = CLI_OK;

    while (code == CLI_OK && plan->next_there) {
        pst_str extra = cut_prefix(plan->next_there, plan->n_target_prefix);
        if (name && compare_names(extra, *name) >= 0)
            break;
        if (t->options->deletes_extras)
            code = transfer_spool_add(t->cli, &t->extras, extra);
        if (code == CLI_OK)
            code = read_list(plan, &t->target, plan->there, &plan->next_there);
    }
    return code;
}

/* The other way: every name of the target that is not in the set. */
static int find_extras(struct plan *plan)
{
    struct transfer *t = plan->t;
    const pst_entry *entry = NULL;
    pst_list *list = NULL;
    char *plain = NULL;
    int code = open_list(plan, &t->target, PST_LISTING_RECURSIVE | PST_LISTING_UNORDERED, &list);

    while (code == CLI_OK && (code = read_list(plan, &t->target, list, &entry)) == CLI_OK &&
           entry) {
        pst_str name = cut_prefix(entry, plan->n_target_prefix);
        plain = cli_grow(plain, name.len, 1);
        memcpy(plain, name.ptr, name.len);
        size_t len = t->options->escapes ? cli_escape_unmark(name, plain) : name.len;
        if (!transfer_set_has(&t->names, pst_str_of(plain, len)))
            code = transfer_spool_add(t->cli, &t->extras, name);
    }
    free(plain);
    pst_list_free(list);
    return code;
}

/* ---- one source --------------------------------------------------------------------------------- */

static int plan_entry(struct plan *plan, const pst_entry *entry)
{
    const struct transfer *t = plan->t;
    pst_str name = cut_prefix(entry, plan->n_source_prefix);
    enum transfer_there there = plan->is_target_new ? TRANSFER_ABSENT : TRANSFER_UNKNOWN;
    const pst_entry *target_entry = NULL;
    int code = CLI_OK;

    if (entry->kind == PST_KIND_PREFIX)
        return plan->source->is_tree && !t->options->regex ? plan_dir(plan, name) : CLI_OK;
    plan->n_objects++;
    if (!cli_regex_matches(t->regex, name))
        return CLI_OK;
    if (plan->is_merged) {
        code = pass_extras(plan, &name);
        there = TRANSFER_ABSENT;
        if (code == CLI_OK && plan->next_there &&
            compare_names(cut_prefix(plan->next_there, plan->n_target_prefix), name) == 0) {
            there = TRANSFER_PRESENT;
            target_entry = plan->next_there;
        }
    }
    if (code == CLI_OK)
        code = plan_object(plan, name, entry->size, entry->mtime_ns, there, target_entry);
    if (code == CLI_OK && target_entry)
        code = read_list(plan, &t->target, plan->there, &plan->next_there);
    return code;
}

static int list_source(struct plan *plan)
{
    struct transfer *t = plan->t;
    const struct transfer_place *source = plan->source;
    const pst_entry *entry = NULL;
    uint32_t flags = source->is_tree ? PST_LISTING_RECURSIVE : 0;
    int code;

    if (source->is_tree && (source->info.caps & PST_CAP_EMPTY_DIRS))
        flags |= PST_LISTING_EMPTY_DIRS;
    if (!plan->is_merged)
        flags |= PST_LISTING_UNORDERED;
    code = open_list(plan, source, flags, &plan->names);
    while (code == CLI_OK) {
        code = cli_interrupted(t->cli) ? CLI_INTERRUPTED
                                       : read_list(plan, source, plan->names, &entry);
        if (code != CLI_OK || !entry)
            break;
        code = plan_entry(plan, entry);
        if (code == CLI_OK && t->options->deletes_extras && !plan->is_merged &&
            entry->kind == PST_KIND_OBJECT)
            transfer_set_add(&t->names, pst_str_of(plan->to.data, plan->to.len));
    }
    /* An object store has no empty directories: a prefix without objects is a mistyped one. */
    if (code == CLI_OK && plan->n_objects == 0 && !source->dir && source->prefix[0])
        code = cli_fail(t->cli, CLI_NOT_FOUND, "%s: no object has a key below it", source->shown);
    return code;
}

static void name_link(void *arg, const char *name, const char *why)
{
    struct plan *plan = arg;
    struct transfer *t = plan->t;

    t->n_left_out++;
    if (t->options->is_move) /* which then refuses to begin */
        cli_fail(t->cli, CLI_USAGE, "%s%s: %s", plan->source->shown, name, why);
    else if (t->options->skips_links)
        cli_note(t->cli, "%s%s: %s, left out", plan->source->shown, name, why);
    else
        fail_item(plan, CLI_SOME_FAILED, pst_str_of(name, strlen(name)), why);
}

static int plan_directory(struct plan *plan)
{
    struct transfer *t = plan->t;
    const struct transfer_options *options = t->options;
    const struct transfer_place *source = plan->source, *target = &t->target;
    uint64_t both = source->info.caps & target->info.caps;
    int code = CLI_OK;

    plan->is_merged = options->is_sync && target->store && (both & PST_CAP_LIST_ORDERED) &&
                      !options->escapes && !options->unescapes;
    if (source->dir)
        code = transfer_walk_links(t->cli, source,
                                   options->is_move ? TRANSFER_LINKS_NEVER : source->links,
                                   name_link, plan);
    if (code == CLI_OK && options->is_move && t->n_left_out > 0)
        return cli_fail(t->cli, CLI_USAGE,
                        "%s: nothing is moved from a directory with any of these",
                        source->location.arg);
    if (code == CLI_OK && plan->is_merged) {
        code = open_list(plan, target, PST_LISTING_RECURSIVE, &plan->there);
        if (code == CLI_OK)
            code = read_list(plan, target, plan->there, &plan->next_there);
    }
    if (code == CLI_OK)
        code = list_source(plan);
    if (code == CLI_OK && plan->is_merged)
        code = pass_extras(plan, NULL);
    else if (code == CLI_OK && options->deletes_extras && target->store && !plan->is_target_new)
        code = find_extras(plan);
    return code;
}

static int plan_source(struct transfer *t, const struct transfer_place *source)
{
    struct plan plan = {.t = t,
                        .source = source,
                        .n_source_prefix = strlen(source->prefix),
                        .n_target_prefix = strlen(t->target.prefix),
                        .is_target_new = !t->target.store};
    enum transfer_there there = plan.is_target_new ? TRANSFER_ABSENT : TRANSFER_UNKNOWN;
    int code = CLI_OK;

    if (source->name) {
        pst_str name = pst_str_of(source->name, strlen(source->name));
        if (cli_regex_matches(t->regex, name))
            code = plan_object(&plan, name, source->size, source->mtime_ns, there, NULL);
    } else {
        code = plan_directory(&plan);
    }
    pst_list_free(plan.names);
    pst_list_free(plan.there);
    cli_text_fini(&plan.to);
    return code;
}

int transfer_plan(struct transfer *t)
{
    int code = CLI_OK;

    for (size_t i = 0; i < t->n_sources && code == CLI_OK; i++)
        code = plan_source(t, &t->sources[i]);
    if (code == CLI_OK && !t->options->is_dry_run && atomic_load(&t->tally.n_failed) == 0)
        code = transfer_target_ready(t->cli, &t->target);
    return code;
}
