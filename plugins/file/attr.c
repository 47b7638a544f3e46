/* attr.c - etags, and what a file system has no field for: content type, user metadata, checksums.
 *
 * An etag is "dev-ino-size-mtime-ctime" in hexadecimal, times in nanoseconds. It is declared STRONG:
 * every way to change a file's bytes moves mtime and ctime, and only ctime cannot be set back by a
 * program. What the kernel cannot show: a change that keeps the size and falls into the same tick of
 * its clock as the look before it (4 ms or less; Linux 6.13 and later refine the clock of a file that
 * was looked at, on ext4, xfs, btrfs and tmpfs).
 *
 * The rest lives in extended attributes of the file:
 *
 *     user.penstock.content_type        and so on, the text fields of pst_attr
 *     user.penstock.meta.<key>          user metadata, key and value as they are
 *     user.penstock.sums                "<size> <mtime> <now> crc32c:e3069283 ..."
 *
 * They are written to the temporary file before it gets its name, so an object and its attributes
 * appear together. What does not fit (ext4 has room for about 4 KB) is INVALID: a caller whose
 * metadata was dropped would learn it too late.
 *
 * A checksum is only as good as the certainty that the bytes are still the same. The sums are kept
 * with the size and mtime of the file and the wall clock of the moment; they are reported only while
 * size and mtime are the same and the file's ctime lies within 50 ms of that clock. A program that
 * changed the bytes in place and set the mtime back has moved the ctime. So has chmod, in which case
 * we report no sum although it would be right: the safe side. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define XATTR_NAME_MAX_BYTES 255u /* XATTR_NAME_MAX of linux/limits.h */
#define META_PREFIX "user.penstock.meta."
#define META_PREFIX_LEN (sizeof(META_PREFIX) - 1)
#define SUMS_NAME "user.penstock.sums"
#define SUMS_TEXT_MAX 512
#define SUMS_TRUST_NS 50000000
#define SETTLE_TRIES 3

/* ---- etags ------------------------------------------------------------------------------------- */

static int64_t to_ns(struct timespec t)
{
    int64_t ns;

    /* Beyond the year 2262 a signed 64-bit count of nanoseconds ends. */
    if (__builtin_mul_overflow((int64_t)t.tv_sec, INT64_C(1000000000), &ns) ||
        __builtin_add_overflow(ns, (int64_t)t.tv_nsec, &ns))
        return t.tv_sec < 0 ? INT64_MIN + 1 : INT64_MAX;
    return ns;
}

int64_t fst_mtime_ns(const struct stat *st)
{
    return to_ns(st->st_mtim);
}

static char *put_hex(char *out, uint64_t value)
{
    static const char digits[] = "0123456789abcdef";
    int shift = 60;

    while (shift > 0 && (value >> shift) == 0)
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        *out++ = digits[(value >> shift) & 15];
    return out;
}

/* By hand and not by snprintf: every read makes one. */
pst_str fst_etag(const struct stat *st, char *out)
{
    const uint64_t fields[] = {st->st_dev, st->st_ino, (uint64_t)st->st_size,
                               (uint64_t)to_ns(st->st_mtim), (uint64_t)to_ns(st->st_ctim)};
    char *end = out;

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (i > 0)
            *end++ = '-';
        end = put_hex(end, fields[i]);
    }
    return pst_str_of(out, (size_t)(end - out));
}

int fst_etag_matches(const struct stat *st, pst_str etag)
{
    char now[FST_ETAG_SIZE];
    pst_str mine = fst_etag(st, now);

    return mine.len == etag.len && memcmp(mine.ptr, etag.ptr, mine.len) == 0;
}

static int is_same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

int fst_is_unchanged(const struct stat *before, const struct stat *after)
{
    if (before->st_size != after->st_size || !is_same_time(before->st_mtim, after->st_mtim))
        return 0;
    /* A rename over the file or its removal moves the ctime of an open file without touching its
     * bytes. The name is gone then, so nobody opens it any more to change it: what we have read is
     * the old version, whole. */
    return is_same_time(before->st_ctim, after->st_ctim) || after->st_nlink == 0;
}

/* ---- text fields and user metadata --------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t offset; /* of the pst_str in pst_attr */
} text_fields[] = {
    {"user.penstock.content_type", offsetof(pst_attr, content_type)},
    {"user.penstock.content_encoding", offsetof(pst_attr, content_encoding)},
    {"user.penstock.content_language", offsetof(pst_attr, content_language)},
    {"user.penstock.content_disposition", offsetof(pst_attr, content_disposition)},
    {"user.penstock.cache_control", offsetof(pst_attr, cache_control)},
    {"user.penstock.storage_class", offsetof(pst_attr, storage_class)},
};
enum { N_TEXT_FIELDS = sizeof(text_fields) / sizeof(text_fields[0]) };

static pst_rc set_one(const pst_backend *b, pst_op *op, pst_str key, int fd, const char *name,
                      pst_str value)
{
    struct statvfs room;

    if (fsetxattr(fd, name, value.len > 0 ? value.ptr : "", value.len, XATTR_CREATE) == 0)
        return PST_OK;
    switch (errno) {
    case EEXIST:
        return fst_fail(b, op, PST_E_INVALID, key, "a metadata key is given twice");
    case ENOSPC:
        /* "No room in the inode" and "no room on the disk" share a number. */
        if (fstatvfs(fd, &room) == 0 && room.f_bavail == 0)
            return fst_fail_errno(b, op, ENOSPC, key, "keep metadata");
        return fst_fail(b, op, PST_E_INVALID, key, "the metadata does not fit into its inode");
    case E2BIG:
    case ERANGE:
        return fst_fail(b, op, PST_E_INVALID, key, "the metadata is too large");
    case EOPNOTSUPP:
        return fst_fail(b, op, PST_E_INVALID, key, "this file system keeps no metadata");
    default:
        return fst_fail_errno(b, op, errno, key, "keep metadata");
    }
}

pst_rc fst_attr_write(const pst_backend *b, pst_op *op, pst_str key, int fd, const pst_attr *attr)
{
    char name[XATTR_NAME_MAX_BYTES + 1];
    pst_rc rc = PST_OK;

    for (size_t i = 0; i < N_TEXT_FIELDS && rc == PST_OK; i++) {
        pst_str value;
        memcpy(&value, (const char *)attr + text_fields[i].offset, sizeof(value));
        if (value.len > 0) /* empty is "not set" */
            rc = set_one(b, op, key, fd, text_fields[i].name, value);
    }
    size_t n_meta = PST_HAS(pst_attr, attr, n_user_meta) ? attr->n_user_meta : 0;
    for (size_t i = 0; i < n_meta && rc == PST_OK; i++) {
        const pst_kv *kv = &attr->user_meta[i];
        if (kv->key.len == 0 || kv->key.len > XATTR_NAME_MAX_BYTES - META_PREFIX_LEN ||
            memchr(kv->key.ptr, '\0', kv->key.len))
            return fst_fail(b, op, PST_E_INVALID, key,
                            "a metadata key has 1 to 236 bytes and no NUL among them");
        memcpy(name, META_PREFIX, META_PREFIX_LEN);
        memcpy(name + META_PREFIX_LEN, kv->key.ptr, kv->key.len);
        name[META_PREFIX_LEN + kv->key.len] = '\0';
        rc = set_one(b, op, key, fd, name, kv->value);
    }
    return rc;
}

/* The value of one attribute, in memory of `op`. An attribute that is gone by now is empty. */
static pst_rc get_one(const pst_backend *b, pst_op *op, pst_str key, int fd, const char *name,
                      pst_str *out)
{
    *out = pst_str_of(NULL, 0);
    ssize_t size = fgetxattr(fd, name, NULL, 0);
    if (size <= 0)
        return size == 0 || errno == ENODATA ? PST_OK
                                             : fst_fail_errno(b, op, errno, key, "read metadata");
    char *value = op->host->op_alloc(op->host, op, (size_t)size);
    if (!value)
        return fst_no_memory(op);
    ssize_t got = fgetxattr(fd, name, value, (size_t)size);
    if (got < 0)
        return errno == ERANGE ? fst_fail(b, op, PST_E_CHANGED, key, "its metadata was changed")
                               : fst_fail_errno(b, op, errno, key, "read metadata");
    *out = pst_str_of(value, (size_t)got);
    return PST_OK;
}

/* The names of all attributes, one NUL behind each, in memory of `op`. */
static pst_rc list_names(const pst_backend *b, pst_op *op, pst_str key, int fd, char **names,
                         size_t *len)
{
    ssize_t size = flistxattr(fd, NULL, 0);

    *names = NULL;
    *len = 0;
    if (size < 0 && errno != EOPNOTSUPP)
        return fst_fail_errno(b, op, errno, key, "list metadata");
    if (size <= 0)
        return PST_OK;
    *names = op->host->op_alloc(op->host, op, (size_t)size);
    if (!*names)
        return fst_no_memory(op);
    size = flistxattr(fd, *names, (size_t)size);
    if (size < 0)
        return errno == ERANGE ? fst_fail(b, op, PST_E_CHANGED, key, "its metadata was changed")
                               : fst_fail_errno(b, op, errno, key, "list metadata");
    *len = (size_t)size;
    return PST_OK;
}

static pst_rc read_text_field(const pst_backend *b, pst_op *op, pst_str key, int fd,
                              const char *name, pst_attr *attr)
{
    pst_str value;

    for (size_t i = 0; i < N_TEXT_FIELDS; i++) {
        if (strcmp(name, text_fields[i].name) != 0)
            continue;
        pst_rc rc = get_one(b, op, key, fd, name, &value);
        if (rc != PST_OK)
            return rc;
        memcpy((char *)attr + text_fields[i].offset, &value, sizeof(value));
    }
    return PST_OK;
}

pst_rc fst_attr_read(const pst_backend *b, pst_op *op, pst_str key, int fd, pst_attr *attr)
{
    char *names;
    size_t len, n_meta = 0;
    pst_rc rc = list_names(b, op, key, fd, &names, &len);

    for (size_t at = 0; at < len; at += strlen(names + at) + 1)
        n_meta += strncmp(names + at, META_PREFIX, META_PREFIX_LEN) == 0;
    pst_kv *meta = NULL;
    if (rc == PST_OK && n_meta > 0) {
        meta = op->host->op_alloc(op->host, op,
                                  n_meta * sizeof(*meta)); /* at most 64 KiB of names */
        if (!meta)
            rc = fst_no_memory(op);
    }
    n_meta = 0;
    for (size_t at = 0; at < len && rc == PST_OK; at += strlen(names + at) + 1) {
        char *name = names + at;
        if (!meta || strncmp(name, META_PREFIX, META_PREFIX_LEN) != 0) {
            rc = read_text_field(b, op, key, fd, name, attr);
            continue;
        }
        meta[n_meta].key = pst_str_of(name + META_PREFIX_LEN, strlen(name) - META_PREFIX_LEN);
        rc = get_one(b, op, key, fd, name, &meta[n_meta].value);
        n_meta++;
    }
    if (rc == PST_OK && PST_HAS(pst_attr, attr, n_user_meta)) {
        attr->user_meta = meta;
        attr->n_user_meta = n_meta;
    }
    return rc;
}

/* ---- checksums ----------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t algorithm, length;
} kinds[] = {
    {"crc32c", PST_SUM_CRC32C, 4},
    {"crc64nvme", PST_SUM_CRC64NVME, 8},
    {"sha256", PST_SUM_SHA256, 32},
    {"md5", PST_SUM_MD5, 16},
};
enum { N_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static const pst_sum *find_sum(const pst_sum *sums, size_t stride, size_t n_sums,
                               uint32_t algorithm)
{
    for (size_t i = 0; i < n_sums; i++) {
        /* By stride, not by index: the host's pst_sum may be longer than ours. */
        const pst_sum *sum = (const pst_sum *)((const char *)sums + i * stride);
        if (sum->algorithm == algorithm)
            return sum;
    }
    return NULL;
}

pst_rc fst_sums_check(const pst_backend *b, pst_op *op, pst_str key, const pst_sum *sums,
                      size_t stride, size_t n_sums)
{
    for (size_t i = 0; i < N_KINDS; i++) {
        const pst_sum *sum = find_sum(sums, stride, n_sums, kinds[i].algorithm);
        if (sum && sum->length != kinds[i].length)
            return fst_fail(b, op, PST_E_INVALID, key, "a %s sum has %u bytes, not %u",
                            kinds[i].name, kinds[i].length, sum->length);
    }
    return PST_OK;
}

int fst_sums_write(int fd, const struct stat *st, const pst_sum *sums, size_t stride, size_t n_sums)
{
    char text[SUMS_TEXT_MAX];
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    int n = snprintf(text, sizeof(text), "%lld %lld %lld", (long long)st->st_size,
                     (long long)to_ns(st->st_mtim), (long long)to_ns(now));
    if (n < 0)
        return 0;
    char *end = text + n;
    char *const head = end;
    for (size_t i = 0; i < N_KINDS; i++) {
        const pst_sum *sum = find_sum(sums, stride, n_sums, kinds[i].algorithm);
        if (!sum)
            continue;
        n = snprintf(end, sizeof(text) - (size_t)(end - text), " %s:", kinds[i].name);
        if (n < 0)
            return 0;
        end += n;
        for (uint32_t j = 0; j < kinds[i].length; j++) {
            static const char digits[] = "0123456789abcdef";
            *end++ = digits[sum->bytes[j] >> 4];
            *end++ = digits[sum->bytes[j] & 15];
        }
    }
    return end == head ? 0 : fsetxattr(fd, SUMS_NAME, text, (size_t)(end - text), 0);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Parse "name:hex" at *p into `sum`. Returns 0 for what is not one of ours. */
static int parse_sum(const char **p, pst_sum *sum)
{
    for (size_t i = 0; i < N_KINDS; i++) {
        size_t len = strlen(kinds[i].name);
        if (strncmp(*p, kinds[i].name, len) != 0 || (*p)[len] != ':')
            continue;
        const char *hex = *p + len + 1;
        memset(sum, 0, sizeof(*sum));
        sum->algorithm = kinds[i].algorithm;
        sum->scope = PST_SCOPE_OBJECT;
        sum->length = kinds[i].length;
        for (uint32_t j = 0; j < sum->length; j++, hex += 2) {
            int high = hex_value(hex[0]);
            int low = high < 0 ? -1 : hex_value(hex[1]);
            if (low < 0)
                return 0;
            sum->bytes[j] = (uint8_t)(high * 16 + low);
        }
        *p = hex;
        return 1;
    }
    return 0;
}

uint32_t fst_sums_read(int fd, const struct stat *st, pst_sum sums[FST_SUMS_MAX])
{
    char text[SUMS_TEXT_MAX + 1];
    uint32_t n = 0;
    char *end;
    ssize_t len = fgetxattr(fd, SUMS_NAME, text, sizeof(text) - 1);

    if (len <= 0)
        return 0;
    text[len] = '\0';
    long long size = strtoll(text, &end, 10);
    long long mtime_ns = strtoll(end, &end, 10);
    long long then_ns = strtoll(end, &end, 10);
    int64_t late_ns;
    if (size != (long long)st->st_size || mtime_ns != (long long)to_ns(st->st_mtim) ||
        __builtin_sub_overflow(to_ns(st->st_ctim), (int64_t)then_ns, &late_ns) ||
        late_ns >= SUMS_TRUST_NS || late_ns <= -SUMS_TRUST_NS)
        return 0;
    const char *p = end;
    while (n < FST_SUMS_MAX && *p == ' ') {
        p++;
        if (!parse_sum(&p, &sums[n]))
            break;
        n++;
    }
    return n;
}

void fst_sums_settle(int fd, struct stat *st, const pst_sum *sums, size_t stride, size_t n_sums)
{
    pst_sum found[FST_SUMS_MAX];
    struct stat now;

    for (int i = 0; i < SETTLE_TRIES && n_sums > 0 && fst_sums_read(fd, st, found) == 0; i++) {
        if (fst_sums_write(fd, st, sums, stride, n_sums) != 0 || fstat(fd, &now) != 0 ||
            now.st_size != st->st_size || !is_same_time(now.st_mtim, st->st_mtim))
            return;
        *st = now;
    }
}

pst_rc fst_sums_give(pst_op *op, int fd, const struct stat *st, const pst_sum **out,
                     uint32_t *n_out)
{
    pst_sum sums[FST_SUMS_MAX];
    uint32_t n = fst_sums_read(fd, st, sums);
    pst_sum *kept = n > 0 ? op->host->op_alloc(op->host, op, n * sizeof(*kept)) : NULL;

    if (n > 0 && !kept)
        return fst_no_memory(op);
    if (n > 0)
        memcpy(kept, sums, n * sizeof(*kept));
    *out = kept;
    *n_out = n;
    return PST_OK;
}

/* ---- stat ---------------------------------------------------------------------------------------- */

pst_rc fst_stat(pst_backend *b, pst_op *op, const pst_stat_args *args, pst_attr *attr)
{
    char path[FST_KEY_MAX + 1];
    struct stat st;
    int fd = -1;
    pst_rc rc = fst_key_check(b, op, args->key);

    if (rc == PST_OK && PST_HAS(pst_stat_args, args, version) && args->version.len > 0)
        rc = fst_fail(b, op, PST_E_UNIMPLEMENTED, args->key, "a file system keeps no old versions");
    if (rc != PST_OK)
        return rc;
    memcpy(path, args->key.ptr, args->key.len);
    path[args->key.len] = '\0';
    /* A look first, without opening: opening a device may do something. */
    if (fst_lookup(b, path, &st) != 0)
        return fst_fail_errno(b, op, errno, args->key, "stat");
    if (!S_ISREG(st.st_mode))
        return fst_fail(b, op, PST_E_NOT_FOUND, args->key, "is %s, not an object",
                        fst_type_text(st.st_mode));
    rc = fst_object_open(b, op, args->key, &fd, &st);
    if (rc == PST_E_DENIED)
        rc = PST_OK; /* not ours to read: size and times are known all the same */
    if (rc == PST_OK && fd >= 0 && b->data->look)
        b->data->look(b, fd);
    if (rc == PST_OK && fd >= 0)
        rc = fst_attr_read(b, op, args->key, fd, attr);
    if (rc == PST_OK && fd >= 0) {
        rc = fst_sums_give(op, fd, &st, &attr->sums, &attr->n_sums);
        attr->sum_stride = sizeof(pst_sum);
    }
    if (rc == PST_OK) {
        char *etag = op->host->op_alloc(op->host, op, FST_ETAG_SIZE);
        if (etag) {
            attr->kind = PST_KIND_OBJECT;
            attr->size = (uint64_t)st.st_size;
            attr->mtime_ns = fst_mtime_ns(&st);
            attr->etag_strength = PST_ETAG_STRONG;
            attr->etag = fst_etag(&st, etag);
        } else {
            rc = fst_no_memory(op);
        }
    }
    if (fd >= 0)
        close(fd);
    return rc;
}
