#include "core/stack.h"

#include <stddef.h>
#include <stdint.h>

#include "core/port.h"

#define KICKED_MAX 8
#define ENDS_MAX 8

static _Thread_local struct {
    uint32_t depth;      /* our frames that will pump when they leave */
    uint32_t host_calls; /* plugin frames on top of them, or of a foreign thread */
    uint32_t n_services; /* ... frames of ours on a thread that others wait for */
    uint32_t n_kicked;
    struct pst_port *kicked[KICKED_MAX]; /* each with a reference */
    uint32_t n_ends;
    struct {
        void (*fn)(void *arg);
        void *arg;
    } ends[ENDS_MAX];
} here;

void pst_stack_enter(void)
{
    here.depth++;
}

static void run_ends(void)
{
    while (here.n_ends > 0) {
        here.n_ends--;
        here.ends[here.n_ends].fn(here.ends[here.n_ends].arg);
    }
}

void pst_stack_leave(void)
{
    if (here.depth == 1) {
        run_ends();
        while (here.n_kicked > 0) {
            struct pst_port *port = here.kicked[--here.n_kicked];
            pst_port_pump(port); /* may kick again */
            pst_port_unref(port);
            run_ends();
        }
    }
    here.depth--;
}

int pst_stack_at_end(void (*fn)(void *arg), void *arg, int *is_new)
{
    *is_new = 0;
    if (here.depth == 0)
        return 0;
    for (uint32_t i = 0; i < here.n_ends; i++) {
        if (here.ends[i].fn == fn && here.ends[i].arg == arg)
            return 1;
    }
    if (here.n_ends == ENDS_MAX)
        return 0;
    here.ends[here.n_ends].fn = fn;
    here.ends[here.n_ends++].arg = arg;
    *is_new = 1;
    return 1;
}

void pst_stack_enter_service(void)
{
    here.n_services++;
    pst_stack_enter();
}

void pst_stack_leave_service(void)
{
    pst_stack_leave();
    here.n_services--;
}

void pst_stack_host_call_begin(void)
{
    here.host_calls++;
}

void pst_stack_host_call_end(void)
{
    here.host_calls--;
}

int pst_stack_is_clear(void)
{
    return here.depth == 0 && here.host_calls == 0;
}

int pst_stack_is_in_host_call(void)
{
    return here.host_calls > 0;
}

int pst_stack_is_foreign(void)
{
    return here.n_services > 0 || (here.depth == 0 && here.host_calls > 0);
}

uint32_t pst_stack_suspend(void)
{
    uint32_t depth = here.depth;
    here.depth = 0;
    return depth;
}

void pst_stack_resume(uint32_t depth)
{
    here.depth = depth;
}

static int is_kicked(const struct pst_port *port)
{
    for (uint32_t i = 0; i < here.n_kicked; i++) {
        if (here.kicked[i] == port)
            return 1;
    }
    return 0;
}

void pst_stack_kick(struct pst_port *port)
{
    int has_own_frame = here.depth > 0;
    if (has_own_frame && is_kicked(port))
        return;
    if ((!has_own_frame && here.host_calls > 0) || here.n_kicked == KICKED_MAX) {
        pst_port_pump_later(port, 0);
        return;
    }
    here.kicked[here.n_kicked++] = pst_port_ref(port);
    if (!has_own_frame) {
        pst_stack_enter();
        pst_stack_leave();
    }
}
