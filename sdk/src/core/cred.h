/* cred.h - credentials that the application supplies: the service cred/1. */
#ifndef PST_CORE_CRED_H
#define PST_CORE_CRED_H

#include <penstock/context.h>
#include <penstock/services.h>

struct pst_cred;       /* of a core: the application's function and the thread that calls it */
struct pst_cred_store; /* of an open store: what was answered for it last, and who waits */
struct pst_log;
struct pst_reactor;
struct pst_task;

/* NULL for lack of memory. No thread yet. */
struct pst_cred *pst_cred_new(const pst_context_options *config, struct pst_reactor *reactor,
                              struct pst_log *log);

/* With all stores freed. Waits until deadline_ns for the application's function to return; a call that
 * does not keeps what it needs. */
void pst_cred_free(struct pst_cred *cred, uint64_t deadline_ns);

uint32_t pst_cred_threads(struct pst_cred *cred);

/* `uri` is copied. NULL for lack of memory. */
struct pst_cred_store *pst_cred_store_new(struct pst_cred *cred, const char *uri);
void pst_cred_store_free(struct pst_cred_store *store);

/* The task was cancelled: if it waits for credentials its plugin hears of it. */
void pst_cred_cancel(struct pst_task *task);

extern const pst_cred_1 pst_cred_service;

#endif
