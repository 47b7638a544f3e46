#include "io/claims.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <penstock/sum.h>

#include "core/error.h"
#include "core/fault.h"
#include "util/crc64nvme.h"
#include "util/mutex.h"

#define CLAIMS_MAX 100000u /* parts of an object; stores have 10,000 at most */

/* ---- what the store says ----------------------------------------------------------------------- */

struct pst_claims *pst_claims_new(void)
{
    struct pst_claims *claims = calloc(1, sizeof(*claims));
    if (!claims)
        return NULL;
    atomic_init(&claims->refs, 1);
    pst_mutex_init_short(&claims->mutex);
    return claims;
}

struct pst_claims *pst_claims_ref(struct pst_claims *claims)
{
    atomic_fetch_add_explicit(&claims->refs, 1, memory_order_relaxed);
    return claims;
}

void pst_claims_unref(struct pst_claims *claims)
{
    if (!claims || atomic_fetch_sub_explicit(&claims->refs, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&claims->mutex);
    free(claims->list);
    free(claims);
}

/* Element i, whole: one of an older plugin ends before offset and size. */
static pst_sum element(const pst_sum *sums, size_t stride, uint32_t i)
{
    pst_sum sum = {0};
    memcpy(&sum, (const char *)sums + i * stride, stride < sizeof(sum) ? stride : sizeof(sum));
    return sum;
}

static uint32_t crc_bytes(uint32_t algorithm)
{
    return algorithm == PST_SUM_CRC32C ? 4 : 8;
}

static uint64_t value_of(const pst_sum *sum)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < sum->length; i++)
        value = value << 8 | sum->bytes[i];
    return value;
}

static int by_offset(const void *a, const void *b)
{
    const struct pst_claim *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int covers(const struct pst_claim *list, size_t n, uint64_t object_size)
{
    uint64_t end = 0;
    for (size_t i = 0; i < n; i++) {
        if (list[i].offset != end || list[i].size > object_size - end ||
            (list[i].size == 0 && object_size > 0))
            return 0;
        end += list[i].size;
    }
    return n > 0 && end == object_size;
}

/* The sums of one algorithm and scope, if they cover the object. */
static size_t collect(struct pst_claim *list, const pst_sum *sums, uint32_t n, size_t stride,
                      uint32_t algorithm, uint32_t scope, uint64_t object_size)
{
    size_t n_list = 0;
    for (uint32_t i = 0; i < n; i++) {
        const pst_sum sum = element(sums, stride, i);
        if (sum.algorithm != algorithm || sum.scope != scope || sum.length != crc_bytes(algorithm))
            continue;
        list[n_list++] = (struct pst_claim){.wanted = value_of(&sum)};
        if (scope == PST_SCOPE_RANGE) {
            list[n_list - 1].offset = sum.offset;
            list[n_list - 1].size = sum.size;
            continue;
        }
        list[0].size = object_size; /* one is enough */
        return 1;
    }
    qsort(list, n_list, sizeof(*list), by_offset);
    return covers(list, n_list, object_size) ? n_list : 0;
}

int pst_claims_take(struct pst_claims *claims, const pst_sum *sums, uint32_t n, size_t stride,
                    uint64_t object_size)
{
    static const struct {
        uint32_t algorithm, scope;
    } kinds[] = {{PST_SUM_CRC32C, PST_SCOPE_OBJECT},
                 {PST_SUM_CRC64NVME, PST_SCOPE_OBJECT},
                 {PST_SUM_CRC32C, PST_SCOPE_RANGE},
                 {PST_SUM_CRC64NVME, PST_SCOPE_RANGE}};
    size_t n_list = 0, kind = 0;
    if (pst_claims_is_set(claims))
        return 1;
    if (!sums || n == 0 || n > CLAIMS_MAX || object_size == PST_UNKNOWN)
        return 0;
    struct pst_claim *list = calloc(n, sizeof(*list));
    while (list && n_list == 0 && kind < sizeof(kinds) / sizeof(kinds[0])) {
        n_list = collect(list, sums, n, stride, kinds[kind].algorithm, kinds[kind].scope,
                         object_size);
        kind += n_list == 0;
    }
    if (n_list == 0) {
        free(list);
        return 0;
    }
    claims->list = list;
    claims->n = n_list;
    claims->algorithm = kinds[kind].algorithm;
    atomic_store_explicit(&claims->is_set, 1, memory_order_release);
    return 1;
}

int pst_claims_are_hinted(const pst_sum *sums, uint32_t n, size_t stride)
{
    for (uint32_t i = 0; sums && i < n; i++) {
        const pst_sum sum = element(sums, stride, i);
        if (sum.scope == PST_SCOPE_RANGE && sum.length == 0)
            return 1;
    }
    return 0;
}

pst_rc pst_claim_fail(uint32_t algorithm, uint64_t wanted, uint64_t got, const char *of_what,
                      pst_error *err)
{
    const char *name = algorithm == PST_SUM_CRC32C ? "crc32c" : "crc64nvme";
    int digits = 2 * (int)crc_bytes(algorithm);
    return pst_fail(err, PST_E_DATA_LOSS, "checksum%s: wanted %s:%0*llx, got %s:%0*llx", of_what,
                    name, digits, (unsigned long long)wanted, name, digits,
                    (unsigned long long)got);
}

/* Claim i is complete. */
static pst_rc judge(const struct pst_claims *claims, size_t i, pst_error *err)
{
    const struct pst_claim *claim = &claims->list[i];
    char of_what[96] = "";
    if (claim->got == claim->wanted || PST_FAULT(NO_COMPARE))
        return PST_OK;
    if (claims->n > 1)
        snprintf(of_what, sizeof(of_what), " of part %zu, %llu bytes at %llu", i + 1,
                 (unsigned long long)claim->size, (unsigned long long)claim->offset);
    return pst_claim_fail(claims->algorithm, claim->wanted, claim->got, of_what, err);
}

pst_rc pst_claims_agreed(struct pst_claims *claims, uint64_t *bytes, pst_error *err)
{
    pthread_mutex_lock(&claims->mutex);
    *bytes = claims->agreed_bytes;
    int is_empty = claims->n == 1 && claims->list[0].size == 0;
    pthread_mutex_unlock(&claims->mutex);
    return is_empty ? judge(claims, 0, err) : (pst_rc)PST_OK;
}

/* ---- the bytes --------------------------------------------------------------------------------- */

/* The claim that has the byte at `offset`. */
static size_t find(const struct pst_claims *claims, uint64_t offset)
{
    size_t low = 0, high = claims->n;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (claims->list[middle].offset <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void pst_feed_begin(struct pst_feed *feed, struct pst_claims *claims, uint64_t offset,
                    uint32_t which)
{
    memset(feed, 0, offsetof(struct pst_feed, error));
    feed->error.struct_size = sizeof(feed->error);
    feed->offset = feed->begun = offset;
    feed->total.which = feed->share.which = which;
    if (pst_claims_is_set(claims)) {
        feed->claims = claims;
        feed->at = find(claims, offset);
        feed->share.which |= PST_SUM_BIT(claims->algorithm);
    }
}

/* What the share adds to a claim, with `behind` bytes of it still to come. */
static uint64_t shifted(const struct pst_feed *feed, uint64_t behind)
{
    return feed->claims->algorithm == PST_SUM_CRC32C
               ? pst_crc32c_combine(feed->share.crc32c, 0, behind)
               : pst_crc64nvme_combine(feed->share.crc64nvme, 0, behind);
}

static void flush(struct pst_feed *feed)
{
    struct pst_claims *claims = feed->claims;
    uint64_t n = feed->offset - feed->begun;
    if (n == 0)
        return;
    pst_sums_append(&feed->total, &feed->share, n);
    if (claims && feed->at < claims->n) {
        struct pst_claim *claim = &claims->list[feed->at];
        uint64_t adds = shifted(feed, claim->offset + claim->size - feed->offset);
        pthread_mutex_lock(&claims->mutex);
        claim->got ^= adds;
        claim->seen += n;
        int is_complete = claim->seen == claim->size;
        pst_rc rc = is_complete ? judge(claims, feed->at, feed->rc ? NULL : &feed->error) : PST_OK;
        if (is_complete && rc == PST_OK)
            claims->agreed_bytes += claim->size;
        pthread_mutex_unlock(&claims->mutex);
        if (feed->rc == PST_OK)
            feed->rc = rc;
        feed->at += feed->offset == claim->offset + claim->size;
    }
    feed->share.crc32c = 0;
    feed->share.crc64nvme = 0;
    feed->begun = feed->offset;
}

void pst_feed_add(struct pst_feed *feed, const void *data, size_t len)
{
    const char *from = data;
    while (len > 0) {
        size_t n = len;
        int is_in_claim = feed->claims && feed->at < feed->claims->n;
        if (is_in_claim) {
            const struct pst_claim *claim = &feed->claims->list[feed->at];
            uint64_t room = claim->offset + claim->size - feed->offset;
            n = room < len ? (size_t)room : len;
            is_in_claim = n == room; /* its last byte comes now */
        }
        pst_sums_add(&feed->share, from, n);
        feed->offset += n;
        from += n;
        len -= n;
        if (is_in_claim)
            flush(feed);
    }
}

pst_rc pst_feed_end(struct pst_feed *feed, pst_error *err)
{
    flush(feed);
    if (feed->rc != PST_OK)
        pst_error_copy(err, &feed->error);
    return feed->rc;
}
