#include "io/room.h"

/* A call in line. */
struct line {
    struct pst_budget_waiter waiter;
    struct pst_gate gate;
    int is_granted;
};

static void on_granted(struct pst_budget_waiter *waiter)
{
    struct line *line = (struct line *)(void *)waiter;
    pthread_mutex_lock(&line->gate.mutex);
    line->is_granted = 1;
    pthread_cond_signal(&line->gate.changed);
    pthread_mutex_unlock(&line->gate.mutex);
}

pst_rc pst_room_reserve(struct pst_budget *budget, uint64_t bytes, const struct pst_limit *limit)
{
    static const struct pst_limit never = {0, NULL};
    struct line line = {.waiter.granted = on_granted};
    pst_rc rc = PST_OK;
    pst_gate_init(&line.gate);
    if (!pst_budget_reserve(budget, bytes, &line.waiter)) {
        pthread_mutex_lock(&line.gate.mutex);
        while (!line.is_granted && rc == PST_OK)
            rc = pst_gate_sleep(&line.gate, limit);
        if (!line.is_granted) {
            pthread_mutex_unlock(&line.gate.mutex);
            int was_in_line = pst_budget_leave(budget, &line.waiter);
            pthread_mutex_lock(&line.gate.mutex);
            while (!was_in_line && !line.is_granted) /* it is being granted right now */
                pst_gate_sleep(&line.gate, &never);
            if (!was_in_line)
                pst_budget_release(budget, bytes);
        } else {
            rc = PST_OK;
        }
        pthread_mutex_unlock(&line.gate.mutex);
    }
    pst_gate_fini(&line.gate);
    return rc;
}
