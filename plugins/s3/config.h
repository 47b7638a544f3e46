/* config.h - the options of a store, parsed and checked once when it is opened. */
#ifndef PST_S3_CONFIG_H
#define PST_S3_CONFIG_H

#include <penstock/services.h>

enum s3_addressing { S3_ADDRESSING_AUTO, S3_ADDRESSING_PATH, S3_ADDRESSING_VIRTUAL };
enum s3_payload { S3_PAYLOAD_AUTO, S3_PAYLOAD_SIGNED, S3_PAYLOAD_UNSIGNED };
enum s3_conditions {
    S3_CONDITIONS_AUTO,
    S3_CONDITIONS_PROBE,
    S3_CONDITIONS_TRUST,
    S3_CONDITIONS_REFUSE
};
enum s3_endpoint_policy { S3_ROUND_ROBIN, S3_LEAST_OUTSTANDING, S3_BY_RANK };

/* Strings are owned, "" where not set. */
struct s3_config {
    const pst_host *host;
    size_t n_bytes; /* of this struct with the text behind it */
    char *bucket;   /* the URI's authority */
    char *endpoint; /* list and template as given; "": AWS */
    char *region;
    char region_of_profile[64]; /* what `region` points to where only the profile has one */
    enum s3_addressing addressing;
    enum s3_endpoint_policy endpoint_policy;
    enum s3_payload payload_signing;
    enum s3_conditions conditional_writes;
    uint32_t checksum; /* PST_SUM_* sent with writes, 0: none */
    uint32_t is_anonymous;
    uint32_t is_directory;            /* the bucket is one of S3 Express One Zone, by its name */
    uint32_t max_requests_per_second; /* 0: no limit */
    uint32_t follow_redirects;        /* trust 307/308 to another origin of the same store */
    /* credentials */
    char *access_key_id, *secret_access_key, *session_token, *profile;
    char *role_arn, *role_session_name, *external_id, *web_identity_token_file;
    char *sts_endpoint, *shared_credentials_file, *config_file;
    char *container_credentials_relative_uri, *container_credentials_full_uri;
    char *container_authorization_token, *container_authorization_token_file;
    char *imds_endpoint; /* ec2_metadata_service_endpoint */
    char *sso_endpoint;  /* of the portal, for tests and private networks */
    char *home;          /* what ~ means in names of files; "": none is read there */
    uint32_t is_imds_disabled;
    uint32_t role_duration_s;       /* 0: as the role says */
    uint32_t credential_timeout_ms; /* of one refresh, whatever it asks */
    uint32_t reserved0;
    struct { /* PST_SOURCE_* of what is set: half an identity from each of two sources is none */
        uint32_t access_key_id, secret_access_key, session_token, profile, role_arn,
            web_identity_token_file;
    } from;
    /* headers of writes */
    char *storage_class, *acl, *sse, *sse_kms_key_id, *sse_kms_context, *sse_c_key;
    char *request_payer, *expected_bucket_owner;
    /* transport */
    char *ca_file, *ca_dir, *proxy, *no_proxy, *unix_socket;
    uint32_t connect_timeout_ms, stall_timeout_ms, max_connections, is_libcurl_only;
};

#define S3_N_OPTIONS 48
extern const pst_option s3_options[S3_N_OPTIONS];

/* Errors: INVALID, naming the option. */
pst_rc s3_config_new(const pst_host *host, const pst_open_args *args, struct s3_config **out,
                     pst_error *err);
void s3_config_free(struct s3_config *config); /* wipes secrets */

#endif
