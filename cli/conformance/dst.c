/* dst.c - where a read goes: destinations that it brings, grants of dst(), and the other two host
 * functions that hand memory about, op_alloc and list_emit. */
#include <string.h>
#include <sys/mman.h>

#include "kit.h"

/* Cut `n` bytes into spans of about `span` bytes, every one behind a guard page of its own. Lengths
 * are odd on purpose, unless the store asked for aligned memory. */
static size_t make_spans(struct k_call *c, size_t n, size_t span, pst_iov *out, size_t max)
{
    size_t align = c->store->limits.mem_align > 1 ? c->store->limits.mem_align : 1;
    size_t n_spans = 0, done = 0;
    while (done < n || (n == 0 && n_spans == 0)) {
        size_t len = n - done;
        if (span > 0 && span < len && n_spans + 1 < max) {
            len = span + n_spans % 3;
            if (len % 2 == 0)
                len++;
            len = align > 1 ? (len + align - 1) / align * align : len;
            len = len < n - done ? len : n - done;
        }
        out[n_spans].ptr = k_region_take(&c->data, "destination", len, align, c->place);
        out[n_spans].len = len;
        if (!out[n_spans].ptr)
            break;
        n_spans++;
        done += len;
    }
    return n_spans;
}

/* Room for `n` bytes in spans of about `span`: each on pages of its own, with a guard and what its
 * alignment skips. Address space is cheap but not free: sanitizers keep books about all of it. */
static size_t room_for(size_t n, size_t span, size_t align)
{
    size_t n_spans = span > 0 && n / span + 2 < K_SPANS_MAX ? n / span + 2 : K_SPANS_MAX;
    return n + (span > 0 ? n_spans : 2) * (2 * align + 3 * 4096) + 8 * 4096;
}

static void init_data(struct k_call *c, uint64_t n, size_t span)
{
    size_t align = c->store->limits.mem_align > 4096 ? c->store->limits.mem_align : 4096;
    if (!c->data.base)
        k_region_init(&c->data, k_slot_name(c->slot), room_for((size_t)n, span, align),
                      K_SPANS_MAX);
}

void k_call_dst(struct k_call *c, size_t n, size_t span, enum k_place place)
{
    c->place = place;
    if (c->host->skew == K_OLDER)
        return; /* its pst_read_args has no n_dst: the plugin asks dst() */
    init_data(c, n, span);
    c->n_spans = make_spans(c, n, span, c->spans, K_SPANS_MAX);
    c->in.read.dst = c->spans;
    c->in.read.n_dst = c->n_spans;
}

static bool check_dst_args(struct k_call *c, const pst_dst_args *a)
{
    struct k_test *t = c->host->test;
    const char *name = k_slot_name(c->slot);
    bool is_more = (a->flags & PST_DST_MORE) != 0;
    if (c->slot != K_READ || c->in.read.n_dst > 0) {
        k_fail(t, "expected dst() only for a read without a destination, got it for %s%s", name,
               c->slot == K_READ ? " that brought its own" : "");
        return false;
    }
    if (atomic_load(&c->is_parked)) {
        k_fail(t, "expected nothing after LATER until dst_ready(), got another dst()");
        return false;
    }
    if (c->n_grants > 0 && !(is_more && c->dst_seen.length == PST_UNKNOWN)) {
        k_fail(t, "expected at most one grant per attempt, got a second dst()");
        return false;
    }
    if (a->length != PST_UNKNOWN && a->length > c->in.read.length) {
        k_fail(t, "expected dst() for at most the %llu bytes that were asked for, got %llu",
               (unsigned long long)c->in.read.length, (unsigned long long)a->length);
        return false;
    }
    uint64_t align = c->store->limits.io_align > 1 ? c->store->limits.io_align : 1;
    if (a->capacity < (a->length == PST_UNKNOWN ? 1 : a->length) ||
        (a->length != PST_UNKNOWN && a->capacity > a->length + 2 * (align - 1))) {
        k_fail(t,
               "expected dst() with a capacity of the length %llu, at most rounded up to io_align "
               "%llu, got %llu",
               (unsigned long long)a->length, (unsigned long long)align,
               (unsigned long long)a->capacity);
        return false;
    }
    return true;
}

static void send_dst_ready(void *arg)
{
    struct k_call *c = arg;
    k_call_ready(c);
}

pst_rc k_call_grant(struct k_call *c, const pst_dst_args *args, pst_dst_grant *grant)
{
    struct k_test *t = c->host->test;
    c->n_dst_calls++;
    if (!args || !grant || args->struct_size < sizeof(*args) ||
        grant->struct_size < sizeof(*grant)) {
        k_fail(t, "expected dst() with both structs and their struct_size set, got something else");
        return PST_E_INVALID;
    }
    if (!check_dst_args(c, args))
        return PST_E_INTERNAL;
    c->dst_seen = *args;
    c->dst_etag[0] = '\0';
    if (args->etag.len < sizeof(c->dst_etag) && args->etag.len > 0) {
        memcpy(c->dst_etag, args->etag.ptr, args->etag.len);
        c->dst_etag[args->etag.len] = '\0';
    }
    if (c->dst_later > 0) {
        c->dst_later--;
        atomic_store(&c->is_parked, true);
        if (!c->dst_manual)
            k_pool_post(c->host->courier, send_dst_ready, c);
        return PST_LATER;
    }
    if (c->dst_refuse)
        return c->dst_refuse;

    uint64_t bytes = args->capacity;
    if (args->length == PST_UNKNOWN) /* more will follow */
        init_data(c, c->in.read.length + args->capacity, 1);
    else
        init_data(c, bytes, c->dst_span);
    size_t first = c->n_spans;
    size_t n = make_spans(c, (size_t)bytes, c->dst_span, c->spans + first, K_SPANS_MAX - first);
    c->n_spans += n;
    c->n_grants++;
    c->granted += bytes;
    pst_iov *iov = k_region_take(&c->region, "granted vector", n * sizeof(*iov), 8, K_AT_END);
    if (!iov)
        return PST_E_NO_MEMORY;
    memcpy(iov, c->spans + first, n * sizeof(*iov));
    k_region_protect(&c->region, iov, PROT_READ);
    grant->flags = 0;
    grant->capacity = bytes;
    grant->dst = iov;
    grant->n_dst = n;
    return PST_OK;
}

void *k_call_op_alloc(struct k_call *c, size_t size)
{
    static const size_t sizes[K_HEAPS] = {256u << 10, 8u << 20, 256u << 20};
    void *p = NULL;
    (void)pthread_mutex_lock(&c->mutex);
    for (size_t i = 0; i < K_HEAPS && !p && size < sizes[K_HEAPS - 1]; i++) {
        if (!c->heaps[i].base)
            k_region_init(&c->heaps[i], k_slot_name(c->slot), sizes[i],
                          (unsigned)(sizes[i] / (2 * 4096))); /* a guard page for each piece */
        p = k_region_take(&c->heaps[i], "op_alloc memory", size, 16, K_AT_END);
    }
    (void)pthread_mutex_unlock(&c->mutex);
    return p;
}

pst_rc k_call_emit(struct k_call *c, const pst_entry *entries, size_t n, size_t stride)
{
    struct k_test *t = c->host->test;
    if (c->slot != K_LIST && c->slot != K_LIST_PAGE && c->slot != K_CLEANUP &&
        c->slot != K_CONTAINER_LIST) {
        k_fail(t, "expected list_emit() only for listings and cleanup, got it for %s",
               k_slot_name(c->slot));
        return PST_E_INTERNAL;
    }
    if (!k_is_stride(c->store->plugin, stride, sizeof(pst_entry)) || (n > 0 && !entries)) {
        k_fail(t, "expected list_emit() with stride sizeof(pst_entry), got %zu", stride);
        return PST_E_INVALID;
    }
    if (c->emit_error && c->entries.n + n > c->emit_limit)
        return c->emit_error;
    for (size_t i = 0; i < n; i++) {
        pst_entry entry = {0}; /* an older plugin's is shorter */
        memcpy(&entry, (const char *)entries + i * stride,
               stride < sizeof(entry) ? stride : sizeof(entry));
        k_entries_add(&c->entries, &entry);
    }
    return PST_OK;
}
