/* sums.c - checksums between the host's list and S3's headers.
 *
 * S3 takes one x-amz-checksum-* header with a request, so one of the host's sums is sent: the one that
 * the store is configured for, else the strongest that covers the bytes. A SHA-256 that was only made to
 * sign the payload is sent as x-amz-content-sha256 alone: the store compares it with what it received
 * all the same, and a store that knows no checksum headers does too.
 *
 * A checksum of a multipart object may be one of the parts' checksums ("COMPOSITE", "value-3"). It is
 * no sum of the object's bytes and never reported as one. */
#include <string.h>

#include "attr.h"
#include "config.h"
#include "text.h"

static const struct algorithm {
    const char *header, *name;
    uint32_t id, length;
} algorithms[] = {
    {"x-amz-checksum-crc64nvme", "CRC64NVME", PST_SUM_CRC64NVME, 8},
    {"x-amz-checksum-crc32c", "CRC32C", PST_SUM_CRC32C, 4},
    {"x-amz-checksum-sha256", "SHA256", PST_SUM_SHA256, 32},
};
#define N_ALGORITHMS (sizeof(algorithms) / sizeof(algorithms[0]))

static const struct algorithm *find_algorithm(uint32_t id)
{
    for (size_t i = 0; i < N_ALGORITHMS; i++) {
        if (algorithms[i].id == id)
            return &algorithms[i];
    }
    return NULL;
}

const char *s3_sum_name(uint32_t algorithm)
{
    const struct algorithm *a = find_algorithm(algorithm);
    return a ? a->name : NULL;
}

const pst_sum *s3_sum_find(const pst_sum *sums, uint32_t n, size_t stride, uint32_t algorithm)
{
    for (uint32_t i = 0; i < n; i++) {
        const pst_sum *sum = (const pst_sum *)(const void *)((const char *)sums + i * stride);
        if (sum->algorithm == algorithm)
            return sum;
    }
    return NULL;
}

/* Which one goes into a header of an object. */
static const pst_sum *choose(const struct s3_config *config, const pst_sum *sums, uint32_t n,
                             size_t stride)
{
    const pst_sum *sum = NULL;
    if (config->checksum != 0)
        return s3_sum_find(sums, n, stride, config->checksum);
    sum = s3_sum_find(sums, n, stride, PST_SUM_CRC64NVME);
    return sum ? sum : s3_sum_find(sums, n, stride, PST_SUM_CRC32C);
}

uint32_t s3_sum_bytes(uint32_t algorithm)
{
    const struct algorithm *a = find_algorithm(algorithm);
    return a ? a->length : 0;
}

static void send_base64(struct s3_request *request, const char *header, const pst_sum *sum)
{
    char text[S3_BASE64_BYTES(sizeof(sum->bytes))];
    s3_base64_encode(sum->bytes, sum->length <= sizeof(sum->bytes) ? sum->length : 0, text);
    s3_request_headerf(request, header, "%s", text);
}

/* What is not for the header that only one sum goes into. */
static void send_others(struct s3_request *request, const pst_sum *sums, uint32_t n, size_t stride)
{
    const pst_sum *sum = s3_sum_find(sums, n, stride, PST_SUM_MD5);
    if (sum)
        send_base64(request, "content-md5", sum);
    sum = s3_sum_find(sums, n, stride, PST_SUM_SHA256);
    if (sum && sum->length == 32)
        request->payload_sha256 = sum->bytes;
}

void s3_sum_send(struct s3_request *request, const pst_sum *sum)
{
    const struct algorithm *a = sum ? find_algorithm(sum->algorithm) : NULL;
    if (a)
        send_base64(request, a->header, sum);
}

void s3_sums_send(struct s3_request *request, const pst_sum *sums, uint32_t n, size_t stride)
{
    s3_sum_send(request, choose(request->store->config, sums, n, stride));
    send_others(request, sums, n, stride);
}

void s3_part_sums_send(struct s3_request *request, uint32_t algorithm, const pst_sum *sums,
                       uint32_t n, size_t stride)
{
    if (algorithm)
        s3_sum_send(request, s3_sum_find(sums, n, stride, algorithm));
    send_others(request, sums, n, stride);
}

int s3_sum_parse(uint32_t algorithm, pst_str text, pst_sum *out)
{
    const struct algorithm *a = find_algorithm(algorithm);
    size_t len = 0;
    memset(out, 0, sizeof(*out));
    if (!a || !s3_base64_decode(text, out->bytes, sizeof(out->bytes), &len) || len != a->length)
        return 0;
    out->algorithm = algorithm;
    out->scope = PST_SCOPE_OBJECT;
    out->length = a->length;
    return 1;
}

void s3_sums_take(const pst_kv *headers, size_t n_headers, struct s3_sums *out)
{
    static const pst_str stem = {"x-amz-checksum-", 15};
    out->n = 0;
    out->is_composite = 0;
    for (size_t i = 0; i < n_headers; i++) {
        pst_str name = headers[i].key, value = headers[i].value;
        if (!s3_starts_with(name, stem))
            continue;
        if (s3_str_is(name, "x-amz-checksum-type") && s3_str_is(value, "COMPOSITE"))
            out->is_composite = 1;
        if (value.len > 2 && memchr(value.ptr, '-', value.len))
            out->is_composite = 1; /* no digit of base64: "<base64>-<parts>" */
    }
    for (size_t i = 0; i < n_headers && !out->is_composite; i++) {
        for (size_t k = 0; k < N_ALGORITHMS && out->n < S3_SUMS_MAX; k++) {
            if (s3_str_is(headers[i].key, algorithms[k].header) &&
                s3_sum_parse(algorithms[k].id, headers[i].value, &out->sums[out->n]))
                out->n++;
        }
    }
}
