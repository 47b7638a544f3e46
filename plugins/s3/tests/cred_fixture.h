/* cred_fixture.h - the credentials of a store without the store: a small host, an HTTP service that
 * answers by rules on threads of its own, the real crypto/1, and a home directory.
 *
 * A test opens a case with options ("name=value"; "env:name=value" for what stands in the environment),
 * says what is answered to what, and asks. Closing fails the test if memory is left, or was given back
 * with a secret in it. */
#ifndef S3_TESTS_CRED_FIXTURE_H
#define S3_TESTS_CRED_FIXTURE_H

#include <pthread.h>

#include <penstock/plugins.h>
#include <penstock/services.h>

#include "../config.h"
#include "../cred.h"
#include "../s3.h"

/* The answer to requests whose "METHOD url" begins with `match`, as often as n_left says (-1: always);
 * of several the first one with answers left. */
struct cred_rule {
    const char *match;
    uint32_t status; /* 0: no reply comes, the transport fails with rc */
    const char *body;
    int n_left;
    pst_rc rc;
    int is_held;       /* not answered before cred_case_release or a cancel */
    const char *wants; /* a part of the head or body that must be there, or the answer is 599 */
};

struct cred_sent {
    char *line;    /* "POST http://sts/" */
    char *headers; /* "name: value\n" each */
    char *body;
    uint32_t n_headers, is_direct;
    uint64_t deadline_ns;
};

struct cred_case {
    pst_host host; /* first */
    pst_http_1 http;
    pst_cred_1 cred;
    pst_services *services;
    pst_backend store;
    struct s3_creds *creds;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    char *home;
    struct cred_rule rules[64];
    size_t n_rules;
    struct cred_sent sent[512];
    size_t n_sent;
    uint64_t next_id, cancelled_id;
    int is_released, n_held;
    int n_threads; /* of jobs and replies, alive */
    int exec_fails, is_exec_held;
    void (*held_fn)(void *);
    void *held_arg;
    int n_jobs;                   /* of exec, begun */
    int64_t n_blocks, fail_after; /* allocations; -1: none fails */
    int n_dirty;                  /* blocks given back with a secret in them: "hush" or "SECRET-" */
    int is_blind;                 /* do not look for leaks: something was abandoned on purpose */
    char log[8192];
    pst_error err; /* of opening */
};

/* Somebody who asks. */
struct cred_asker {
    struct s3_waiter waiter; /* first */
    struct cred_case *c;
    pst_op op;
    pst_error err;
    void *blocks;
    struct s3_identity *identity;
    pst_rc rc;
    int n_called;
};

/* cmocka: *state becomes a case that is not yet open; with a home. */
int cred_case_setup(void **state);
int cred_case_teardown(void **state);

/* Make the credentials of a store with these options, NULL at the end. "home" is set unless given. */
pst_rc cred_case_open(struct cred_case *c, const char *const *options);
void cred_case_close(struct cred_case *c);

void cred_case_answer(struct cred_case *c, const char *match, uint32_t status, const char *body);
struct cred_rule *cred_case_rule(struct cred_case *c, const char *match);

/* Answer what is held, now and from now on. */
void cred_case_release(struct cred_case *c);

/* Wait until so many requests have been sent. */
void cred_case_wait_sent(struct cred_case *c, size_t n);
size_t cred_case_n_sent(struct cred_case *c);

/* Write ~/<name>, making folders. */
void cred_case_file(struct cred_case *c, const char *name, const char *text);
const char *cred_case_path(struct cred_case *c, const char *name); /* in one of four buffers */

/* Submit; PENDING or what came at once. Then wait for the end. */
pst_rc cred_ask(struct cred_case *c, struct cred_asker *a, uint64_t refused);
pst_rc cred_wait(struct cred_asker *a);
void cred_asker_fini(struct cred_asker *a);

/* Ask once and expect this access key, or this error with all of the texts in its message. */
void expect_key(struct cred_case *c, const char *access_key, const char *token);
void expect_error(struct cred_case *c, pst_rc rc, const char *const *wanted);
#define EXPECT_ERROR(c, rc, ...) expect_error(c, rc, (const char *const[]){__VA_ARGS__, NULL})

/* A time so many seconds from now, as "2026-11-21T16:15:12Z"; in one of four buffers. */
const char *time_text(int64_t seconds_from_now);
/* A JSON or XML document of keys; malloc'ed by the fixture, freed at the end. */
const char *json_keys(struct cred_case *c, const char *access_key, int64_t lives_s);
const char *sts_keys(struct cred_case *c, const char *action, const char *access_key,
                     int64_t lives_s);

#endif
