/* fake.h - a host and an HTTP service that answer as they are told: for tests of the plugin without a
 * server.
 *
 * A test starts a fake, says what the store will answer (fake_answer, in order), submits an operation and
 * runs it to its end (fake_run), and looks at what was sent. Replies are delivered by fake_run on its own
 * thread; jobs of exec run on threads. crypto/1 is the real one. */
#ifndef S3_TESTS_FAKE_H
#define S3_TESTS_FAKE_H

#include <pthread.h>

#include <penstock/services.h>

struct fake_reply {
    uint32_t status;     /* 0: none, see rc */
    const char *headers; /* "etag: \"x\"\ncontent-range: ..."; NULL: none */
    const char *body;
    size_t body_len;
    int has_cut; /* the connection breaks after cut_at bytes of the body */
    size_t cut_at;
    pst_rc rc; /* of the transport */
    uint32_t failed_at, flags;
};

/* A request as the plugin sent it; texts end in NUL. */
struct fake_sent {
    char *method, *url, *body;
    size_t body_len;
    pst_kv *headers;
    size_t n_headers;
    uint64_t id, not_before_ns, deadline_ns;
    pst_http_request request; /* only accept, done, ctx, body_max */
    int is_open, is_paused, is_cancelled, is_answered, was_paused;
    struct fake_reply reply;
};

enum fake_dst { FAKE_DST_GRANT, FAKE_DST_LATER };

struct fake_op {
    pst_op op; /* first */
    struct fake *fake;
    pst_error err;
    void *blocks; /* op_alloc */
    int n_completed;
    pst_rc rc;
    char *dst; /* granted memory */
    size_t dst_len;
    pst_iov span;
    pst_entry *entries; /* list_emit; their texts live as long as the operation */
    size_t n_entries;
    int is_parked;
    _Alignas(16) char scratch[8192];
};

struct fake {
    pst_host host; /* first */
    pst_http_1 http;
    pst_cred_1 *cred; /* NULL: no such service */
    const pst_plugin *plugin;
    pst_backend *store;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t n_changes;
    struct fake_sent *sent[4096];
    size_t n_sent, n_seen;
    struct fake_reply replies[256];
    size_t n_replies, n_given;
    /* Where set, decides instead of the list. 0: no answer yet (fake_run goes on waiting). */
    int (*answer)(struct fake *, struct fake_sent *, struct fake_reply *);
    void *answer_ctx;
    enum fake_dst dst;
    int64_t fail_after; /* allocations until one fails; -1: none */
    int64_t n_blocks;   /* of alloc, alive */
    int n_jobs;         /* of exec, running */
    int n_logs;
    char log[65536]; /* all lines */
    size_t log_len;
    pst_error open_err;
};

/* Open a store of bucket "bucket". `options`: "name=value", NULL at the end, or NULL. Without an endpoint
 * among them it is http://127.0.0.1:9000; without keys AKIDEXAMPLE. Returns what store_open did. */
pst_rc fake_open(struct fake *fake, const char *const *options);
pst_rc fake_open_bucket(struct fake *fake, const char *bucket, const char *const *options);

/* The same, and the test fails if it does not open. */
void fake_start(struct fake *fake, const char *const *options);

/* Close; the test fails if memory is left, a request is open, or an answer was not used. */
void fake_stop(struct fake *fake);

/* Say what comes next. */
void fake_answer(struct fake *fake, uint32_t status, const char *headers, const char *body);
void fake_answer_with(struct fake *fake, const struct fake_reply *reply);

void fake_op_init(struct fake *fake, struct fake_op *op);

/* Answer requests until the operation has completed; `submitted` is what submit answered. Returns the
 * status and checks that it completed once. */
pst_rc fake_run(struct fake_op *op, pst_rc submitted);

/* Answer one request, if there is one without an answer. 1 if so. */
int fake_step(struct fake *fake);
void fake_op_fini(struct fake_op *op);

/* The value of a header as it was sent, "" where there was none. In static memory, one at a time. */
const char *fake_header(const struct fake_sent *sent, const char *name);

pst_str fake_str(const char *text);

extern const pst_http_1 fake_http;
void fake_http_free(struct fake *fake);

#endif
