/* fault_model.c - what the fault server remembers: containers, objects sorted by key, uploads and their
 * parts. Replacing is whole, deleting immediate; there is one version of an object, and its id changes
 * with every write. Checksums are computed one byte at a time: objects here are small. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fault.h"
#include "kit.h"

static int compare(pst_str a, pst_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n > 0 ? memcmp(a.ptr, b.ptr, n) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static void base64(const unsigned char *bytes, size_t n, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t used = 0;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)bytes[i] << 16;
        v |= i + 1 < n ? (uint32_t)bytes[i + 1] << 8 : 0;
        v |= i + 2 < n ? bytes[i + 2] : 0;
        out[used++] = digits[v >> 18 & 63];
        out[used++] = digits[v >> 12 & 63];
        out[used++] = i + 1 < n ? digits[v >> 6 & 63] : '=';
        out[used++] = i + 2 < n ? digits[v & 63] : '=';
    }
    out[used] = '\0';
}

/* Both are reflected; the polynomials are those of RFC 3720 and of NVM Express. */
void kf_sums_of(pst_str data, char crc32c[16], char crc64nvme[16])
{
    static uint32_t table32[256];
    static uint64_t table64[256];
    unsigned char bytes[8];
    uint32_t a = UINT32_MAX;
    uint64_t b = UINT64_MAX;
    for (unsigned i = 0; table64[1] == 0 && i < 256; i++) {
        unsigned k = 255 - i; /* entry 1 last but one: it says that the tables are there */
        uint32_t x = k;
        uint64_t y = k;
        for (unsigned bit = 0; bit < 8; bit++) {
            x = (x >> 1) ^ (x & 1 ? 0x82f63b78u : 0);
            y = (y >> 1) ^ (y & 1 ? 0x9a6c9329ac4bc9b5ull : 0);
        }
        table32[k] = x;
        table64[k] = y;
    }
    for (size_t i = 0; i < data.len; i++) {
        unsigned char byte = (unsigned char)data.ptr[i];
        a = (a >> 8) ^ table32[(a ^ byte) & 255];
        b = (b >> 8) ^ table64[(b ^ byte) & 255];
    }
    a = ~a;
    b = ~b;
    for (unsigned i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(a >> (24 - 8 * i));
    base64(bytes, 4, crc32c);
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(b >> (56 - 8 * i));
    base64(bytes, 8, crc64nvme);
}

/* Equal bytes, equal etag: the MD5, or what is none, as with encryption on real stores. */
void kf_etag_of(const struct kf_model *m, pst_str data, char out[64])
{
    unsigned char md5[16];
    if (m->has_md5_etags) {
        kf_md5(data, md5);
        for (unsigned i = 0; i < 16; i++)
            (void)snprintf(out + 2 * i, 3, "%02x", md5[i]);
        return;
    }
    uint64_t h = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < data.len; i++)
        h = (h ^ (unsigned char)data.ptr[i]) * 0x100000001b3ull;
    (void)snprintf(out, 64, "%016llx-%zx", (unsigned long long)h, data.len);
}

/* ---- containers -------------------------------------------------------------------------------- */

bool kf_has_container(const struct kf_model *m, pst_str name)
{
    for (size_t i = 0; i < m->n_containers; i++)
        if (kf_is(name, m->containers[i]))
            return true;
    return false;
}

static void *grow(void *array, size_t n, size_t size)
{
    unsigned char *grown = k_alloc((n + 1) * size);
    if (n > 0)
        memcpy(grown, array, n * size);
    k_free(array);
    return grown;
}

static char *copy_text(pst_str s)
{
    char *copy = (char *)k_alloc(s.len + 1);
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    return copy;
}

void kf_add_container(struct kf_model *m, pst_str name)
{
    if (kf_has_container(m, name))
        return;
    m->containers = (char **)grow(m->containers, m->n_containers, sizeof(char *));
    m->containers[m->n_containers++] = copy_text(name);
}

bool kf_remove_container(struct kf_model *m, pst_str name)
{
    for (size_t i = 0; i < m->n_objects; i++)
        if (kf_is(name, m->objects[i]->container))
            return false;
    for (size_t i = 0; i < m->n_containers; i++) {
        if (kf_is(name, m->containers[i])) {
            k_free(m->containers[i]);
            m->containers[i] = m->containers[--m->n_containers];
        }
    }
    return true;
}

/* ---- objects ----------------------------------------------------------------------------------- */

size_t kf_find_position(const struct kf_model *m, pst_str container, pst_str key)
{
    size_t low = 0, high = m->n_objects;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct kf_object *o = m->objects[middle];
        int order = compare(kf_str(o->container), container);
        if (order == 0)
            order = compare(pst_str_of(o->key, o->key_len), key);
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct kf_object *kf_find(const struct kf_model *m, pst_str container, pst_str key)
{
    size_t i = kf_find_position(m, container, key);
    if (i == m->n_objects)
        return NULL;
    struct kf_object *o = m->objects[i];
    bool is_it = kf_is(container, o->container) &&
                 compare(pst_str_of(o->key, o->key_len), key) == 0;
    return is_it ? o : NULL;
}

static void free_object(struct kf_object *o)
{
    k_free(o->container);
    k_free(o->key);
    kf_buf_fini(&o->data);
    kf_fields_fini(&o->kept);
    k_free(o);
}

struct kf_object *kf_store(struct kf_model *m, pst_str container, pst_str key, struct kf_buf *data,
                           struct kf_fields *kept)
{
    struct kf_object *o = (struct kf_object *)(void *)k_alloc(sizeof(*o));
    o->container = copy_text(container);
    o->key = copy_text(key);
    o->key_len = key.len;
    o->data = *data;
    o->kept = *kept;
    memset(data, 0, sizeof(*data));
    memset(kept, 0, sizeof(*kept));
    o->mtime_s = (int64_t)time(NULL);
    kf_etag_of(m, kf_view(&o->data), o->etag);
    (void)snprintf(o->version, sizeof(o->version), "v%016llx", (unsigned long long)++m->serial);
    size_t i = kf_find_position(m, container, key);
    if (kf_find(m, container, key)) {
        free_object(m->objects[i]);
    } else {
        m->objects = (struct kf_object **)grow(m->objects, m->n_objects, sizeof(o));
        memmove(m->objects + i + 1, m->objects + i,
                (m->n_objects - i) * sizeof(struct kf_object *));
        m->n_objects++;
    }
    m->objects[i] = o;
    return o;
}

void kf_sum_up(struct kf_object *o)
{
    if (!o->crc32c[0])
        kf_sums_of(kf_view(&o->data), o->crc32c, o->crc64nvme);
}

void kf_remove(struct kf_model *m, pst_str container, pst_str key)
{
    if (!kf_find(m, container, key))
        return;
    size_t i = kf_find_position(m, container, key);
    free_object(m->objects[i]);
    m->n_objects--;
    memmove(m->objects + i, m->objects + i + 1, (m->n_objects - i) * sizeof(struct kf_object *));
}

/* ---- uploads ----------------------------------------------------------------------------------- */

struct kf_upload *kf_upload_open(struct kf_model *m, pst_str container, pst_str key,
                                 struct kf_fields *kept)
{
    struct kf_upload *u = (struct kf_upload *)(void *)k_alloc(sizeof(*u));
    char id[32];
    (void)snprintf(id, sizeof(id), "upload-%llu", (unsigned long long)++m->serial);
    u->container = copy_text(container);
    u->key = copy_text(key);
    u->key_len = key.len;
    u->id = copy_text(kf_str(id));
    u->kept = *kept;
    u->started_s = (int64_t)time(NULL);
    memset(kept, 0, sizeof(*kept));
    m->uploads = (struct kf_upload **)grow(m->uploads, m->n_uploads, sizeof(u));
    m->uploads[m->n_uploads++] = u;
    return u;
}

struct kf_upload *kf_upload_find(const struct kf_model *m, pst_str id)
{
    for (size_t i = 0; i < m->n_uploads; i++)
        if (kf_is(id, m->uploads[i]->id))
            return m->uploads[i];
    return NULL;
}

/* Parts lie in the order of their ids: numbers by value, names by bytes. */
static bool is_before(const char *a, const char *b)
{
    uint64_t x = kf_number(kf_str(a), UINT64_MAX), y = kf_number(kf_str(b), UINT64_MAX);
    return x != UINT64_MAX && y != UINT64_MAX ? x < y : strcmp(a, b) < 0;
}

struct kf_part *kf_upload_part(const struct kf_model *m, struct kf_upload *u, pst_str id,
                               struct kf_buf *data)
{
    size_t i = 0;
    char *name = copy_text(id);
    while (i < u->n_parts && is_before(u->parts[i].id, name))
        i++;
    if (i < u->n_parts && strcmp(u->parts[i].id, name) == 0) {
        k_free(name);
        kf_buf_fini(&u->parts[i].data);
    } else {
        u->parts = (struct kf_part *)grow(u->parts, u->n_parts, sizeof(struct kf_part));
        memmove(u->parts + i + 1, u->parts + i, (u->n_parts - i) * sizeof(struct kf_part));
        u->parts[i].id = name;
        u->n_parts++;
    }
    u->parts[i].data = *data;
    memset(data, 0, sizeof(*data));
    kf_etag_of(m, kf_view(&u->parts[i].data), u->parts[i].etag);
    return &u->parts[i];
}

void kf_upload_drop(struct kf_model *m, struct kf_upload *u)
{
    for (size_t i = 0; i < m->n_uploads; i++)
        if (m->uploads[i] == u)
            m->uploads[i] = m->uploads[--m->n_uploads];
    for (size_t i = 0; i < u->n_parts; i++) {
        k_free(u->parts[i].id);
        kf_buf_fini(&u->parts[i].data);
    }
    k_free(u->parts);
    k_free(u->container);
    k_free(u->key);
    k_free(u->id);
    kf_fields_fini(&u->kept);
    k_free(u);
}

void kf_model_fini(struct kf_model *m)
{
    for (size_t i = 0; i < m->n_objects; i++)
        free_object(m->objects[i]);
    while (m->n_uploads > 0)
        kf_upload_drop(m, m->uploads[0]);
    for (size_t i = 0; i < m->n_containers; i++)
        k_free(m->containers[i]);
    k_free(m->objects);
    k_free(m->uploads);
    k_free(m->containers);
    bool has_md5_etags = m->has_md5_etags;
    memset(m, 0, sizeof(*m));
    m->has_md5_etags = has_md5_etags;
}
