/* report.c - what a requirement's process tells the runner, through memory that both map: it is there
 * whatever becomes of the process. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kit.h"

/* A thread that died holding the lock must not hang the others: give up after a while. */
static bool lock_shared(struct k_shared *shared)
{
    for (unsigned i = 0; i < 20000; i++) {
        if (!atomic_flag_test_and_set(&shared->lock))
            return true;
        if (i > 1000)
            k_pause_ms(0);
    }
    return false;
}

static void add_line(struct k_shared *shared, const char *line, size_t len)
{
    if (!lock_shared(shared))
        return;
    if (shared->used + len + 1 < sizeof(shared->text)) {
        memcpy(shared->text + shared->used, line, len);
        shared->used += len;
        shared->text[shared->used++] = '\n';
        shared->text[shared->used] = '\0';
    }
    atomic_flag_clear(&shared->lock);
}

static void add_format(struct k_shared *shared, const char *format, va_list ap)
    __attribute__((format(printf, 2, 0)));

static void add_format(struct k_shared *shared, const char *format, va_list ap)
{
    char line[1500];
    int n = vsnprintf(line, sizeof(line), format, ap);
    if (n < 0)
        return;
    add_line(shared, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

void k_step(struct k_test *t, const char *format, ...)
{
    char line[sizeof(t->shared->step)];
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    memcpy(t->shared->step, line, sizeof(line));
}

void k_fail(struct k_test *t, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    /* The first few lines tell the story; a thousand alike would hide it. */
    if (atomic_fetch_add(&t->shared->n_failures, 1) < 12)
        add_format(t->shared, format, ap);
    va_end(ap);
}

void k_skip(struct k_test *t, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (!atomic_exchange(&t->shared->is_skipped, true))
        add_format(t->shared, format, ap);
    va_end(ap);
}

bool k_that(struct k_test *t, bool is_true, const char *format, ...)
{
    if (is_true)
        return true;
    va_list ap;
    va_start(ap, format);
    if (atomic_fetch_add(&t->shared->n_failures, 1) < 12)
        add_format(t->shared, format, ap);
    va_end(ap);
    return false;
}

bool k_failed(const struct k_test *t)
{
    return atomic_load(&t->shared->n_failures) > 0;
}

void k_fail_raw(struct k_shared *shared, const char *text)
{
    atomic_fetch_add(&shared->n_failures, 1);
    add_line(shared, text, strlen(text));
}

const char *k_rc_name(pst_rc rc)
{
    static _Thread_local char numbers[4][32];
    static _Thread_local unsigned turn;
    switch (rc) {
    case PST_OK:
        return "OK";
    case PST_PENDING:
        return "PENDING";
    case PST_BUSY:
        return "BUSY";
    case PST_LATER:
        return "LATER";
    case K_NOT_ANSWERED:
        return "no completion";
#define K_NAME(name, number, text, exit_code)                                                      \
    case (number):                                                                                 \
        return #name;
        PST_STATUS_TABLE(K_NAME)
#undef K_NAME
    default:
        break;
    }
    char *buf = numbers[turn++ % 4];
    (void)snprintf(buf, sizeof(numbers[0]), "the unknown code %d", (int)rc);
    return buf;
}

const char *k_show(pst_str bytes)
{
    static _Thread_local char texts[8][200];
    static _Thread_local unsigned turn;
    char *out = texts[turn++ % 8];
    size_t n = 0;
    out[n++] = '"';
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char c = (unsigned char)bytes.ptr[i];
        if (n + 12 > sizeof(texts[0])) {
            n += (size_t)snprintf(out + n, sizeof(texts[0]) - n, "...");
            break;
        }
        if (c < 0x20 || c == 0x7f || c == '\\' || c == '"')
            n += (size_t)snprintf(out + n, sizeof(texts[0]) - n, "\\x%02x", c);
        else
            out[n++] = (char)c;
    }
    out[n++] = '"';
    out[n] = '\0';
    return out;
}
