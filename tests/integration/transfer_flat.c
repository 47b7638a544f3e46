/* transfer_flat.c - an object store for tests: any bytes are a key, and prefixes are only text.
 *
 * An object is one file in a directory (option `dir`), so that processes share the store; its name is
 * the key's hash, its beginning a header with key and attributes. What the options choose: whether
 * listings come in order, whether sums are kept, whether the store copies and renames by itself, and
 * which operation fails (`fault`: "list:3" after three entries, "put:KEY", "read:KEY", "remove:KEY",
 * "corrupt:KEY" which drops the last byte at commit and "flip:KEY" which changes the first one, and
 * neither says anything).
 *
 * Written for clarity, not to be copied into a product: plugins/file is for that. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <penstock/sync.h>

#define KEY_MAX_BYTES 1024u
#define META_MAX 16u
#define TEXT_MAX 4096u

/* At the start of every file; the object's bytes follow. */
struct header {
    uint32_t has_crc, n_meta, key_len, type_len;
    uint8_t crc[4];
    uint32_t meta_lens[META_MAX][2];
    char key[KEY_MAX_BYTES];
    char text[TEXT_MAX]; /* content type, then names and values of the metadata */
};

struct pst_backend {
    const pst_host *host;
    int dir_fd;
    int keeps_sums;
    uint64_t caps;
    char fault[KEY_MAX_BYTES + 16];
};

struct pst_upload {
    pst_backend *backend;
    int fd;
    struct header header;
    char temp[64];
};

#define CAPS                                                                                       \
    (PST_CAP_READ | PST_CAP_STAT | PST_CAP_PUT | PST_CAP_UPLOAD | PST_CAP_UPLOAD_UNORDERED |       \
     PST_CAP_REMOVE | PST_CAP_LIST | PST_CAP_LIST_ORDERED | PST_CAP_COPY | PST_CAP_RENAME |        \
     PST_CAP_READ_IF_MATCH | PST_CAP_WRITE_IF_MATCH | PST_CAP_USER_META | PST_CAP_CONTENT_TYPE)

static const pst_limits limits = {
    .struct_size = sizeof(limits), .key_max = KEY_MAX_BYTES, .parts_max = 10000};

static const pst_option options[] = {
    {.type = PST_OPT_PATH, .name = "dir", .env = "FLAT_DIR", .doc = "where the objects are"},
    {.type = PST_OPT_BOOL,
     .name = "ordered",
     .fallback = "1",
     .env = "FLAT_ORDERED",
     .doc = "order"},
    {.type = PST_OPT_BOOL, .name = "sums", .fallback = "0", .env = "FLAT_SUMS", .doc = "keep sums"},
    {.type = PST_OPT_BOOL,
     .name = "direct",
     .fallback = "0",
     .env = "FLAT_DIRECT",
     .doc = "copy and rename"},
    {.type = PST_OPT_STRING, .name = "fault", .env = "FLAT_FAULT", .doc = "what fails"},
};

static pst_rc fail(pst_op *op, pst_rc rc, const char *what, pst_str key)
{
    op->err->code = rc;
    snprintf(op->err->message, sizeof(op->err->message), "%s %.*s", what, (int)key.len,
             key.ptr ? key.ptr : "");
    return rc;
}

static int is_fault(const pst_backend *b, const char *what, pst_str key)
{
    size_t len = strlen(what);
    return strncmp(b->fault, what, len) == 0 && strlen(b->fault + len) == key.len &&
           memcmp(b->fault + len, key.ptr, key.len) == 0;
}

static void name_file(pst_str key, char name[24])
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < key.len; i++)
        h = (h ^ (unsigned char)key.ptr[i]) * 0x100000001b3u;
    snprintf(name, 24, "%016llx.o", (unsigned long long)h);
}

/* Open an object and read its header; -1 if there is none. */
static int open_file(const pst_backend *b, const char *name, struct header *header, struct stat *st)
{
    int fd = openat(b->dir_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 &&
        (pread(fd, header, sizeof(*header), 0) != (ssize_t)sizeof(*header) || fstat(fd, st) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

static int open_object(const pst_backend *b, pst_str key, struct header *header, struct stat *st)
{
    char name[24];
    name_file(key, name);
    return open_file(b, name, header, st);
}

static pst_str etag_of(pst_op *op, const struct stat *st)
{
    char *text = op->host->op_alloc(op->host, op, 48);
    int n = text ? snprintf(text, 48, "%llx-%llx", (unsigned long long)st->st_ino,
                            (unsigned long long)st->st_mtim.tv_nsec +
                                (unsigned long long)st->st_mtim.tv_sec * 1000000000u)
                 : 0;
    return pst_str_of(text, (size_t)n);
}

static int matches(pst_str a, pst_str b)
{
    return b.len == 0 || (a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0);
}

static pst_rc flat_read(pst_backend *b, pst_op *op, const pst_read_args *args,
                        pst_read_result *result)
{
    struct header header;
    struct stat st;
    pst_dst_grant grant = {.struct_size = sizeof(grant), .dst = args->dst, .n_dst = args->n_dst};
    pst_rc rc = PST_OK;
    int fd = open_object(b, args->key, &header, &st);

    if (is_fault(b, "read:", args->key))
        rc = fail(op, PST_E_IO, "planted fault: read", args->key);
    else if (fd < 0)
        return fail(op, PST_E_NOT_FOUND, "no object", args->key);
    uint64_t size = rc == PST_OK ? (uint64_t)st.st_size - sizeof(header) : 0, n = 0;
    if (rc == PST_OK && !matches(etag_of(op, &st), args->if_match))
        rc = fail(op, PST_E_PRECONDITION, "another version of", args->key);
    if (rc == PST_OK) {
        result->object_size = size;
        result->etag = etag_of(op, &st);
        result->etag_strength = PST_ETAG_STRONG;
        n = args->offset < size ? size - args->offset : 0;
        n = n > args->length ? args->length : n;
    }
    if (rc == PST_OK && n > 0 && args->n_dst == 0) {
        pst_dst_args ask = {.struct_size = sizeof(ask),
                            .length = n,
                            .capacity = n,
                            .object_size = size,
                            .etag_strength = PST_ETAG_STRONG,
                            .etag = result->etag};
        rc = op->host->dst(op->host, op, &ask, &grant);
    }
    for (size_t i = 0; rc == PST_OK && i < grant.n_dst && result->n_read < n; i++) {
        uint64_t left = n - result->n_read;
        size_t len = grant.dst[i].len < left ? grant.dst[i].len : (size_t)left;
        ssize_t got = pread(fd, grant.dst[i].ptr, len,
                            (off_t)(sizeof(header) + args->offset + result->n_read));
        if (got != (ssize_t)len)
            rc = fail(op, PST_E_IO, "short read of", args->key);
        else
            result->n_read += len;
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

static pst_rc flat_stat(pst_backend *b, pst_op *op, const pst_stat_args *args, pst_attr *attr)
{
    struct header *header = op->host->op_alloc(op->host, op, sizeof(*header));
    pst_kv *metas = op->host->op_alloc(op->host, op, META_MAX * sizeof(*metas));
    pst_sum *sum = op->host->op_alloc(op->host, op, sizeof(*sum));
    struct stat st;
    int fd = header && metas && sum ? open_object(b, args->key, header, &st) : -1;

    if (fd < 0)
        return fail(op, PST_E_NOT_FOUND, "no object", args->key);
    close(fd);
    const char *at = header->text + header->type_len;
    for (uint32_t i = 0; i < header->n_meta; i++) {
        metas[i].key = pst_str_of(at, header->meta_lens[i][0]);
        at += header->meta_lens[i][0];
        metas[i].value = pst_str_of(at, header->meta_lens[i][1]);
        at += header->meta_lens[i][1];
    }
    attr->kind = PST_KIND_OBJECT;
    attr->size = (uint64_t)st.st_size - sizeof(*header);
    attr->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    attr->etag = etag_of(op, &st);
    attr->etag_strength = PST_ETAG_STRONG;
    attr->content_type = pst_str_of(header->text, header->type_len);
    attr->user_meta = metas;
    attr->n_user_meta = header->n_meta;
    if (header->has_crc) {
        memset(sum, 0, sizeof(*sum));
        sum->algorithm = PST_SUM_CRC32C;
        sum->length = 4;
        memcpy(sum->bytes, header->crc, 4);
        attr->sums = sum;
        attr->sum_stride = sizeof(*sum);
        attr->n_sums = 1;
    }
    return PST_OK;
}

/* ---- writing ------------------------------------------------------------------------------------- */

static int add_text(struct header *header, size_t *used, pst_str text)
{
    if (text.len > sizeof(header->text) - *used)
        return -1;
    if (text.len > 0)
        memcpy(header->text + *used, text.ptr, text.len);
    *used += text.len;
    return 0;
}

static pst_rc fill_header(pst_op *op, const pst_put_args *args, struct header *header)
{
    const pst_attr *attr = args->attr;
    size_t used = 0;
    int failed = args->key.len > KEY_MAX_BYTES || attr->n_user_meta > META_MAX;

    memset(header, 0, sizeof(*header));
    if (failed)
        return fail(op, PST_E_INVALID, "too long or too much metadata:", args->key);
    memcpy(header->key, args->key.ptr, args->key.len);
    header->key_len = (uint32_t)args->key.len;
    failed |= add_text(header, &used, attr->content_type);
    header->type_len = (uint32_t)attr->content_type.len;
    header->n_meta = (uint32_t)attr->n_user_meta;
    for (size_t i = 0; i < attr->n_user_meta; i++) {
        failed |= add_text(header, &used, attr->user_meta[i].key);
        failed |= add_text(header, &used, attr->user_meta[i].value);
        header->meta_lens[i][0] = (uint32_t)attr->user_meta[i].key.len;
        header->meta_lens[i][1] = (uint32_t)attr->user_meta[i].value.len;
    }
    return failed ? fail(op, PST_E_INVALID, "too much metadata:", args->key) : (pst_rc)PST_OK;
}

static void keep_sum(const pst_backend *b, struct header *header, const pst_sum *sums,
                     size_t stride, uint32_t n)
{
    for (uint32_t i = 0; i < n && b->keeps_sums; i++) {
        const pst_sum *sum = (const pst_sum *)(const void *)((const char *)sums + i * stride);
        if (sum->algorithm == PST_SUM_CRC32C) {
            memcpy(header->crc, sum->bytes, 4);
            header->has_crc = 1;
        }
    }
}

static pst_rc flat_upload_open(pst_backend *b, pst_op *op, const pst_put_args *args,
                               pst_upload_result *result)
{
    pst_upload *u = op->host->alloc(op->host, sizeof(*u), 16);
    pst_rc rc;

    if (!u)
        return PST_E_NO_MEMORY;
    memset(u, 0, sizeof(*u));
    u->backend = b;
    u->fd = -1;
    rc = fill_header(op, args, &u->header);
    snprintf(u->temp, sizeof(u->temp), "%d-%llu.t", (int)getpid(), (unsigned long long)op->id);
    if (rc == PST_OK) {
        u->fd = openat(b->dir_fd, u->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (u->fd < 0)
            rc = fail(op, PST_E_IO, "cannot create", args->key);
    }
    if (rc == PST_OK)
        result->upload = u;
    else
        op->host->dealloc(op->host, u);
    return rc;
}

static pst_rc write_at(pst_upload *u, pst_op *op, const pst_iov *src, size_t n_src, uint64_t offset)
{
    for (size_t i = 0; i < n_src; i++) {
        ssize_t n = src[i].len ? pwrite(u->fd, src[i].ptr, src[i].len,
                                        (off_t)(sizeof(struct header) + offset))
                               : 0;
        if (n != (ssize_t)src[i].len)
            return fail(op, PST_E_IO, "short write of",
                        pst_str_of(u->header.key, u->header.key_len));
        offset += src[i].len;
    }
    return PST_OK;
}

static pst_rc flat_upload_part(pst_upload *u, pst_op *op, const pst_part_args *args,
                               pst_result *result)
{
    (void)result;
    return write_at(u, op, args->src, args->n_src, args->offset);
}

static pst_rc flat_upload_commit(pst_upload *u, pst_op *op, const pst_commit_args *args,
                                 pst_put_result *result)
{
    pst_backend *b = u->backend;
    pst_str key = pst_str_of(u->header.key, u->header.key_len);
    char name[24];
    struct stat st;

    if (is_fault(b, "put:", key))
        return fail(op, PST_E_IO, "planted fault: put", key);
    name_file(key, name);
    keep_sum(b, &u->header, args->sums, args->sum_stride, args->n_sums);
    if (is_fault(b, "corrupt:", key) &&
        ftruncate(u->fd, (off_t)(sizeof(u->header) + args->size - 1)))
        return fail(op, PST_E_IO, "cannot truncate", key);
    if (is_fault(b, "flip:", key) && pwrite(u->fd, "?", 1, (off_t)sizeof(u->header)) != 1)
        return fail(op, PST_E_IO, "cannot flip", key);
    if (pwrite(u->fd, &u->header, sizeof(u->header), 0) != (ssize_t)sizeof(u->header) ||
        renameat(b->dir_fd, u->temp, b->dir_fd, name) != 0 || fstat(u->fd, &st) != 0)
        return fail(op, PST_E_IO, "cannot commit", key);
    u->temp[0] = '\0';
    result->size = PST_UNKNOWN;
    result->etag = etag_of(op, &st);
    result->etag_strength = PST_ETAG_STRONG;
    return PST_OK;
}

static pst_rc flat_upload_abort(pst_upload *u, pst_op *op, const pst_abort_args *args,
                                pst_result *result)
{
    (void)op;
    (void)args;
    (void)result;
    if (u->temp[0])
        unlinkat(u->backend->dir_fd, u->temp, 0);
    u->temp[0] = '\0';
    return PST_OK;
}

static void flat_upload_free(pst_upload *u)
{
    close(u->fd);
    u->backend->host->dealloc(u->backend->host, u);
}

static pst_rc flat_put(pst_backend *b, pst_op *op, const pst_put_args *args, pst_put_result *result)
{
    pst_upload_result opened = {.struct_size = sizeof(opened)};
    pst_commit_args commit = {.struct_size = sizeof(commit),
                              .n_sums = args->n_sums,
                              .sums = args->sums,
                              .sum_stride = args->sum_stride};
    pst_rc rc = flat_upload_open(b, op, args, &opened);

    if (rc != PST_OK)
        return rc;
    for (size_t i = 0; i < args->n_src; i++)
        commit.size += args->src[i].len;
    rc = write_at(opened.upload, op, args->src, args->n_src, 0);
    if (rc == PST_OK)
        rc = flat_upload_commit(opened.upload, op, &commit, result);
    if (rc != PST_OK)
        (void)flat_upload_abort(opened.upload, op, NULL, NULL);
    flat_upload_free(opened.upload);
    return rc;
}

/* ---- copy, rename, remove ------------------------------------------------------------------------- */

static pst_rc flat_copy(pst_backend *b, pst_op *op, const pst_copy_args *args,
                        pst_put_result *result)
{
    pst_upload *u = NULL;
    pst_upload_result opened = {.struct_size = sizeof(opened)};
    pst_commit_args commit = {.struct_size = sizeof(commit)};
    pst_attr none = {.struct_size = sizeof(none)};
    pst_put_args put = {.struct_size = sizeof(put), .key = args->to, .attr = &none};
    struct header header;
    struct stat st;
    char *block = malloc(1 << 16);
    uint64_t offset = 0;
    ssize_t n = 0;
    int fd = block ? open_object(b, args->from, &header, &st) : -1;
    pst_rc rc = fd >= 0 ? flat_upload_open(b, op, &put, &opened)
                        : fail(op, PST_E_NOT_FOUND, "no object", args->from);

    if (rc == PST_OK) {
        u = opened.upload;
        memcpy(header.key, args->to.ptr, args->to.len);
        header.key_len = (uint32_t)args->to.len;
        u->header = header;
        commit.size = (uint64_t)st.st_size - sizeof(header);
    }
    while (rc == PST_OK && (n = pread(fd, block, 1 << 16, (off_t)(sizeof(header) + offset))) > 0) {
        pst_iov src = {block, (size_t)n};
        rc = write_at(u, op, &src, 1, offset);
        offset += (uint64_t)n;
    }
    if (rc == PST_OK)
        rc = flat_upload_commit(u, op, &commit, result);
    if (u)
        flat_upload_free(u);
    if (fd >= 0)
        close(fd);
    free(block);
    return rc;
}

static pst_rc remove_key(pst_backend *b, pst_op *op, pst_str key, pst_str if_match)
{
    struct header header;
    struct stat st;
    char name[24];
    int fd;

    if (is_fault(b, "remove:", key))
        return fail(op, PST_E_DENIED, "planted fault: remove", key);
    fd = open_object(b, key, &header, &st);
    if (fd < 0)
        return if_match.len ? fail(op, PST_E_PRECONDITION, "no object", key) : (pst_rc)PST_OK;
    close(fd);
    if (!matches(etag_of(op, &st), if_match))
        return fail(op, PST_E_PRECONDITION, "another version of", key);
    name_file(key, name);
    return unlinkat(b->dir_fd, name, 0) == 0 ? (pst_rc)PST_OK
                                             : fail(op, PST_E_IO, "cannot remove", key);
}

static pst_rc flat_rename(pst_backend *b, pst_op *op, const pst_copy_args *args,
                          pst_put_result *result)
{
    pst_rc rc = flat_copy(b, op, args, result);
    return rc == PST_OK ? remove_key(b, op, args->from, pst_str_of(NULL, 0)) : rc;
}

static pst_rc flat_remove(pst_backend *b, pst_op *op, const pst_remove_args *args,
                          pst_remove_result *result)
{
    pst_rc rc = PST_OK;
    for (size_t i = 0; i < args->n_keys; i++) {
        result->status[i] = remove_key(b, op, args->keys[i], args->if_match);
        if (rc == PST_OK)
            rc = result->status[i];
    }
    return args->n_keys == 1 ? rc : (pst_rc)PST_OK;
}

/* ---- listing --------------------------------------------------------------------------------------- */

struct pst_cursor {
    pst_backend *backend;
    pst_entry *entries;
    size_t n, at, fails_at;
};

static int compare_entries(const void *a, const void *b)
{
    pst_str x = ((const pst_entry *)a)->key, y = ((const pst_entry *)b)->key;
    int order = memcmp(x.ptr, y.ptr, x.len < y.len ? x.len : y.len);
    return order ? order : (x.len > y.len) - (x.len < y.len);
}

static int compare_backwards(const void *a, const void *b)
{
    return compare_entries(b, a);
}

static void add_entry(pst_cursor *c, const pst_list_args *args, const struct header *header,
                      const struct stat *st)
{
    size_t len = header->key_len, prefix = args->prefix.len;
    const char *slash;
    pst_entry *entry = &c->entries[c->n];

    if (len < prefix || memcmp(header->key, args->prefix.ptr, prefix) != 0)
        return;
    memset(entry, 0, sizeof(*entry));
    entry->size = (uint64_t)st->st_size - sizeof(*header);
    entry->mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
    slash = memchr(header->key + prefix, '/', len - prefix);
    if (slash && !(args->flags & PST_LIST_RECURSIVE)) {
        len = (size_t)(slash + 1 - header->key);
        entry->kind = PST_KIND_PREFIX;
    }
    char *key = malloc(len + 1);
    if (!key)
        abort();
    memcpy(key, header->key, len);
    entry->key = pst_str_of(key, len);
    c->n++;
}

/* All entries at once: tests have few. */
static pst_rc flat_list_open(pst_backend *b, pst_op *op, const pst_list_args *args,
                             pst_cursor_result *result)
{
    pst_cursor *c = calloc(1, sizeof(*c));
    int fd = openat(b->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    struct header header;
    struct stat st;

    if (!c || !dir)
        return fail(op, PST_E_IO, "cannot list", args->prefix);
    c->backend = b;
    c->fails_at = strncmp(b->fault, "list:", 5) == 0 ? strtoul(b->fault + 5, NULL, 10) : SIZE_MAX;
    while ((entry = readdir(dir)) != NULL) {
        size_t len = strlen(entry->d_name);
        if (len < 2 || strcmp(entry->d_name + len - 2, ".o") != 0)
            continue;
        fd = open_file(b, entry->d_name, &header, &st);
        c->entries = reallocarray(c->entries, c->n + 1, sizeof(*c->entries));
        if (!c->entries)
            abort();
        if (fd >= 0) {
            close(fd);
            add_entry(c, args, &header, &st);
        }
    }
    closedir(dir);
    if (c->n > 0)
        qsort(c->entries, c->n, sizeof(*c->entries),
              b->caps & PST_CAP_LIST_ORDERED ? compare_entries : compare_backwards);
    result->cursor = c;
    return PST_OK;
}

static pst_rc flat_list_page(pst_cursor *c, pst_op *op, const pst_page_args *args,
                             pst_list_result *result)
{
    (void)args;
    while (c->at < c->n) {
        pst_entry *entry = &c->entries[c->at];
        if (c->at == c->fails_at)
            return fail(op, PST_E_UNAVAILABLE, "planted fault: list", pst_str_of(NULL, 0));
        int is_same = c->at > 0 && entry->kind == PST_KIND_PREFIX &&
                      compare_entries(entry, entry - 1) == 0;
        pst_rc rc = is_same ? (pst_rc)PST_OK
                            : op->host->list_emit(op->host, op, entry, 1, sizeof(*entry));
        if (rc != PST_OK)
            return rc;
        c->at++;
        if (!is_same)
            break; /* one entry a page: every page boundary is tried */
    }
    if (c->at == c->n && c->n != c->fails_at)
        result->flags |= PST_PAGE_LAST;
    return PST_OK;
}

static void flat_list_close(pst_cursor *c)
{
    for (size_t i = 0; i < c->n; i++)
        free((void *)(uintptr_t)c->entries[i].key.ptr);
    free(c->entries);
    free(c);
}

/* ---- the store -------------------------------------------------------------------------------------- */

static void flat_info(pst_backend *b, pst_backend_info *info)
{
    info->caps = b->caps;
    info->endpoint = "flat:1";
    info->note = "";
    info->want_sums = b->keeps_sums ? 1u << PST_SUM_CRC32C : 0;
    info->limits->key_max = KEY_MAX_BYTES;
    info->limits->parts_max = limits.parts_max;
}

static void flat_close(pst_backend *b)
{
    close(b->dir_fd);
    free(b);
}

static pst_str find_option(const pst_open_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_options; i++) {
        pst_str key = args->options[i].key;
        if (key.len == strlen(name) && memcmp(key.ptr, name, key.len) == 0)
            return args->options[i].value;
    }
    return pst_str_of("", 0);
}

static int is_on(const pst_open_args *args, const char *name)
{
    pst_str value = find_option(args, name);
    return value.len == 1 && value.ptr[0] == '1';
}

static pst_rc store_open(const pst_host *host, const pst_open_args *args, pst_backend **out,
                         pst_error *err)
{
    pst_backend *b = calloc(1, sizeof(*b));
    pst_str dir = find_option(args, "dir"), fault = find_option(args, "fault");
    char path[4096];

    if (!b)
        return PST_E_NO_MEMORY;
    b->host = host;
    b->caps = CAPS;
    if (!is_on(args, "ordered"))
        b->caps &= ~PST_CAP_LIST_ORDERED;
    if (!is_on(args, "direct"))
        b->caps &= ~(PST_CAP_COPY | PST_CAP_RENAME);
    b->keeps_sums = is_on(args, "sums");
    snprintf(b->fault, sizeof(b->fault), "%.*s", (int)fault.len, fault.ptr);
    snprintf(path, sizeof(path), "%.*s/%.*s", (int)dir.len, dir.ptr, (int)args->authority.len,
             args->authority.ptr);
    b->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (b->dir_fd < 0) {
        free(b);
        err->code = PST_E_NOT_FOUND;
        snprintf(err->message, sizeof(err->message), "no bucket %.512s", path);
        return PST_E_NOT_FOUND;
    }
    *out = b;
    return PST_OK;
}

static const pst_backend_ops blocking = {
    .struct_size = sizeof(blocking),
    .read = flat_read,
    .stat = flat_stat,
    .put = flat_put,
    .copy = flat_copy,
    .rename = flat_rename,
    .remove = flat_remove,
    .list_open = flat_list_open,
    .list_page = flat_list_page,
    .list_close = flat_list_close,
    .upload_open = flat_upload_open,
    .upload_part = flat_upload_part,
    .upload_commit = flat_upload_commit,
    .upload_abort = flat_upload_abort,
    .upload_free = flat_upload_free,
    .info = flat_info,
    .close = flat_close,
};

PST_SYNC_OPS(ops, blocking)

static const char *const schemes[] = {"flat", NULL};

static const pst_plugin plugin_table = {
    .struct_size = sizeof(plugin_table),
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .caps = CAPS,
    .threads = PST_THREADS_PARALLEL,
    .op_scratch = PST_SYNC_SCRATCH,
    .id = "flat",
    .version = "0.9.0",
    .vendor = "Penstock tests",
    .license = "Apache-2.0",
    .schemes = schemes,
    .limits = &limits,
    .options = options,
    .option_stride = sizeof(options[0]),
    .n_options = sizeof(options) / sizeof(options[0]),
    .ops = &ops,
    .store_open = store_open,
};

PST_PLUGIN_ENTRY(host, plugin, err)
{
    (void)host;
    (void)err;
    *plugin = &plugin_table;
    return PST_OK;
}
