/* endpoint.h - the servers of one store: which one is asked next, and which are out of order. */
#ifndef PST_S3_ENDPOINT_H
#define PST_S3_ENDPOINT_H

#include <penstock/services.h>

#include "url.h"

struct s3_endpoints;
struct s3_config;

struct s3_endpoint_stats {
    uint64_t requests, failures, ejections;
    uint32_t outstanding, is_ejected;
};

/* From config->endpoint ("https://a:9000", a list separated by commas, the template
 * "http://store{1...8}:9000") or AWS's for the region. INVALID, naming the text that is wrong. */
pst_rc s3_endpoints_new(const pst_host *host, const struct s3_config *config,
                        struct s3_endpoints **out, pst_error *err);
void s3_endpoints_free(struct s3_endpoints *endpoints);
uint32_t s3_endpoints_count(const struct s3_endpoints *endpoints);

/* "scheme://host:port" of one; and "host:port" for messages. */
const char *s3_endpoint_origin(const struct s3_endpoints *endpoints, uint32_t index);
const char *s3_endpoint_name(const struct s3_endpoints *endpoints, uint32_t index);

/* The same in parts. A port that is the scheme's own is not among them. */
const struct s3_url *s3_endpoint_url(const struct s3_endpoints *endpoints, uint32_t index);

/* Is it AWS, by its name? And was it not even named, so that it moves with the region? */
int s3_endpoints_are_aws(const struct s3_endpoints *endpoints);
int s3_endpoints_are_implied(const struct s3_endpoints *endpoints);

#define S3_AWS_HOST_SIZE 128
/* "s3.eu-west-1.amazonaws.com"; returns the length. */
size_t s3_aws_host(const char *region, char out[S3_AWS_HOST_SIZE]);

/* "s3express-use1-az4.us-east-1.amazonaws.com", of a directory bucket; returns the length. */
size_t s3_express_host(pst_str bucket, const char *region, char out[S3_AWS_HOST_SIZE]);

/* Choose by the policy among those in order (all ejected: among all), another one than `avoided` if there
 * is one; `affinity` is the operation's. Counts as outstanding until reported. */
#define S3_AVOID_NONE UINT32_MAX
uint32_t s3_endpoints_pick(struct s3_endpoints *endpoints, uint32_t affinity, uint32_t avoided);

/* How it went. Three failures (no reply, 500, 502, 503, 504) in a row eject for a while that doubles up
 * to 30 s; then one request tries it again. */
enum s3_outcome { S3_ANSWERED, S3_FAILED, S3_UNDECIDED };
void s3_endpoints_report(struct s3_endpoints *endpoints, uint32_t index, enum s3_outcome outcome);
void s3_endpoints_stats(struct s3_endpoints *endpoints, uint32_t index,
                        struct s3_endpoint_stats *out);

#endif
