/* cred_text.c - what the sources of credentials share: owned secrets, small files, times.
 *
 * Whatever may hold a secret is wiped before its memory is given back, on every path. Nothing here
 * writes the content of a file or a reply into a message; s3_cred_shown is for names. */
#include "cred_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "error.h"
#include "text.h"
#include "url.h"

#define NS_PER_S 1000000000

char *s3_cred_dup(const pst_host *host, pst_str text)
{
    char *copy = host->alloc(host, text.len + 1, 16);

    if (copy) {
        if (text.len > 0)
            memcpy(copy, text.ptr, text.len);
        copy[text.len] = '\0';
    }
    return copy;
}

void s3_cred_wipe(const pst_host *host, char *text)
{
    if (!text)
        return;
    explicit_bzero(text, strlen(text));
    host->dealloc(host, text);
}

/* They go into headers: a line break would start another one. */
static int is_printable(pst_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        const unsigned char c = (unsigned char)text.ptr[i];
        if (c <= ' ' || c >= 0x7f)
            return 0;
    }
    return text.len > 0;
}

pst_rc s3_secrets_set(const pst_host *host, const char *what, pst_str access_key,
                      pst_str secret_key, pst_str session_token, struct s3_secrets *out,
                      pst_error *err)
{
    const int has_token = session_token.len > 0;
    const char *bad = NULL;

    memset(out, 0, sizeof(*out));
    out->expires_unix_ns = PST_TIME_UNKNOWN;
    snprintf(out->source, sizeof(out->source), "%s", what);
    if (!is_printable(access_key) || access_key.len > 256)
        bad = "access key id";
    else if (!is_printable(secret_key) || secret_key.len > 256)
        bad = "secret access key";
    else if (has_token && !is_printable(session_token))
        bad = "session token";
    if (access_key.len == 0 || secret_key.len == 0)
        return s3_fail(err, PST_E_INVALID, "%s: there is no %s", what, bad);
    if (bad)
        return s3_fail(err, PST_E_INVALID, "%s: the %s is not one word of visible ASCII", what,
                       bad);
    out->access_key = s3_cred_dup(host, access_key);
    out->secret_key = s3_cred_dup(host, secret_key);
    out->session_token = has_token ? s3_cred_dup(host, session_token) : NULL;
    if (out->access_key && out->secret_key && (out->session_token || !has_token))
        return PST_OK;
    s3_secrets_fini(host, out);
    return s3_fail(err, PST_E_NO_MEMORY, "%s: out of memory", what);
}

void s3_secrets_fini(const pst_host *host, struct s3_secrets *secrets)
{
    s3_cred_wipe(host, secrets->access_key);
    s3_cred_wipe(host, secrets->secret_key);
    s3_cred_wipe(host, secrets->session_token);
    secrets->access_key = secrets->secret_key = secrets->session_token = NULL;
}

const char *s3_cred_shown(pst_str text, char *out, size_t capacity)
{
    size_t n = 0;

    for (; n < text.len && n + 1 < capacity; n++) {
        const unsigned char c = (unsigned char)text.ptr[n];
        out[n] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    /* Not in the middle of a UTF-8 character. */
    if (n < text.len) {
        while (n > 0 && ((unsigned char)text.ptr[n] & 0xc0) == 0x80)
            n--;
    }
    out[n] = '\0';
    return out;
}

/* ---- files ------------------------------------------------------------------------------------ */

pst_rc s3_cred_path(struct s3_cred_job *job, const char *what, const char *path, char **out)
{
    const char *home = job->config->home;
    const int is_below_home = path[0] == '~' && (path[1] == '/' || path[1] == '\0');
    const size_t size = strlen(home) + strlen(path) + 1;
    char shown[256];

    if (is_below_home && !home[0])
        return s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: no home directory is known for %s",
                       what, s3_cred_shown(s3_str(path), shown, sizeof(shown)));
    *out = job->host->alloc(job->host, size, 16);
    if (!*out)
        return s3_fail(job->err, PST_E_NO_MEMORY, "%s: out of memory", what);
    snprintf(*out, size, "%s%s", is_below_home ? home : "", is_below_home ? path + 1 : path);
    return PST_OK;
}

static pst_rc fail_file(struct s3_cred_job *job, const char *what, const char *path, int sys_errno)
{
    char reason[96], shown[256];

    s3_fail(job->err, sys_errno == EACCES ? PST_E_DENIED : PST_E_UNAUTHENTICATED,
            "%s: cannot read %s: %s", what, s3_cred_shown(s3_str(path), shown, sizeof(shown)),
            strerror_r(sys_errno, reason, sizeof(reason)));
    job->err->sys_errno = sys_errno;
    return job->err->code;
}

pst_rc s3_cred_read_file(struct s3_cred_job *job, const char *what, const char *path, char **text,
                         size_t *len)
{
    char shown[256];
    char *buffer = NULL;
    size_t n = 0;
    pst_rc rc = PST_OK;
    /* O_NONBLOCK: whatever is named, a pipe without a writer must not stop the job for good. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? (pst_rc)PST_E_NOT_FOUND
                                                   : fail_file(job, what, path, errno);
    buffer = job->host->alloc(job->host, S3_CRED_TEXT_MAX + 2, 16);
    if (!buffer) {
        rc = s3_fail(job->err, PST_E_NO_MEMORY, "%s: out of memory", what);
        goto out;
    }
    for (;;) {
        const ssize_t got = read(fd, buffer + n, S3_CRED_TEXT_MAX + 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            rc = fail_file(job, what, path, errno);
            goto out;
        }
        n += (size_t)got;
        if (got == 0)
            break;
        if (n > S3_CRED_TEXT_MAX) {
            rc = s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: %s is over %u bytes", what,
                         s3_cred_shown(s3_str(path), shown, sizeof(shown)), S3_CRED_TEXT_MAX);
            goto out;
        }
    }
    buffer[n] = '\0';
    *text = buffer;
    *len = n;
    buffer = NULL;
out:
    if (buffer) {
        explicit_bzero(buffer, n);
        job->host->dealloc(job->host, buffer);
    }
    close(fd);
    return rc;
}

/* ---- time ------------------------------------------------------------------------------------- */

static int64_t read_clock(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t s3_cred_now_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

uint64_t s3_cred_monotonic_ns(void)
{
    return (uint64_t)read_clock(CLOCK_MONOTONIC);
}

int s3_cred_read_time(pst_str text, int64_t *unix_ns)
{
    static const char *const utc[] = {"Z", "UTC", "+00:00", "+0000"};
    char form[40];

    for (size_t i = 0; i < sizeof(utc) / sizeof(utc[0]); i++) {
        const size_t n = strlen(utc[i]);
        if (text.len <= n || text.len - n + 2 > sizeof(form) ||
            memcmp(text.ptr + text.len - n, utc[i], n) != 0)
            continue;
        memcpy(form, text.ptr, text.len - n);
        form[text.len - n] = 'Z';
        *unix_ns = s3_parse_iso_date(pst_str_of(form, text.len - n + 1));
        return *unix_ns != PST_TIME_UNKNOWN;
    }
    return 0;
}

pst_rc s3_cred_check_time(struct s3_cred_job *job, const char *what)
{
    if (s3_cred_is_stopping(job))
        return s3_fail(job->err, PST_E_CANCELLED, "%s: the store is being closed", what);
    if (s3_cred_monotonic_ns() >= job->deadline_ns) {
        s3_fail(job->err, PST_E_DEADLINE, "%s: no answer within %u ms", what,
                job->config->credential_timeout_ms);
        job->err->flags |= PST_ERR_RETRYABLE;
        return job->err->code;
    }
    return PST_OK;
}
