/* request_trial.h - one request after another to a store that answers as it is told. */
#ifndef S3_TESTS_REQUEST_TRIAL_H
#define S3_TESTS_REQUEST_TRIAL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../s3.h"
#include "../url.h"
#include "fake.h"

/* An operation of one request: what every slot does, without its own part. */
struct trial {
    struct fake fake;
    struct fake_op op;
    struct s3_request *request;
    char body[512]; /* of the reply */
    uint32_t status;
};

static inline void on_done(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    struct trial *trial = s3_call_of(request->op)->result;

    if (reply) {
        assert_true(reply->body.len < sizeof(trial->body));
        *s3_write(trial->body, reply->body) = '\0';
        trial->status = reply->status;
    }
    s3_complete(request->op, rc);
}

static inline void begin(struct trial *t, const char *method, const char *key)
{
    fake_op_init(&t->fake, &t->op);
    s3_call_of(&t->op.op)->result = t;
    t->request = &s3_call_of(&t->op.op)->request;
    s3_request_init(t->request, t->fake.store, &t->op.op, method, s3_str(key));
    t->request->done = on_done;
}

static inline struct trial *start(const char *const *options)
{
    struct trial *t = calloc(1, sizeof(*t));

    assert_non_null(t);
    fake_start(&t->fake, options);
    return t;
}

static inline pst_rc run(struct trial *t)
{
    return fake_run(&t->op, s3_request_send(t->request));
}

static inline void finish(struct trial *t)
{
    fake_op_fini(&t->op);
    fake_stop(&t->fake);
    free(t);
}

static inline const struct fake_sent *sent(const struct trial *t, size_t i)
{
    assert_true(i < t->fake.n_sent);
    return t->fake.sent[i];
}

#define OPTIONS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define XML "<?xml version=\"1.0\"?>"
#define ERROR_XML(code, more)                                                                      \
    XML "<Error><Code>" code "</Code><Message>told so</Message>" more                              \
        "<RequestId>R-1</RequestId></Error>"

static inline const char *note(struct trial *t)
{
    pst_limits limits = {.struct_size = sizeof(limits)};
    pst_backend_info info = {.struct_size = sizeof(info), .limits = &limits};

    t->fake.plugin->ops->info(t->fake.store, &info);
    return info.note;
}

#endif
