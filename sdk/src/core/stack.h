/* stack.h - knows what lies below on this thread's stack, so that no plugin is ever re-entered.
 *
 * A completion may arrive on a thread of the plugin's own, inside a submit, or in a job on our pool,
 * and its consequence is often the next submit. That one must not run on top of plugin code. So it is
 * deferred: to the moment when our own frame below (the pump or the worker) has its plugin call behind
 * it, or, on a foreign thread, to the reactor. */
#ifndef PST_CORE_STACK_H
#define PST_CORE_STACK_H

#include <stdint.h>

struct pst_port;

/* Bracket a call into a plugin or a job. leave() pumps the ports that were kicked meanwhile. */
void pst_stack_enter(void);
void pst_stack_leave(void);

/* The same on a thread of a service, around callbacks of plugins. */
void pst_stack_enter_service(void);
void pst_stack_leave_service(void);

/* Bracket a call that a plugin made to the host. */
void pst_stack_host_call_begin(void);
void pst_stack_host_call_end(void);

/* Is there neither plugin code nor a frame of ours that waits for it below? */
int pst_stack_is_clear(void);

/* Is a plugin's call to the host below? Then no plugin may be called. */
int pst_stack_is_in_host_call(void);

/* Is this a thread of a plugin or a service? What takes long is done elsewhere then. */
int pst_stack_is_foreign(void);

/* Bracket a job that may run for ever: what is deferred inside goes to the reactor, not to its end. */
uint32_t pst_stack_suspend(void);
void pst_stack_resume(uint32_t depth);

/* Call fn(arg) when our outermost frame on this thread leaves, once for all that ask for it until then.
 * Returns 0 if there is no such frame, or too much waits: do it now. Else *is_new tells whether nobody had
 * asked before. */
int pst_stack_at_end(void (*fn)(void *arg), void *arg, int *is_new);

/* Submit what waits at `port`, now or as soon as it is allowed on this thread. */
void pst_stack_kick(struct pst_port *port);

#endif
