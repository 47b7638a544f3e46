/* group_error.c - OP, the part about errors and log lines. Their form is checked at every operation of
 * every requirement (call.c, host.c); here the operations are those that must fail. */
#include <stdio.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

enum provocation {
    MISSING_STAT,
    MISSING_READ,
    MISSING_LONG,
    WRONG_MATCH,
    EXISTS,
    COPY_MISSING,
    N_PROVOCATIONS
};

/* An operation that must fail, run; NULL if the store offers none of that kind. */
static struct k_call *provoke(struct k_store *s, const struct k_object *o, unsigned i, pst_rc *rc)
{
    struct k_test *t = s->test;
    bool may_write = t->config->profile != K_RO;
    struct k_call *c = NULL;
    char name[800];
    *rc = PST_E_NOT_FOUND;
    if (i == MISSING_STAT && (s->caps & PST_CAP_STAT)) {
        c = k_new_stat(s, k_key(t, "not there"));
    } else if (i == MISSING_READ || i == MISSING_LONG) {
        /* Long enough to overflow a message that is put together without looking. */
        size_t len = s->limits.key_max > 0 && s->limits.key_max < 700 + t->base_len
                         ? s->limits.key_max - t->base_len
                         : 700;
        memset(name, 'k', sizeof(name));
        for (size_t k = 99; k < len; k += 100)
            name[k] = k + 1 < len ? '/' : 'k';
        c = k_call_new(s, K_READ, NULL);
        c->in.read.key = i == MISSING_LONG ? k_key_bytes(t, pst_str_of(name, len))
                                           : k_key(t, "not there");
        c->in.read.length = 10;
    } else if (i == WRONG_MATCH && (s->caps & PST_CAP_READ_IF_MATCH)) {
        c = k_call_new(s, K_READ, NULL);
        c->in.read.key = o->key;
        c->in.read.length = 10;
        c->in.read.if_match = PST_STR("not-the-etag");
        *rc = PST_E_PRECONDITION;
    } else if (i == EXISTS && may_write && (s->caps & PST_CAP_PUT) &&
               (s->caps & PST_CAP_CREATE_ONLY)) {
        c = k_call_new(s, K_PUT, NULL);
        c->in.put.key = o->key;
        c->in.put.flags = PST_PUT_CREATE_ONLY;
        *rc = PST_E_EXISTS;
    } else if (i == COPY_MISSING && may_write && (s->caps & PST_CAP_COPY)) {
        c = k_call_new(s, K_COPY, NULL);
        c->in.copy.from = k_key(t, "not there");
        c->in.copy.to = k_key(t, "copy of nothing");
    }
    if (c)
        (void)k_call_run(c);
    return c;
}

static void for_each_failure(struct k_test *t, void (*check)(struct k_test *, struct k_call *))
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !k_object(s, 100, &o))
        return;
    for (unsigned i = 0; i < N_PROVOCATIONS; i++) {
        pst_rc rc = PST_OK;
        struct k_call *c = provoke(s, &o, i, &rc);
        if (!c)
            continue;
        if (i == WRONG_MATCH ? c->rc == PST_E_PRECONDITION || c->rc == PST_E_CHANGED
                             : k_want(c, rc, "an operation that must fail"))
            check(t, c);
        k_call_free(c);
    }
    k_object_fini(&o);
}

static void check_explained(struct k_test *t, struct k_call *c)
{
    k_that(t, c->error.code == c->rc, "expected the error of %s to have the code %s, got %s",
           k_slot_name(c->slot), k_rc_name(c->rc), k_rc_name(c->error.code));
    k_that(t, c->error.message[0] != '\0', "expected a message with %s of %s, got none",
           k_rc_name(c->rc), k_slot_name(c->slot));
}

void k_OP_014(struct k_test *t)
{
    for_each_failure(t, check_explained);
}

static void check_nothing(struct k_test *t, struct k_call *c)
{
    (void)t; /* call.c has looked at the error already */
    (void)c;
}

void k_OP_015(struct k_test *t)
{
    for_each_failure(t, check_nothing);
}

static void check_flags(struct k_test *t, struct k_call *c)
{
    bool is_read = c->slot == K_READ || c->slot == K_STAT;
    k_that(t, (c->error.flags & ~(PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED)) == 0,
           "expected flags of status.h, got 0x%x", c->error.flags);
    k_that(t, !(c->error.flags & PST_ERR_RETRYABLE),
           "expected %s not to be RETRYABLE, got the flag", k_rc_name(c->rc));
    k_that(t, !is_read || !(c->error.flags & PST_ERR_MAYBE_APPLIED),
           "expected no MAYBE_APPLIED from %s, got the flag", k_slot_name(c->slot));
}

void k_OP_016(struct k_test *t)
{
    for_each_failure(t, check_flags);
}

void k_OP_017(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    bool has_secret = false;
    if (!s)
        return;
    for (size_t i = 0; i < s->plugin->n_options; i++) {
        const char *at = (const char *)s->plugin->options + i * s->plugin->option_stride;
        const pst_option *o = (const pst_option *)(const void *)at;
        uint32_t source;
        has_secret |= (o->flags & PST_OPT_SECRET) && k_option_given(t, o, &source) &&
                      source != PST_SOURCE_DEFAULT;
    }
    if (!has_secret) {
        k_skip(t, "no secret option was given");
        return;
    }
    k_tour_run(s);
    for_each_failure(t, check_nothing);
}

void k_OP_021(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    if (!s)
        return;
    k_tour_run(s);
    for_each_failure(t, check_nothing);
    k_close(s);
    if (atomic_load(&t->host->n_logs) == 0)
        k_skip(t, "the plugin logged nothing");
}
