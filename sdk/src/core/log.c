#include "core/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "util/text.h"

enum { LINE_BYTES = 1024 };

void pst_log_init(struct pst_log *log, pst_log_fn fn, void *arg, uint32_t level)
{
    log->fn = fn;
    log->arg = arg;
    log->level = level;
    pthread_mutex_init(&log->mutex, NULL);
}

void pst_log_fini(struct pst_log *log)
{
    pthread_mutex_destroy(&log->mutex);
}

void pst_log_fork_child(struct pst_log *log)
{
    pthread_mutex_init(&log->mutex, NULL);
}

int pst_log_enabled(const struct pst_log *log, uint32_t level)
{
    return log && log->fn && level <= log->level;
}

void pst_logf(struct pst_log *log, uint32_t level, const char *format, ...)
{
    char draft[2 * LINE_BYTES];
    char line[LINE_BYTES];
    va_list args;

    if (!pst_log_enabled(log, level))
        return;
    va_start(args, format);
    int n = vsnprintf(draft, sizeof(draft), format, args);
    va_end(args);
    if (n < 0)
        return;
    pst_text_escape(draft, (size_t)n < sizeof(draft) ? (size_t)n : sizeof(draft) - 1, line,
                    sizeof(line));
    pthread_mutex_lock(&log->mutex);
    log->fn(log->arg, level, line);
    pthread_mutex_unlock(&log->mutex);
}
