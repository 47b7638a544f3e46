/* cred_json.c - credentials in the JSON documents of container services, metadata services, SSO and
 * credential processes.
 *
 * Read by jansson; its values are wiped before they are freed. The buffer of its scanner, which held each
 * text in turn, is out of reach. */
#include <string.h>

#include <jansson.h>

#include "cred_source.h"
#include "error.h"
#include "text.h"

/* jansson frees without wiping. Its strings are its own memory, const only for its callers. */
static void wipe(json_t *value)
{
    const char *name;
    json_t *member;

    if (json_is_object(value)) {
        json_object_foreach(value, name, member) wipe(member);
    } else if (json_is_string(value)) {
        char *text;
        const char *bytes = json_string_value(value);
        memcpy(&text, &bytes, sizeof(text));
        explicit_bzero(text, json_string_length(value));
    }
}

static json_t *load(pst_str text)
{
    return json_loadb(text.len > 0 ? text.ptr : "", text.len, JSON_REJECT_DUPLICATES, NULL);
}

static void unload(json_t *document)
{
    wipe(document);
    json_decref(document);
}

static pst_str text_of(const json_t *object, const char *name)
{
    const json_t *member = name ? json_object_get(object, name) : NULL;

    return pst_str_of(json_string_value(member), json_string_length(member));
}

static int read_expiration(const json_t *object, const struct s3_cred_names *names, int64_t *out)
{
    const json_t *member = names->expiration ? json_object_get(object, names->expiration) : NULL;

    *out = PST_TIME_UNKNOWN;
    if (!member || json_is_null(member))
        return 1;
    if (!names->is_expiration_ms)
        return s3_cred_read_time(pst_str_of(json_string_value(member), json_string_length(member)),
                                 out);
    if (!json_is_integer(member) || json_integer_value(member) <= 0 ||
        json_integer_value(member) > INT64_MAX / 1000000)
        return 0;
    *out = (int64_t)json_integer_value(member) * 1000000;
    return 1;
}

pst_rc s3_cred_from_json(struct s3_cred_job *job, const char *what, pst_str text,
                         const struct s3_cred_names *names, struct s3_secrets *out)
{
    pst_str access_key, secret_key, token;
    int64_t expires;
    pst_rc rc;
    json_t *document = load(text);
    const json_t *object = names->inner ? json_object_get(document, names->inner) : document;

    if (!json_is_object(object)) {
        rc = s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: the answer is no JSON object%s%s", what,
                     names->inner ? " with a member " : "", names->inner ? names->inner : "");
        goto out;
    }
    if (names->version &&
        json_integer_value(json_object_get(object, "Version")) != names->version) {
        rc = s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: the answer is not of Version %d", what,
                     names->version);
        goto out;
    }
    access_key = text_of(object, names->access_key);
    secret_key = text_of(object, names->secret_key);
    token = text_of(object, names->session_token);
    if (access_key.len == 0 || secret_key.len == 0 || (names->is_token_needed && token.len == 0)) {
        rc = s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: the answer has no %s", what,
                     access_key.len == 0   ? names->access_key
                     : secret_key.len == 0 ? names->secret_key
                                           : names->session_token);
        goto out;
    }
    if (!read_expiration(object, names, &expires)) {
        rc = s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: the answer's %s is no time", what,
                     names->expiration);
        goto out;
    }
    if (expires != PST_TIME_UNKNOWN && expires <= s3_cred_now_ns()) {
        rc = s3_fail(job->err, PST_E_UNAUTHENTICATED,
                     "%s: the credentials have expired already (is the clock right?)", what);
        goto out;
    }
    rc = s3_secrets_set(job->host, what, access_key, secret_key, token, out, job->err);
    if (rc == PST_OK)
        out->expires_unix_ns = expires;
out:
    unload(document);
    return rc;
}

pst_rc s3_cred_json_text(struct s3_cred_job *job, const char *what, pst_str text,
                         const char *member, char **out)
{
    json_t *document = load(text);
    const pst_str found = text_of(document, member);
    const int is_there = found.len > 0;

    *out = is_there ? s3_cred_dup(job->host, found) : NULL;
    unload(document);
    if (is_there && !*out)
        return s3_fail(job->err, PST_E_NO_MEMORY, "%s: out of memory", what);
    return PST_OK;
}
