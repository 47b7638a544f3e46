/* config.c - the options as the host resolved them, in the form the plugin works with.
 *
 * All text lies behind the struct in one block, so that one wipe reaches every secret. What is checked
 * here is what no single value shows: things that belong together, and keys that must not travel in
 * the clear. */
#include "config.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "error.h"
#include "text.h"
#include "url.h"

/* clang-format off */
#define TEXT(member) {#member, offsetof(struct s3_config, member)}
/* clang-format on */
static const struct {
    const char *name;
    size_t offset;
} texts[] = {
    TEXT(endpoint),
    TEXT(region),
    TEXT(access_key_id),
    TEXT(secret_access_key),
    TEXT(session_token),
    TEXT(profile),
    TEXT(role_arn),
    TEXT(role_session_name),
    TEXT(external_id),
    TEXT(web_identity_token_file),
    TEXT(sts_endpoint),
    TEXT(shared_credentials_file),
    TEXT(config_file),
    TEXT(container_credentials_relative_uri),
    TEXT(container_credentials_full_uri),
    TEXT(container_authorization_token),
    TEXT(container_authorization_token_file),
    TEXT(imds_endpoint),
    TEXT(sso_endpoint),
    TEXT(home),
    TEXT(storage_class),
    TEXT(acl),
    TEXT(sse),
    TEXT(sse_kms_key_id),
    TEXT(sse_kms_context),
    TEXT(sse_c_key),
    TEXT(request_payer),
    TEXT(expected_bucket_owner),
    TEXT(ca_file),
    TEXT(ca_dir),
    TEXT(proxy),
    TEXT(no_proxy),
    TEXT(unix_socket),
};
#undef TEXT

static const size_t n_texts = sizeof(texts) / sizeof(texts[0]);

static pst_str option(const pst_open_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_options; i++) {
        if (s3_str_is(args->options[i].key, name))
            return args->options[i].value;
    }
    return pst_str_of(NULL, 0);
}

/* The position of the value among `choices`, 0 where it is not set. */
static unsigned choice(const pst_open_args *args, const char *name, const char *const *choices)
{
    const pst_str value = option(args, name);

    for (unsigned i = 0; choices[i]; i++) {
        if (s3_str_is(value, choices[i]))
            return i;
    }
    return 0;
}

/* Where the value comes from; a host that does not say so got it from the application. */
static uint32_t source(const pst_open_args *args, const char *name)
{
    if (!PST_HAS(pst_open_args, args, option_sources) || !args->option_sources)
        return PST_SOURCE_EXPLICIT;
    for (size_t i = 0; i < args->n_options; i++) {
        if (s3_str_is(args->options[i].key, name))
            return args->option_sources[i];
    }
    return PST_SOURCE_DEFAULT;
}

static uint32_t number(const pst_open_args *args, const char *name)
{
    uint64_t value = 0;

    (void)s3_parse_u64(option(args, name), &value); /* within min..max: the host has checked */
    return (uint32_t)value;
}

static void read_values(const pst_open_args *args, struct s3_config *c)
{
    static const char *const addressing[] = {"auto", "path", "virtual", NULL};
    static const char *const payload[] = {"auto", "signed", "unsigned", NULL};
    static const char *const conditions[] = {"auto", "probe", "trust", "refuse", NULL};
    static const char *const policy[] = {"round_robin", "least_outstanding", "rank", NULL};
    static const char *const engine[] = {"auto", "libcurl", NULL};
    static const char *const checksum[] = {"none", "crc32c", "crc64nvme", "sha256", NULL};
    static const uint32_t sums[] = {0, PST_SUM_CRC32C, PST_SUM_CRC64NVME, PST_SUM_SHA256};

    c->addressing = (enum s3_addressing)choice(args, "addressing", addressing);
    c->payload_signing = (enum s3_payload)choice(args, "payload_signing", payload);
    c->conditional_writes = (enum s3_conditions)choice(args, "conditional_writes", conditions);
    c->endpoint_policy = (enum s3_endpoint_policy)choice(args, "endpoint_policy", policy);
    c->checksum = sums[choice(args, "checksum", checksum)];
    c->is_anonymous = number(args, "anonymous");
    c->is_imds_disabled = number(args, "imds_disabled");
    c->follow_redirects = number(args, "follow_redirects");
    c->max_requests_per_second = number(args, "max_requests_per_second");
    c->connect_timeout_ms = number(args, "connect_timeout");
    c->stall_timeout_ms = number(args, "stall_timeout");
    c->max_connections = number(args, "max_connections");
    c->is_libcurl_only = choice(args, "http_engine", engine);
    c->role_duration_s = number(args, "role_duration") / 1000;
    c->credential_timeout_ms = number(args, "credential_timeout");
    c->from.access_key_id = source(args, "access_key_id");
    c->from.secret_access_key = source(args, "secret_access_key");
    c->from.session_token = source(args, "session_token");
    c->from.profile = source(args, "profile");
    c->from.role_arn = source(args, "role_arn");
    c->from.web_identity_token_file = source(args, "web_identity_token_file");
}

static pst_rc check(const struct s3_config *c, pst_error *err)
{
    uint8_t key[33];
    size_t len = 0;

    if (strlen(c->region) > 63)
        return s3_fail(err, PST_E_INVALID, "option region: is longer than 63 bytes");
    if (c->sse_c_key[0]) {
        const int is_key = s3_base64_decode(s3_str(c->sse_c_key), key, sizeof(key), &len) &&
                           len == 32;
        explicit_bzero(key, sizeof(key));
        if (!is_key)
            return s3_fail(err, PST_E_INVALID, "option sse_c_key: is not base64 of 32 bytes");
        if (strstr(c->endpoint, "http://"))
            return s3_fail(err, PST_E_INVALID,
                           "option sse_c_key: the key would travel in the clear: use https");
        if (c->sse[0])
            return s3_fail(err, PST_E_INVALID, "option sse: excludes sse_c_key");
    }
    if ((c->sse_kms_key_id[0] || c->sse_kms_context[0]) && strncmp(c->sse, "aws:kms", 7) != 0)
        return s3_fail(err, PST_E_INVALID, "option %s: needs sse=aws:kms",
                       c->sse_kms_key_id[0] ? "sse_kms_key_id" : "sse_kms_context");
    return PST_OK;
}

pst_rc s3_config_new(const pst_host *host, const pst_open_args *args, struct s3_config **out,
                     pst_error *err)
{
    size_t n_bytes = sizeof(struct s3_config) + args->authority.len + 1;
    pst_rc rc;

    for (size_t i = 0; i < n_texts; i++)
        n_bytes += option(args, texts[i].name).len + 1;
    struct s3_config *c = host->alloc(host, n_bytes, 16);
    if (!c)
        return s3_fail(err, PST_E_NO_MEMORY, "out of memory");
    memset(c, 0, n_bytes);
    c->host = host;
    c->n_bytes = n_bytes;
    char *at = (char *)(c + 1);
    for (size_t i = 0; i < n_texts; i++) {
        memcpy((char *)c + texts[i].offset, &at, sizeof(at));
        at = s3_write(at, option(args, texts[i].name)) + 1;
    }
    c->bucket = at;
    s3_write(at, args->authority);
    c->is_directory = (uint32_t)s3_bucket_is_directory(args->authority);
    read_values(args, c);
    rc = check(c, err);
    if (rc == PST_OK)
        *out = c;
    else
        s3_config_free(c);
    return rc;
}

void s3_config_free(struct s3_config *c)
{
    if (!c)
        return;
    const pst_host *host = c->host;
    explicit_bzero(c, c->n_bytes);
    host->dealloc(host, c);
}
