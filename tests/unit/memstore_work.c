/* memstore_work.c - what each operation of the store in memory does to its objects. */
#include "memstore_work.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

pthread_mutex_t mem_mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t mem_changed = PTHREAD_COND_INITIALIZER;

static struct mem_object *objects; /* sorted */
static size_t n_objects;
static unsigned serial;

struct pst_cursor {
    char *prefix, *last;
    size_t prefix_len, last_len;
    uint32_t flags;
    unsigned n_pages;
    int has_older; /* with LIST_VERSIONS: the older one of `last` is still to come */
};

void *mem_grab(size_t size)
{
    size_t *block = mmap(NULL, size + 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                         0);
    assert_true(block != MAP_FAILED);
    block[0] = size;
    return block + 2;
}

void mem_drop(void *memory)
{
    size_t *block = memory;
    if (block)
        munmap(block - 2, block[-2] + 16);
}

static void *regrab(void *memory, size_t size)
{
    void *larger = mem_grab(size);
    if (memory)
        memcpy(larger, memory, ((size_t *)memory)[-2] < size ? ((size_t *)memory)[-2] : size);
    mem_drop(memory);
    return larger;
}

/* ---- objects ---------------------------------------------------------------------------------- */

static int compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t len = a_len < b_len ? a_len : b_len;
    int order = len ? memcmp(a, b, len) : 0;
    return order ? order : a_len < b_len ? -1 : a_len > b_len;
}

/* Index of the key, or of where it belongs. */
static size_t place_of(pst_str key, int *is_there)
{
    size_t i = 0;
    *is_there = 0;
    while (i < n_objects) {
        int order = compare(objects[i].key, objects[i].key_len, key.ptr, key.len);
        if (order >= 0) {
            *is_there = order == 0;
            break;
        }
        i++;
    }
    return i;
}

static void drop_object(size_t i)
{
    mem_drop(objects[i].key);
    mem_drop(objects[i].data);
    memmove(objects + i, objects + i + 1, (n_objects - i - 1) * sizeof(*objects));
    n_objects--;
}

/* Takes `data`. */
static struct mem_object *set_object(pst_str key, unsigned char *data, size_t size)
{
    int is_there = 0;
    size_t i = place_of(key, &is_there);
    if (is_there) {
        mem_drop(objects[i].data);
    } else {
        objects = regrab(objects, (n_objects + 1) * sizeof(*objects));
        memmove(objects + i + 1, objects + i, (n_objects - i) * sizeof(*objects));
        objects[i] = (struct mem_object){.key = mem_grab(key.len + 1), .key_len = key.len};
        memcpy(objects[i].key, key.ptr, key.len);
        objects[i].key[key.len] = '\0';
        n_objects++;
    }
    objects[i].data = data;
    objects[i].size = size;
    objects[i].serial = ++serial;
    objects[i].content_type[0] = '\0';
    return &objects[i];
}

static pst_str etag_of(const struct mem_object *object, pst_op *op)
{
    char *text = op->host->op_alloc(op->host, op, 16);
    if (!text)
        return pst_str_of(NULL, 0);
    return pst_str_of(text, (size_t)snprintf(text, 16, "v%u", object->serial));
}

static pst_rc check_condition(pst_str key, uint32_t flags, pst_str if_match)
{
    char now[16] = "";
    int is_there = 0;
    size_t i = place_of(key, &is_there);
    if ((flags & PST_PUT_CREATE_ONLY) && is_there)
        return PST_E_EXISTS;
    if (if_match.len == 0)
        return PST_OK;
    if (is_there)
        snprintf(now, sizeof(now), "v%u", objects[i].serial);
    return compare(now, strlen(now), if_match.ptr, if_match.len) ? PST_E_PRECONDITION : PST_OK;
}

static void answer_put(pst_op *op, const struct mem_object *object, pst_put_result *result)
{
    result->etag = etag_of(object, op);
    result->etag_strength = PST_ETAG_STRONG;
    if (!mem.hides_size)
        result->size = (uint64_t)((int64_t)object->size + mem.size_lie);
}

static pst_sum first_sum(const pst_sum *sums, uint32_t n)
{
    return n > 0 ? sums[0] : (pst_sum){0};
}

static void note_text(pst_str text, char *to, size_t cap)
{
    snprintf(to, cap, "%.*s", (int)text.len, text.len ? text.ptr : "");
}

/* ---- the work --------------------------------------------------------------------------------- */

static pst_rc do_stat(struct mem_job *job)
{
    const pst_stat_args *args = job->args;
    pst_attr *attr = job->result;
    int is_there = 0;
    size_t i = place_of(args->key, &is_there);
    note_text(args->version, mem.version, sizeof(mem.version));
    mem.stat_flags = args->flags;
    if (!is_there)
        return PST_E_NOT_FOUND;
    attr->kind = PST_KIND_OBJECT;
    attr->size = objects[i].size;
    attr->etag = etag_of(&objects[i], job->op);
    attr->etag_strength = PST_ETAG_STRONG;
    attr->content_type = pst_str_of(objects[i].content_type, strlen(objects[i].content_type));
    pst_sum *sum = job->op->host->op_alloc(job->op->host, job->op, sizeof(*sum));
    pst_kv *meta = job->op->host->op_alloc(job->op->host, job->op, 2 * sizeof(*meta));
    if (!sum || !meta)
        return PST_E_NO_MEMORY;
    *sum = (pst_sum){.algorithm = PST_SUM_CRC32C, .length = 4, .bytes = {1, 2, 3, 4}};
    meta[0] = (pst_kv){PST_STR("colour"), PST_STR("blue")};
    meta[1] = (pst_kv){PST_STR("stage"), PST_STR("raw")};
    attr->sums = sum;
    attr->n_sums = 1;
    attr->sum_stride = sizeof(*sum);
    attr->user_meta = meta;
    attr->n_user_meta = 1;
    attr->tags = meta + 1;
    attr->n_tags = 1;
    return PST_OK;
}

static unsigned char *gather(const pst_iov *src, size_t n, size_t *size)
{
    size_t at = 0;
    *size = 0;
    for (size_t i = 0; i < n; i++) {
        *size += src[i].len;
        if (mem.n_spans < sizeof(mem.spans) / sizeof(mem.spans[0]))
            mem.spans[mem.n_spans++] = src[i];
    }
    unsigned char *data = mem_grab(*size + 1);
    for (size_t i = 0; i < n; i++) {
        if (src[i].len)
            memcpy(data + at, src[i].ptr, src[i].len);
        at += src[i].len;
    }
    return data;
}

static pst_rc do_put(struct mem_job *job)
{
    const pst_put_args *args = job->args;
    size_t size = 0;
    pst_rc rc = check_condition(args->key, args->flags, args->if_match);
    if (rc != PST_OK)
        return rc;
    unsigned char *data = gather(args->src, args->n_src, &size);
    struct mem_object *object = set_object(args->key, data, size);
    snprintf(object->content_type, sizeof(object->content_type), "%.*s",
             (int)args->attr->content_type.len, args->attr->content_type.ptr);
    mem.put_sum = first_sum(args->sums, args->n_sums);
    mem.n_tags = args->attr->n_tags;
    if (args->n_src > mem.n_src_max)
        mem.n_src_max = args->n_src;
    answer_put(job->op, object, job->result);
    return PST_OK;
}

static pst_rc do_copy(struct mem_job *job)
{
    const pst_copy_args *args = job->args;
    int is_there = 0;
    size_t i = place_of(args->from, &is_there);
    note_text(args->from_version, mem.version, sizeof(mem.version));
    note_text(args->from_authority, mem.from_authority, sizeof(mem.from_authority));
    pst_rc rc = check_condition(args->to, args->flags, args->if_match);
    if (!is_there)
        return PST_E_NOT_FOUND;
    if (args->from_if_match.len > 0 &&
        check_condition(args->from, 0, args->from_if_match) != PST_OK)
        return PST_E_PRECONDITION;
    if (rc != PST_OK)
        return rc;
    size_t size = objects[i].size;
    char type[64];
    memcpy(type, objects[i].content_type, sizeof(type));
    unsigned char *data = mem_grab(size + 1);
    memcpy(data, objects[i].data, size);
    struct mem_object *to = set_object(args->to, data, size);
    memcpy(to->content_type, type, sizeof(type));
    if (args->flags & PST_COPY_REPLACE_ATTR)
        snprintf(to->content_type, sizeof(to->content_type), "%.*s",
                 (int)args->attr->content_type.len, args->attr->content_type.ptr);
    answer_put(job->op, to, job->result);
    if (job->slot == MEM_RENAME) {
        i = place_of(args->from, &is_there);
        drop_object(i);
    }
    return PST_OK;
}

static pst_rc do_remove(struct mem_job *job)
{
    const pst_remove_args *args = job->args;
    pst_remove_result *result = job->result;
    if (args->n_keys > mem.n_batch_max)
        mem.n_batch_max = (unsigned)args->n_keys;
    for (size_t i = 0; i < args->n_keys; i++) {
        int is_there = 0;
        pst_str key = args->keys[i];
        size_t at = place_of(key, &is_there);
        note_text(args->versions ? args->versions[i] : pst_str_of(NULL, 0), mem.version,
                  sizeof(mem.version));
        result->status[i] = check_condition(key, 0, args->if_match);
        if (result->status[i] != PST_OK)
            continue;
        if (mem.failing_key && mem.failing_times > 0 &&
            compare(key.ptr, key.len, mem.failing_key, strlen(mem.failing_key)) == 0) {
            pst_error *error = (pst_error *)(void *)((char *)result->errors +
                                                     i * result->error_stride);
            mem.failing_times--;
            result->status[i] = error->code = mem.failing_rc;
            error->flags = mem.failing_rc == PST_E_UNAVAILABLE ? PST_ERR_RETRYABLE : 0;
            snprintf(error->message, sizeof(error->message), "the store said no");
            continue;
        }
        if (is_there)
            drop_object(at);
    }
    return PST_OK;
}

/* ---- listing ---------------------------------------------------------------------------------- */

struct listing {
    struct mem_job *job;
    pst_str prefix, after; /* keys greater than this */
    uint32_t flags, max;
    unsigned n_page;
    char entries[64][sizeof(pst_entry) + 64];
    unsigned n;
    int has_older; /* in: of `after`; out: of `last` */
    pst_str last;
};

static int is_below(pst_str key, pst_str prefix)
{
    return key.len >= prefix.len && memcmp(key.ptr, prefix.ptr, prefix.len) == 0;
}

static void add_entry(struct listing *listing, const pst_entry *entry)
{
    size_t stride = mem.stride ? mem.stride : sizeof(*entry);
    memset(listing->entries[listing->n], 0x5a, sizeof(listing->entries[0])); /* a newer member */
    memcpy(listing->entries[listing->n], entry, stride < sizeof(*entry) ? stride : sizeof(*entry));
    listing->n++;
}

static pst_rc emit(struct listing *listing, unsigned from, unsigned n)
{
    size_t stride = mem.stride ? mem.stride : sizeof(pst_entry);
    char packed[64 * (sizeof(pst_entry) + 64)];
    for (unsigned i = 0; i < n; i++)
        memcpy(packed + i * stride, listing->entries[from + i], stride);
    return listing->job->op->host->list_emit(listing->job->op->host, listing->job->op,
                                             (const pst_entry *)(void *)packed, n, stride);
}

/* Each object has two versions: the newest, and before it a delete marker. A page may end between them.
 * Returns 1 when something is left. */
static int collect_versions(struct listing *listing)
{
    for (size_t i = 0; i < n_objects; i++) {
        pst_str key = {objects[i].key, objects[i].key_len};
        int order = compare(key.ptr, key.len, listing->after.ptr, listing->after.len);
        if (!is_below(key, listing->prefix) || order < 0 || (order == 0 && !listing->has_older))
            continue;
        for (int older = order == 0; older < 2; older++) {
            pst_entry entry = {.key = key,
                               .flags = older ? PST_ENTRY_DELETE_MARKER : PST_ENTRY_LATEST};
            entry.version = older && mem.quirk != MEM_REPEATS_VERSIONS ? PST_STR("1")
                                                                       : PST_STR("2");
            if (listing->n == listing->max)
                return 1;
            listing->last = key;
            listing->has_older = !older;
            add_entry(listing, &entry);
        }
    }
    return 0;
}

/* Fills entries with at most listing->max; returns 1 when something is left. */
static int collect(struct listing *listing)
{
    if (listing->flags & PST_LIST_VERSIONS)
        return collect_versions(listing);
    for (size_t i = 0; i < n_objects; i++) {
        pst_str key = {objects[i].key, objects[i].key_len};
        pst_entry entry = {.key = key, .size = objects[i].size, .mtime_ns = 42};
        if (!is_below(key, listing->prefix))
            continue;
        const char *slash = listing->flags & PST_LIST_RECURSIVE
                                ? NULL
                                : memchr(key.ptr + listing->prefix.len, '/',
                                         key.len - listing->prefix.len);
        if (slash) {
            key.len = (size_t)(slash - key.ptr) + 1;
            entry = (pst_entry){.key = key, .kind = PST_KIND_PREFIX};
        }
        if (compare(key.ptr, key.len, listing->after.ptr, listing->after.len) <= 0)
            continue;
        if (listing->n > 0 && compare(key.ptr, key.len, listing->last.ptr, listing->last.len) == 0)
            continue;
        if (listing->n == listing->max)
            return 1;
        entry.content_encoding = PST_STR("gzip");
        listing->last = key;
        add_entry(listing, &entry);
    }
    return 0;
}

static void play_quirk(struct listing *listing)
{
    char swap[sizeof(listing->entries[0])];
    pst_entry odd = {.key = PST_STR("odd")};
    if (mem.quirk == MEM_SWAPS_KEYS && listing->n > 1) {
        memcpy(swap, listing->entries[0], sizeof(swap));
        memcpy(listing->entries[0], listing->entries[1], sizeof(swap));
        memcpy(listing->entries[1], swap, sizeof(swap));
    } else if (mem.quirk == MEM_SWAPS_PAGES && listing->n_page == 1) {
        odd.key = pst_str_of(objects[0].key, objects[0].key_len);
        listing->n = 0;
        add_entry(listing, &odd);
    } else if (mem.quirk == MEM_LEAVES_PREFIX) {
        add_entry(listing, &odd);
    } else if (mem.quirk == MEM_OVERFILLS) {
        while (listing->n <= listing->max)
            add_entry(listing, &odd);
    }
}

static pst_rc list_one_page(struct listing *listing, int must_fail, int *has_more)
{
    if (listing->max > 60)
        listing->max = 60;
    *has_more = collect(listing);
    if (must_fail) {
        pst_rc rc = emit(listing, 0, listing->n / 2);
        return rc == PST_OK ? (pst_rc)PST_E_UNAVAILABLE : rc;
    }
    play_quirk(listing);
    pst_rc rc = emit(listing, 0, listing->n / 2); /* in two calls, as they come */
    if (rc == PST_OK)
        rc = emit(listing, listing->n / 2, listing->n - listing->n / 2);
    return rc;
}

static pst_rc do_list(struct mem_job *job, int must_fail)
{
    const pst_list_args *args = job->args;
    pst_list_result *result = job->result;
    struct listing *listing = mem_grab(sizeof(*listing));
    int has_more = 0;
    pst_str token = args->page_token;
    unsigned n_empty = token.len && token.ptr[0] == '-' ? (unsigned)(token.ptr[1] - '0') : 0;
    if (token.len) /* "-N<last key>": after N empty pages */
        token = pst_str_of(token.ptr + 2, token.len - 2);
    *listing = (struct listing){.job = job,
                                .prefix = args->prefix,
                                .after = token.len ? token : args->start_after,
                                .flags = args->flags,
                                .max = args->max_entries,
                                .n_page = token.len > 0};
    pst_rc rc = PST_OK;
    if (n_empty < mem.empty_pages) {
        has_more = 1;
        n_empty++;
        listing->last = token;
    } else {
        n_empty = 0;
        rc = list_one_page(listing, must_fail, &has_more);
    }
    if (rc == PST_OK && (has_more || mem.quirk == MEM_REPEATS_TOKEN)) {
        char *next = job->op->host->op_alloc(job->op->host, job->op, listing->last.len + 2);
        if (!next) {
            mem_drop(listing);
            return PST_E_NO_MEMORY;
        }
        next[0] = '-';
        next[1] = (char)('0' + n_empty);
        if (listing->last.len)
            memcpy(next + 2, listing->last.ptr, listing->last.len);
        result->next_token = pst_str_of(next, listing->last.len + 2);
        if (mem.quirk == MEM_REPEATS_TOKEN)
            result->next_token = PST_STR("-0a");
    }
    mem_drop(listing);
    return rc;
}

static char *dup_bytes(pst_str text)
{
    char *copy = mem_grab(text.len + 1);
    if (text.len)
        memcpy(copy, text.ptr, text.len);
    return copy;
}

static pst_rc do_list_open(struct mem_job *job)
{
    const pst_list_args *args = job->args;
    pst_cursor_result *result = job->result;
    if (!mem.has_cursors)
        return PST_E_UNIMPLEMENTED;
    if (mem.quirk == MEM_GIVES_NOTHING)
        return PST_OK;
    pst_cursor *cursor = mem_grab(sizeof(*cursor));
    cursor->prefix = dup_bytes(args->prefix);
    cursor->prefix_len = args->prefix.len;
    cursor->last = dup_bytes(args->start_after);
    cursor->last_len = args->start_after.len;
    cursor->flags = args->flags;
    mem.n_cursors++;
    result->cursor = cursor;
    return PST_OK;
}

static pst_rc do_list_page(struct mem_job *job, int must_fail)
{
    const pst_page_args *args = job->args;
    pst_list_result *result = job->result;
    pst_cursor *cursor = job->object;
    struct listing *listing = mem_grab(sizeof(*listing));
    int has_more = 0;
    listing->job = job;
    listing->prefix = pst_str_of(cursor->prefix, cursor->prefix_len);
    listing->after = pst_str_of(cursor->last, cursor->last_len);
    listing->flags = cursor->flags;
    listing->max = args->max_entries;
    listing->n_page = cursor->n_pages;
    listing->has_older = cursor->has_older;
    pst_rc rc = list_one_page(listing, must_fail, &has_more);
    if (rc == PST_OK) {
        cursor->n_pages++;
        if (listing->n > 0) {
            char *last = dup_bytes(listing->last);
            mem_drop(cursor->last);
            cursor->last = last;
            cursor->last_len = listing->last.len;
            cursor->has_older = listing->has_older;
        }
        result->flags = has_more ? 0 : PST_PAGE_LAST;
    }
    mem_drop(listing);
    return rc;
}

void mem_list_close(pst_cursor *cursor)
{
    pthread_mutex_lock(&mem_mutex);
    mem.n_cursors--;
    pthread_cond_broadcast(&mem_changed);
    pthread_mutex_unlock(&mem_mutex);
    mem_drop(cursor->prefix);
    mem_drop(cursor->last);
    mem_drop(cursor);
}

/* ---- uploads ---------------------------------------------------------------------------------- */

static pst_rc do_upload_open(struct mem_job *job)
{
    const pst_put_args *args = job->args;
    pst_upload_result *result = job->result;
    if (mem.quirk == MEM_GIVES_NOTHING)
        return PST_OK;
    pst_rc rc = check_condition(args->key, args->flags, args->if_match);
    if (rc != PST_OK)
        return rc;
    pst_upload *upload = mem_grab(sizeof(*upload));
    upload->key = pst_str_of(dup_bytes(args->key), args->key.len);
    mem.n_tags = args->attr->n_tags;
    snprintf(upload->content_type, sizeof(upload->content_type), "%.*s",
             (int)args->attr->content_type.len, args->attr->content_type.ptr);
    mem.n_uploads++;
    result->upload = upload;
    return PST_OK;
}

static pst_rc do_upload_part(struct mem_job *job)
{
    const pst_part_args *args = job->args;
    pst_upload *upload = job->object;
    size_t size = 0;
    unsigned char *data = gather(args->src, args->n_src, &size);
    if (args->offset + size > upload->room) {
        upload->room = (args->offset + size) * 2;
        upload->data = regrab(upload->data, upload->room);
    }
    memcpy(upload->data + args->offset, data, size);
    upload->size += size;
    if (args->number < 64)
        mem.part_bytes[args->number] = size;
    mem.part_sum = first_sum(args->sums, args->n_sums);
    mem_drop(data);
    return PST_OK;
}

static pst_rc do_upload_commit(struct mem_job *job)
{
    const pst_commit_args *args = job->args;
    pst_upload *upload = job->object;
    mem.commit_sum = first_sum(args->sums, args->n_sums);
    if (upload->size != args->size && upload->data)
        return PST_E_DATA_LOSS;
    if (!upload->data && args->size > 0) { /* committed before: the same answer */
        int is_there = 0;
        size_t i = place_of(upload->key, &is_there);
        answer_put(job->op, &objects[i], job->result);
        return PST_OK;
    }
    struct mem_object *object = set_object(upload->key, upload->data ? upload->data : mem_grab(1),
                                           upload->size);
    upload->data = NULL;
    memcpy(object->content_type, upload->content_type, sizeof(object->content_type));
    answer_put(job->op, object, job->result);
    return PST_OK;
}

void mem_upload_free(pst_upload *upload)
{
    union {
        const char *borrowed;
        char *owned;
    } key = {.borrowed = upload->key.ptr};
    pthread_mutex_lock(&mem_mutex);
    if (upload->n_under_way > 0)
        mem.has_overlap = 1;
    mem.n_uploads--;
    pthread_cond_broadcast(&mem_changed);
    pthread_mutex_unlock(&mem_mutex);
    mem_drop(upload->data);
    mem_drop(key.owned);
    mem_drop(upload);
}

/* ---- the rest --------------------------------------------------------------------------------- */

/* Two containers, one to a page. */
static pst_rc do_container_list(struct mem_job *job)
{
    const pst_list_args *args = job->args;
    pst_list_result *result = job->result;
    const pst_host *host = job->op->host;
    const pst_entry entry = {.key = args->page_token.len ? PST_STR("aaa") : PST_STR("box")};
    if (args->page_token.len == 0)
        result->next_token = PST_STR("2");
    return host->list_emit(host, job->op, &entry, 1, sizeof(entry));
}

static pst_rc do_presign(struct mem_job *job)
{
    const pst_presign_args *args = job->args;
    pst_presign_result *result = job->result;
    char *url = job->op->host->op_alloc(job->op->host, job->op, 200);
    if (!url)
        return PST_E_NO_MEMORY;
    int n = snprintf(url, 200, "https://box/%.*s?%.*s", (int)args->key.len, args->key.ptr,
                     (int)args->method.len, args->method.ptr);
    result->url = pst_str_of(url, (size_t)n);
    return PST_OK;
}

static pst_rc do_cleanup(struct mem_job *job)
{
    const pst_cleanup_args *args = job->args;
    pst_cleanup_result *result = job->result;
    pst_entry entry = {.key = PST_STR("left-over"), .size = 7};
    result->n_removed = args->flags & PST_CLEANUP_DRY_RUN ? 1 : 2;
    result->n_bytes = args->older_than_s;
    return job->op->host->list_emit(job->op->host, job->op, &entry, 1, sizeof(entry));
}

pst_rc mem_perform(struct mem_job *job, int must_fail)
{
    switch (job->slot) {
    case MEM_STAT:
        return do_stat(job);
    case MEM_PUT:
        return do_put(job);
    case MEM_COPY:
    case MEM_RENAME:
        return do_copy(job);
    case MEM_REMOVE:
        return do_remove(job);
    case MEM_LIST:
        return do_list(job, must_fail);
    case MEM_LIST_OPEN:
        return do_list_open(job);
    case MEM_LIST_PAGE:
        return do_list_page(job, must_fail);
    case MEM_UPLOAD_OPEN:
        return do_upload_open(job);
    case MEM_UPLOAD_PART:
        return do_upload_part(job);
    case MEM_UPLOAD_COMMIT:
        return do_upload_commit(job);
    case MEM_UPLOAD_ABORT:
        mem.n_aborted++;
        return PST_OK;
    case MEM_CONTAINER:
        return ((const pst_container_args *)job->args)->name.len == 0 ? PST_E_EXISTS : PST_OK;
    case MEM_CONTAINER_LIST:
        return do_container_list(job);
    case MEM_PRESIGN:
        return do_presign(job);
    case MEM_CLEANUP:
        return do_cleanup(job);
    case MEM_READ:
    case MEM_SLOTS:
        break;
    }
    return PST_E_UNIMPLEMENTED;
}

const struct mem_object *mem_find(pst_str key)
{
    int is_there = 0;
    size_t i = place_of(key, &is_there);
    return is_there ? &objects[i] : NULL;
}

void mem_set(pst_str key, unsigned char *data, size_t size)
{
    set_object(key, data, size);
}

void mem_drop_all(void)
{
    while (n_objects > 0)
        drop_object(n_objects - 1);
    mem_drop(objects);
    objects = NULL;
    serial = 0;
}

size_t memstore_count(void)
{
    return n_objects;
}
