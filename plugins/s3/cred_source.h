/* cred_source.h - one refresh of the credentials of a store, and the sources that it may ask.
 *
 * A source answers OK with what it found, S3_CRED_NONE where it is not set up (job->why says what is
 * missing), or an error that names it. An error ends the search: somebody who has set up one identity
 * must not become another because the first is out of order. All of them may block: they run in a job
 * of the host's pool, one at a time for a store. */
#ifndef PST_S3_CRED_SOURCE_H
#define PST_S3_CRED_SOURCE_H

#include <penstock/services.h>

struct s3_config;
struct s3_creds;

#define S3_CRED_NONE 16 /* beside pst_rc: this source is not set up */
#define S3_CRED_TEXT_MAX (64u << 10)

/* What a source found. Owned strings, of host->alloc; s3_secrets_fini wipes them. */
struct s3_secrets {
    char *access_key, *secret_key, *session_token; /* the last one NULL for none */
    int64_t expires_unix_ns;                       /* PST_TIME_UNKNOWN: never */
    char source[160];                              /* for messages */
};

struct s3_cred_job {
    const pst_host *host;
    const struct s3_config *config;
    const pst_http_1 *http;
    const pst_crypto_1 *crypto;
    struct s3_creds *creds;
    uint64_t deadline_ns; /* CLOCK_MONOTONIC */
    pst_error *err;       /* never NULL */
    int had_some;         /* there were credentials before: that there are none now will pass */
    char why[384];        /* of S3_CRED_NONE */
};

/* The chain, from what the application gave down to the metadata service. UNAUTHENTICATED, naming every
 * source tried, where none is set up. */
pst_rc s3_cred_find(struct s3_cred_job *job, struct s3_secrets *out);

/* What needs no job: anonymous access, and keys in the options. NONE: only a refresh can tell. INVALID:
 * the options contradict each other. */
pst_rc s3_cred_find_given(const pst_host *host, const struct s3_config *config, int has_callback,
                          struct s3_secrets *out, int *is_anonymous, pst_error *err);

/* Does the application's callback come before all that a job would ask? */
int s3_cred_is_callback_first(const struct s3_config *config);

pst_rc s3_cred_web_identity(struct s3_cred_job *job, const char *role_arn, const char *token_file,
                            const char *session_name, pst_str region, struct s3_secrets *out);
pst_rc s3_cred_profile(struct s3_cred_job *job, const char *name, int is_named,
                       struct s3_secrets *out);
pst_rc s3_cred_process(struct s3_cred_job *job, pst_str command, const char *profile,
                       struct s3_secrets *out);
pst_rc s3_cred_container(struct s3_cred_job *job, struct s3_secrets *out);
pst_rc s3_cred_imds(struct s3_cred_job *job, struct s3_secrets *out);
pst_rc s3_cred_environment(struct s3_cred_job *job, struct s3_secrets *out);

/* AssumeRole with `base`. Empty strings: not sent. */
struct s3_role {
    pst_str arn, session_name, external_id, region;
    uint64_t duration_s; /* 0: as the role says */
};
pst_rc s3_cred_assume_role(struct s3_cred_job *job, const struct s3_secrets *base,
                           const struct s3_role *role, struct s3_secrets *out);

/* A session of the directory bucket that the store is (config->is_directory), by `base`. */
pst_rc s3_cred_session(struct s3_cred_job *job, const struct s3_secrets *base,
                       struct s3_secrets *out);

/* The role of an SSO session. The strings come from a profile. */
struct s3_sso {
    pst_str session, start_url, region, account_id, role_name; /* session empty: the older form */
};
pst_rc s3_cred_sso(struct s3_cred_job *job, const struct s3_sso *sso, const char *what,
                   struct s3_secrets *out);

/* ---- what they share -------------------------------------------------------------------------- */

/* NUL-terminated; NULL for none left. */
char *s3_cred_dup(const pst_host *host, pst_str text);
void s3_cred_wipe(const pst_host *host, char *text); /* wipe and free; NULL allowed */

/* They never expire until the caller says when. INVALID, prefixed by `what`: they cannot be keys. */
pst_rc s3_secrets_set(const pst_host *host, const char *what, pst_str access_key,
                      pst_str secret_key, pst_str session_token, struct s3_secrets *out,
                      pst_error *err);
void s3_secrets_fini(const pst_host *host, struct s3_secrets *secrets);

/* `text` as far as it fits, with what cannot be shown on one line replaced. For messages. */
const char *s3_cred_shown(pst_str text, char *out, size_t capacity);

/* A whole file of at most S3_CRED_TEXT_MAX bytes, NUL-terminated; wipe it. NOT_FOUND where it is not
 * there; else err names `what`, the file and the reason. */
pst_rc s3_cred_read_file(struct s3_cred_job *job, const char *what, const char *path, char **text,
                         size_t *len);

/* "~/x" below the home directory, other paths as they are; free with s3_cred_wipe. */
pst_rc s3_cred_path(struct s3_cred_job *job, const char *what, const char *path, char **out);

/* Credentials in a JSON document, by the names its provider uses; `inner`: the object they are in, NULL
 * for the document itself. `what` names the source in errors. */
struct s3_cred_names {
    const char *inner, *access_key, *secret_key, *session_token, *expiration;
    int is_token_needed, is_expiration_ms;
    int version; /* what the member "Version" must be; 0: there need be none */
};
pst_rc s3_cred_from_json(struct s3_cred_job *job, const char *what, pst_str text,
                         const struct s3_cred_names *names, struct s3_secrets *out);

/* A member of the document, a string, as a copy to be wiped. *out NULL: not there. */
pst_rc s3_cred_json_text(struct s3_cred_job *job, const char *what, pst_str text,
                         const char *member, char **out);

struct s3_cred_exchange;
/* Credentials in an XML document, <.../Credentials/AccessKeyId> and so on, or the error that it is.
 * `who` answered. */
pst_rc s3_cred_from_xml(struct s3_cred_job *job, const char *what, const char *who,
                        const struct s3_cred_exchange *x, struct s3_secrets *out);

/* "2026-11-21T16:15:12Z", "...UTC", "...+00:00". 1, or 0 if it is none. */
int s3_cred_read_time(pst_str text, int64_t *unix_ns);
int64_t s3_cred_now_ns(void);        /* CLOCK_REALTIME */
uint64_t s3_cred_monotonic_ns(void); /* CLOCK_MONOTONIC */

/* One request, waited for. */
#define S3_CRED_DIRECT 1u /* a metadata service: no proxy, and no patience with its address */
struct s3_cred_exchange {
    const char *method, *url;
    const pst_kv *headers;
    size_t n_headers;
    pst_str body;
    uint32_t flags, timeout_ms; /* 0: as long as the job has */
    uint32_t status;
    char *reply; /* NUL-terminated; s3_cred_exchange_fini wipes it */
    size_t reply_len;
};
/* OK: a reply of whatever status. Else err says what went wrong, prefixed by `what`. */
pst_rc s3_cred_exchange(struct s3_cred_job *job, const char *what, struct s3_cred_exchange *x);
void s3_cred_exchange_fini(struct s3_cred_job *job, struct s3_cred_exchange *x);

/* The client of a job, made on first use and kept by the store. cred.c. */
pst_rc s3_cred_client(struct s3_cred_job *job, uint32_t flags, pst_http_client **out);
/* Send under the lock that a closing store takes to cancel what is under way. cred.c. */
pst_rc s3_cred_send(struct s3_cred_job *job, pst_http_client *client,
                    const pst_http_request *request);
int s3_cred_is_stopping(const struct s3_cred_job *job);

/* Time is up, or the store is being closed: fill err. Else OK. */
pst_rc s3_cred_check_time(struct s3_cred_job *job, const char *what);

#endif
