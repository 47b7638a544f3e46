#include "io/sums.h"

#include <string.h>

#include <penstock/services.h>
#include <penstock/sum.h>

#include "core/error.h"
#include "core/fault.h"
#include "core/net.h"
#include "io/retry.h"
#include "util/crc64nvme.h"

#define INLINE_BYTES ((uint64_t)64 << 10) /* as long as handing it to another thread takes */

static int has(uint32_t which, uint32_t algorithm)
{
    return (which & PST_SUM_BIT(algorithm)) != 0;
}

void pst_sums_add(struct pst_sums *sums, const void *data, size_t len)
{
    if (has(sums->which, PST_SUM_CRC32C))
        sums->crc32c = pst_crc32c(sums->crc32c, data, len);
    if (has(sums->which, PST_SUM_CRC64NVME))
        sums->crc64nvme = pst_crc64nvme(sums->crc64nvme, data, len);
}

void pst_sums_append(struct pst_sums *sums, const struct pst_sums *next, uint64_t len)
{
    if (has(sums->which, PST_SUM_CRC32C))
        sums->crc32c = pst_crc32c_combine(sums->crc32c, next->crc32c, len);
    if (has(sums->which, PST_SUM_CRC64NVME))
        sums->crc64nvme = pst_crc64nvme_combine(sums->crc64nvme, next->crc64nvme, len);
}

/* Big-endian, as providers print it. */
static pst_sum make_sum(uint32_t algorithm, uint64_t value, uint32_t length)
{
    pst_sum sum = {.algorithm = algorithm, .scope = PST_SCOPE_OBJECT, .length = length};
    if (PST_FAULT(WRONG_SUM))
        value ^= 1;
    for (unsigned i = 0; i < length; i++)
        sum.bytes[i] = (uint8_t)(value >> (8 * (length - 1 - i)));
    return sum;
}

uint32_t pst_sums_list(const struct pst_sums *sums, pst_sum *out)
{
    uint32_t n = 0;
    if (has(sums->which, PST_SUM_CRC32C))
        out[n++] = make_sum(PST_SUM_CRC32C, sums->crc32c, 4);
    if (has(sums->which, PST_SUM_CRC64NVME))
        out[n++] = make_sum(PST_SUM_CRC64NVME, sums->crc64nvme, 8);
    return n;
}

uint32_t pst_sums_get_crc32c(const pst_sum *list, uint32_t n, uint32_t *crc32c)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *b = list[i].bytes;
        if (list[i].algorithm != PST_SUM_CRC32C)
            continue;
        *crc32c = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
        return 1;
    }
    return 0;
}

/* ---- digests ----------------------------------------------------------------------------------- */

static pst_rc digest(struct pst_core *core, uint32_t algorithm, const pst_iov *src, size_t n_src,
                     pst_sum *out, pst_error *err)
{
    int is_md5 = algorithm == PST_SUM_MD5;
    const char *name = is_md5 ? "MD5" : "SHA-256";
    const pst_crypto_1 *crypto = pst_services_find(core->services, "crypto/1");
    if (!crypto)
        return pst_fail(err, PST_E_UNIMPLEMENTED, "%s needs the network library: %s", name,
                        pst_services_failure(core->services));
    *out = (pst_sum){.algorithm = algorithm, .length = is_md5 ? 16 : 32};
    pst_rc rc = crypto->digest(&core->host, is_md5 ? PST_DIGEST_MD5 : PST_DIGEST_SHA256, src, n_src,
                               out->bytes);
    return rc == PST_OK ? rc : pst_fail(err, rc, "%s cannot be computed", name);
}

pst_rc pst_sums_compute(struct pst_core *core, uint32_t which, const pst_iov *src, size_t n_src,
                        pst_sum *list, uint32_t *n, pst_error *err)
{
    static const uint32_t digests[] = {PST_SUM_SHA256, PST_SUM_MD5};
    struct pst_sums crcs = {.which = which};
    pst_rc rc = PST_OK;
    for (size_t i = 0; i < n_src && (which & PST_SUMS_CRC); i++)
        pst_sums_add(&crcs, src[i].ptr, src[i].len);
    *n += pst_sums_list(&crcs, list + *n);
    for (size_t i = 0; i < sizeof(digests) / sizeof(digests[0]) && rc == PST_OK; i++) {
        if (!has(which, digests[i]))
            continue;
        rc = digest(core, digests[i], src, n_src, &list[*n], err);
        *n += rc == PST_OK;
    }
    return rc;
}

/* ---- before a task is submitted ---------------------------------------------------------------- */

static void run_summing(void *arg)
{
    struct pst_summing *s = arg;
    struct pst_task *task = s->task;
    pst_rc rc = PST_OK;
    if (s->which != 0)
        rc = pst_sums_compute(task->port->core, s->which, s->src, s->n_src, s->list, s->n,
                              &task->error);
    if (rc == PST_OK)
        pst_retry_submit(task, s->max_attempts, s->deadline_ns);
    else
        task->then(task, rc);
}

void pst_summing_start(struct pst_summing *summing)
{
    struct pst_core *core = summing->task->port->core;
    uint64_t bytes = 0;
    for (size_t i = 0; i < summing->n_src; i++)
        bytes += summing->src[i].len;
    summing->job = (struct pst_job){.fn = run_summing, .arg = summing};
    if (summing->which == 0 || bytes <= INLINE_BYTES ||
        pst_pool_run(core->cpu, &core->cpu_share, &summing->job) != PST_OK)
        run_summing(summing);
}
