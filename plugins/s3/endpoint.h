/* endpoint.h - the servers of one store: which one is asked next, and which are out of order. */
#ifndef PST_S3_ENDPOINT_H
#define PST_S3_ENDPOINT_H

#include <penstock/services.h>

struct s3_endpoints;
struct s3_config;

struct s3_endpoint_stats {
    uint64_t requests, failures, ejections;
    uint32_t outstanding, is_ejected;
};

/* From config->endpoint ("https://a:9000", a list separated by commas, the template
 * "http://store{1...8}:9000") or AWS's for the region. INVALID, naming the text that is wrong. */
pst_rc s3_endpoints_new(const pst_host *host, const struct s3_config *config, const char *bucket,
                        struct s3_endpoints **out, pst_error *err);
void s3_endpoints_free(struct s3_endpoints *endpoints);
uint32_t s3_endpoints_count(const struct s3_endpoints *endpoints);

/* "scheme://host:port" of one; and "host:port" for messages. */
const char *s3_endpoint_origin(const struct s3_endpoints *endpoints, uint32_t index);
const char *s3_endpoint_name(const struct s3_endpoints *endpoints, uint32_t index);

/* Choose by the policy among those in order (all ejected: among all); op->affinity and, after a failed
 * attempt, op->last_endpoint count. Counts as outstanding until reported. */
uint32_t s3_endpoints_pick(struct s3_endpoints *endpoints, const pst_op *op);

/* How it went: is_failure for no reply, 500, 502, 503, 504. Three in a row eject for a while that
 * doubles up to 30 s; then one request tries it again. */
void s3_endpoints_report(struct s3_endpoints *endpoints, uint32_t index, int is_failure);
void s3_endpoints_stats(struct s3_endpoints *endpoints, uint32_t index,
                        struct s3_endpoint_stats *out);

#endif
