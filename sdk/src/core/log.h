/* log.h - the context's log sink: one line at a time to the application's function. */
#ifndef PST_CORE_LOG_H
#define PST_CORE_LOG_H

#include <pthread.h>

#include <penstock/context.h>

struct pst_log {
    pst_log_fn fn; /* NULL: nothing is logged */
    void *arg;
    uint32_t level;
    pthread_mutex_t mutex; /* one call at a time */
};

void pst_log_init(struct pst_log *log, pst_log_fn fn, void *arg, uint32_t level);
void pst_log_fini(struct pst_log *log);

/* In a fork child: another thread may have held the mutex. */
void pst_log_fork_child(struct pst_log *log);

int pst_log_enabled(const struct pst_log *log, uint32_t level);
void pst_logf(struct pst_log *log, uint32_t level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
