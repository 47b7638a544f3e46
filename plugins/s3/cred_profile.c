/* cred_profile.c - a profile of ~/.aws/credentials and ~/.aws/config.
 *
 * Both files are read at each refresh, whole, and wiped afterwards. A profile is what both say under
 * its name; where both have a setting the credentials file wins. What the profile is follows from its
 * settings, in the order of AWS's own tools:
 *
 *   role_arn with source_profile      AssumeRole with the keys of that profile, which may be of any kind
 *   role_arn with credential_source   AssumeRole with the keys of the environment, container, instance
 *   role_arn with web_identity_token_file
 *   sso_session or sso_start_url      the login that `aws sso login` left
 *   aws_access_key_id                 keys
 *   credential_process                a program
 *
 * A profile that is its own source uses its keys for its role. A circle of profiles is an error, as is
 * a chain of more than eight.
 *
 * The profile "default" need not exist; one that somebody named must, and must have credentials.
 * Errors name profile and file, a broken line by its number, never by its text. Not supported: a second
 * factor (mfa_serial), because there is nobody to ask; login_session. */
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "cred.h"
#include "cred_ini.h"
#include "cred_source.h"
#include "error.h"
#include "text.h"
#include "url.h"

#define CHAIN_MAX 8

struct files {
    struct s3_cred_job *job;
    char *paths[2], *texts[2]; /* credentials, config; text NULL: no such file */
    size_t lens[2];
};

enum { CREDENTIALS, CONFIG };

/* A profile of a chain. */
struct link {
    const struct link *above;
    const struct files *files;
    pst_str name;
    const char *what; /* "profile 'dev'" */
};

/* ---- the files -------------------------------------------------------------------------------- */

static void files_fini(struct files *f)
{
    for (int i = 0; i < 2; i++) {
        if (f->texts[i])
            explicit_bzero(f->texts[i], f->lens[i]);
        s3_cred_wipe(f->job->host, f->texts[i]);
        s3_cred_wipe(f->job->host, f->paths[i]);
    }
}

static pst_rc read_one(struct files *f, int which, const char *given, const char *usual)
{
    static const char *const names[] = {"the shared credentials file", "the AWS config file"};
    struct s3_cred_job *job = f->job;
    const char *reason = NULL;
    char shown[256];

    if (!given[0] && !job->config->home[0])
        return PST_OK;
    pst_rc rc = s3_cred_path(job, names[which], given[0] ? given : usual, &f->paths[which]);
    if (rc != PST_OK)
        return rc;
    rc = s3_cred_read_file(job, names[which], f->paths[which], &f->texts[which], &f->lens[which]);
    if (rc != PST_OK)
        return rc == PST_E_NOT_FOUND ? (pst_rc)PST_OK : rc;
    const uint32_t line = s3_ini_check(pst_str_of(f->texts[which], f->lens[which]), &reason);
    if (line > 0)
        return s3_fail(job->err, PST_E_INVALID, "%s %s, line %u: %s", names[which],
                       s3_cred_shown(s3_str(f->paths[which]), shown, sizeof(shown)), line, reason);
    return PST_OK;
}

static pst_rc read_both(struct files *f)
{
    const struct s3_config *config = f->job->config;
    const pst_rc rc = read_one(f, CREDENTIALS, config->shared_credentials_file,
                               "~/.aws/credentials");

    return rc == PST_OK ? read_one(f, CONFIG, config->config_file, "~/.aws/config") : rc;
}

static pst_str text_of(const struct files *f, int which)
{
    return pst_str_of(f->texts[which], f->texts[which] ? f->lens[which] : 0);
}

/* "[profile default]" goes before "[default]" where both are there. */
static const char *config_kind(const struct files *f, pst_str name)
{
    if (s3_str_is(name, "default") && !s3_ini_has(text_of(f, CONFIG), "profile", name))
        return NULL;
    return "profile";
}

static int has_profile(const struct files *f, pst_str name)
{
    return s3_ini_has(text_of(f, CREDENTIALS), NULL, name) ||
           s3_ini_has(text_of(f, CONFIG), config_kind(f, name), name);
}

/* Empty: not set. */
static pst_str setting(const struct link *l, const char *key)
{
    const struct files *f = l->files;
    pst_str value = {NULL, 0};

    if (!s3_ini_get(text_of(f, CREDENTIALS), NULL, l->name, key, &value) &&
        !s3_ini_get(text_of(f, CONFIG), config_kind(f, l->name), l->name, key, &value))
        return pst_str_of(NULL, 0);
    return value;
}

/* ---- what a profile can be -------------------------------------------------------------------- */

static pst_rc find(struct link *l, struct s3_secrets *out);

static pst_rc use_keys(const struct link *l, struct s3_secrets *out)
{
    struct s3_cred_job *job = l->files->job;
    const pst_str access_key = setting(l, "aws_access_key_id");
    const pst_str secret_key = setting(l, "aws_secret_access_key");

    if (access_key.len == 0 || secret_key.len == 0)
        return s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: it has %s without %s", l->what,
                       access_key.len == 0 ? "aws_secret_access_key" : "aws_access_key_id",
                       access_key.len == 0 ? "aws_access_key_id" : "aws_secret_access_key");
    return s3_secrets_set(job->host, l->what, access_key, secret_key,
                          setting(l, "aws_session_token"), out, job->err);
}

static pst_rc use_source_profile(const struct link *l, pst_str name, struct s3_secrets *out)
{
    struct s3_cred_job *job = l->files->job;
    char shown[80], what[96];
    int n = 1;

    s3_cred_shown(name, shown, sizeof(shown));
    snprintf(what, sizeof(what), "profile '%s'", shown);
    struct link source = {.above = l, .files = l->files, .name = name, .what = what};
    if (s3_str_eq(name, l->name))
        return use_keys(l, out);
    for (const struct link *at = l; at; at = at->above, n++) {
        if (s3_str_eq(at->name, name))
            return s3_fail(job->err, PST_E_INVALID,
                           "%s: its chain of source_profile comes back to %s", l->what, what);
    }
    if (n > CHAIN_MAX)
        return s3_fail(job->err, PST_E_INVALID, "%s: a chain of more than %d source_profiles",
                       l->what, CHAIN_MAX);
    if (!has_profile(l->files, name))
        return s3_fail(job->err, PST_E_UNAUTHENTICATED,
                       "%s: its source_profile '%s' does not exist", l->what, shown);
    return find(&source, out);
}

static pst_rc use_credential_source(const struct link *l, pst_str name, struct s3_secrets *out)
{
    static const struct {
        const char *name;
        pst_rc (*find)(struct s3_cred_job *, struct s3_secrets *);
    } sources[] = {{"Environment", s3_cred_environment},
                   {"EcsContainer", s3_cred_container},
                   {"Ec2InstanceMetadata", s3_cred_imds}};
    struct s3_cred_job *job = l->files->job;
    char shown[80];

    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        if (!s3_str_is(name, sources[i].name))
            continue;
        const pst_rc rc = sources[i].find(job, out);
        if (rc != S3_CRED_NONE)
            return rc;
        return s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: credential_source %s: %s", l->what,
                       sources[i].name, job->why);
    }
    return s3_fail(job->err, PST_E_INVALID,
                   "%s: credential_source '%s' is not Environment, EcsContainer or "
                   "Ec2InstanceMetadata",
                   l->what, s3_cred_shown(name, shown, sizeof(shown)));
}

static pst_rc use_role(const struct link *l, pst_str role_arn, struct s3_secrets *out)
{
    struct s3_cred_job *job = l->files->job;
    const pst_str source_profile = setting(l, "source_profile");
    const pst_str credential_source = setting(l, "credential_source");
    const pst_str duration = setting(l, "duration_seconds");
    struct s3_role role = {.arn = role_arn,
                           .session_name = setting(l, "role_session_name"),
                           .external_id = setting(l, "external_id"),
                           .region = setting(l, "region")};
    struct s3_secrets base = {0};
    pst_rc rc;

    if (setting(l, "mfa_serial").len > 0)
        return s3_fail(job->err, PST_E_UNIMPLEMENTED,
                       "%s: mfa_serial asks for a second factor, and there is nobody to ask; use a "
                       "profile of temporary keys",
                       l->what);
    if (duration.len > 0 && !s3_parse_u64(duration, &role.duration_s))
        return s3_fail(job->err, PST_E_INVALID, "%s: duration_seconds is no number", l->what);
    if (source_profile.len > 0 && credential_source.len > 0)
        return s3_fail(job->err, PST_E_INVALID,
                       "%s: it has both source_profile and credential_source", l->what);
    rc = source_profile.len > 0 ? use_source_profile(l, source_profile, &base)
                                : use_credential_source(l, credential_source, &base);
    if (rc == PST_OK)
        rc = s3_cred_assume_role(job, &base, &role, out);
    s3_secrets_fini(job->host, &base);
    return rc;
}

static pst_rc use_web_identity(const struct link *l, pst_str role_arn, struct s3_secrets *out)
{
    struct s3_cred_job *job = l->files->job;
    char *arn = s3_cred_dup(job->host, role_arn);
    char *file = s3_cred_dup(job->host, setting(l, "web_identity_token_file"));
    char *name = s3_cred_dup(job->host, setting(l, "role_session_name"));
    char *path = NULL;
    pst_rc rc;

    if (arn && file && name)
        rc = s3_cred_path(job, l->what, file, &path);
    else
        rc = s3_fail(job->err, PST_E_NO_MEMORY, "%s: out of memory", l->what);
    if (rc == PST_OK)
        rc = s3_cred_web_identity(job, arn, path, name, setting(l, "region"), out);
    s3_cred_wipe(job->host, arn);
    s3_cred_wipe(job->host, file);
    s3_cred_wipe(job->host, name);
    s3_cred_wipe(job->host, path);
    return rc;
}

static pst_rc use_sso(const struct link *l, struct s3_secrets *out)
{
    struct s3_cred_job *job = l->files->job;
    const pst_str config = text_of(l->files, CONFIG);
    struct s3_sso sso = {.session = setting(l, "sso_session"),
                         .start_url = setting(l, "sso_start_url"),
                         .region = setting(l, "sso_region"),
                         .account_id = setting(l, "sso_account_id"),
                         .role_name = setting(l, "sso_role_name")};
    char shown[80];

    if (sso.session.len > 0) {
        if (!s3_ini_has(config, "sso-session", sso.session))
            return s3_fail(job->err, PST_E_UNAUTHENTICATED,
                           "%s: there is no section [sso-session %s]", l->what,
                           s3_cred_shown(sso.session, shown, sizeof(shown)));
        (void)s3_ini_get(config, "sso-session", sso.session, "sso_start_url", &sso.start_url);
        (void)s3_ini_get(config, "sso-session", sso.session, "sso_region", &sso.region);
    }
    const char *missing = sso.start_url.len == 0    ? "sso_start_url"
                          : sso.region.len == 0     ? "sso_region"
                          : sso.account_id.len == 0 ? "sso_account_id"
                          : sso.role_name.len == 0  ? "sso_role_name"
                                                    : NULL;
    if (missing)
        return s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: single sign-on without %s", l->what,
                       missing);
    return s3_cred_sso(job, &sso, l->what, out);
}

static pst_rc find(struct link *l, struct s3_secrets *out)
{
    struct s3_cred_job *job = l->files->job;
    const pst_str role_arn = setting(l, "role_arn");
    const pst_str process = setting(l, "credential_process");
    const int has_base = setting(l, "source_profile").len > 0 ||
                         setting(l, "credential_source").len > 0;
    const int has_token = setting(l, "web_identity_token_file").len > 0;

    if (role_arn.len > 0 && has_base)
        return use_role(l, role_arn, out);
    if (role_arn.len > 0 && has_token)
        return use_web_identity(l, role_arn, out);
    if (role_arn.len > 0 || has_token)
        return s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: it has %s", l->what,
                       has_token ? "web_identity_token_file without role_arn"
                                 : "role_arn without source_profile, credential_source or "
                                   "web_identity_token_file");
    if (setting(l, "sso_session").len > 0 || setting(l, "sso_start_url").len > 0)
        return use_sso(l, out);
    if (setting(l, "aws_access_key_id").len > 0 || setting(l, "aws_secret_access_key").len > 0)
        return use_keys(l, out);
    if (process.len > 0)
        return s3_cred_process(job, process, l->what, out);
    return S3_CRED_NONE;
}

/* ---- the one that is asked for ---------------------------------------------------------------- */

/* The files that were looked at, for messages. */
static const char *shown_files(const struct files *f, char *out, size_t capacity)
{
    char names[2][120];

    if (!f->paths[CREDENTIALS] && !f->paths[CONFIG])
        return "any file (no home directory is known)";
    for (int i = 0; i < 2; i++)
        s3_cred_shown(s3_str(f->paths[i] ? f->paths[i] : "-"), names[i], sizeof(names[i]));
    snprintf(out, capacity, "%s or %s", names[CREDENTIALS], names[CONFIG]);
    return out;
}

pst_rc s3_cred_profile(struct s3_cred_job *job, const char *name, int is_named,
                       struct s3_secrets *out)
{
    struct files files = {.job = job};
    char what[96], shown[80], where[256];
    const char *looked_at;
    int is_there;
    struct link profile = {.files = &files, .name = s3_str(name), .what = what};
    pst_rc rc = read_both(&files);

    snprintf(what, sizeof(what), "profile '%s'", s3_cred_shown(s3_str(name), shown, sizeof(shown)));
    if (rc != PST_OK)
        goto out;
    looked_at = shown_files(&files, where, sizeof(where));
    is_there = has_profile(&files, profile.name);
    rc = is_there ? find(&profile, out) : S3_CRED_NONE;
    if (rc != S3_CRED_NONE)
        goto out;
    if (is_named)
        rc = s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: %s %s", what,
                     is_there ? "it has no credentials in" : "it is not in", looked_at);
    else
        snprintf(job->why, sizeof(job->why), "%s '%s' in %s", is_there ? "no credentials of" : "no",
                 shown, looked_at);
out:
    files_fini(&files);
    return rc;
}

/* ---- its region ------------------------------------------------------------------------------- */

/* It becomes a part of host names. */
static int is_region(pst_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        const char c = text.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return 0;
    }
    return text.len > 0 && text.len < 64;
}

void s3_creds_find_region(const pst_host *host, struct s3_config *config)
{
    pst_error ignored = PST_ERROR_INIT;
    struct s3_cred_job job = {.host = host, .config = config, .err = &ignored};
    struct files files = {.job = &job};
    const struct link profile = {
        .files = &files,
        .name = s3_str(config->profile[0] ? config->profile : "default"),
    };

    if (config->region[0])
        return;
    if (read_both(&files) == PST_OK) {
        const pst_str region = setting(&profile, "region");
        if (is_region(region)) {
            memcpy(config->region_of_profile, region.ptr, region.len);
            config->region_of_profile[region.len] = '\0';
            config->region = config->region_of_profile;
        }
    }
    files_fini(&files);
}
