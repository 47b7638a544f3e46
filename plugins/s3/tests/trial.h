/* trial.h - one operation after another against a store that answers as it is told. */
#ifndef S3_TESTS_TRIAL_H
#define S3_TESTS_TRIAL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake.h"

struct trial {
    struct fake fake;
    struct fake_op op;
    int is_begun;
};

#define OPTIONS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define XML "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
#define ERROR_XML(code) XML "<Error><Code>" code "</Code><Message>told so</Message></Error>"

static inline struct trial *trial_start(const char *const *options)
{
    struct trial *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    fake_start(&t->fake, options);
    return t;
}

/* The next operation; the one before is over. */
static inline pst_op *trial_op(struct trial *t)
{
    if (t->is_begun)
        fake_op_fini(&t->op);
    fake_op_init(&t->fake, &t->op);
    t->is_begun = 1;
    return &t->op.op;
}

static inline void trial_finish(struct trial *t)
{
    if (t->is_begun)
        fake_op_fini(&t->op);
    fake_stop(&t->fake);
    free(t);
}

static inline const pst_backend_ops *ops_of(const struct trial *t)
{
    return t->fake.plugin->ops;
}

static inline const struct fake_sent *sent(const struct trial *t, size_t i)
{
    assert_true(i < t->fake.n_sent);
    return t->fake.sent[i];
}

/* What was asked for: "GET /bucket/key?query". In static memory. */
static inline const char *asked(const struct trial *t, size_t i)
{
    static char text[4096];
    const struct fake_sent *s = sent(t, i);
    const char *path = strchr(strstr(s->url, "://") + 3, '/');
    snprintf(text, sizeof(text), "%s %s", s->method, path);
    return text;
}

static inline void answer_cut(struct trial *t)
{
    const struct fake_reply reply = {
        .rc = PST_E_UNAVAILABLE, .failed_at = PST_HTTP_AT_HEAD, .flags = PST_HTTP_MAY_BE_SENT};
    fake_answer_with(&t->fake, &reply);
}

#define assert_text(str, text)                                                                     \
    do {                                                                                           \
        const pst_str text_ = (str);                                                               \
        assert_int_equal(text_.len, strlen(text));                                                 \
        assert_memory_equal(text_.ptr, text, text_.len);                                           \
    } while (0)

#endif
