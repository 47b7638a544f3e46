/* kit_fault.h - the requirements of a store behind a network: the fault server that the run starts, and
 * what the groups HTTP and FAULT are made of. */
#ifndef PST_KIT_FAULT_KIT_H
#define PST_KIT_FAULT_KIT_H

#include "kit.h"

/* ---- the server of a run (fault_run.c) ----------------------------------------------------------- */

struct k_faults {
    struct json_t *declaration;
    char address[64]; /* "127.0.0.1:4711" */
    int stop_fd;      /* closing it ends the server */
    int pid;
};
/* Start the server in a process of its own. false: said so on stderr. */
bool k_faults_start(struct k_faults *f, const char *path);
void k_faults_stop(struct k_faults *f);
bool k_is_fault_group(const struct k_requirement *r);
/* The value that the declaration has for an option of the plugin, or NULL. */
const char *k_faults_option(const struct k_test *t, const char *name);
bool k_faults_has_tls(const struct k_test *t); /* ... options to ask for TLS */
/* `text` with every {fault} replaced by `address`, in a buffer that lives as long as the process. */
const char *k_faults_fill_in(const char *text, const char *address);

/* ---- in a requirement (fault_client.c) ----------------------------------------------------------- */

/* An open store on the server, which has forgotten everything before. NULL: skipped or failed. */
struct k_store *k_fault_store(struct k_test *t, uint64_t caps);
bool k_has_fault(struct k_test *t, const char *name); /* skips if the declaration has none */
/* Rules as JSON; ' stands for ". NULL: none. */
void k_fault_set(struct k_test *t, const char *rules, ...) __attribute__((format(printf, 2, 3)));
/* An object that is there without the plugin's doing, with the bytes of k_fill(seed). */
pst_str k_fault_object(struct k_test *t, const char *name, uint64_t size, uint64_t seed);
/* What the server holds, past the plugin and past all faults. */
bool k_fault_holds(struct k_test *t, pst_str key, uint64_t size, uint64_t seed);
bool k_fault_absent(struct k_test *t, pst_str key);
size_t k_fault_uploads(struct k_test *t);
/* How many requests there were for an action ("get"), or all of them (NULL), since the last
 * k_fault_set. */
size_t k_fault_count(struct k_test *t, const char *action);
struct json_t *k_fault_log(struct k_test *t);

/* ---- what must hold of a failure (fault_check.c) -------------------------------------------------- */

#define K_RETRY 1u       /* RETRYABLE is set */
#define K_NO_RETRY 2u    /* ... is not */
#define K_MAYBE 4u       /* MAYBE_APPLIED is set */
#define K_NO_MAYBE 8u    /* ... is not */
#define K_FROM_REPLY 16u /* http_status and request_id tell of the reply */
#define K_PROVIDER 32u   /* ... and provider_code */
#define K_ENDPOINT 64u   /* the server's address is in the error */
/* Did `c` fail with one of the codes, which end with 0, and with these marks? */
bool k_want_failure(struct k_call *c, const char *what, uint32_t marks, const pst_rc *codes);
#define K_CODES(...) ((const pst_rc[]){__VA_ARGS__, 0})
/* One read of `size` bytes at `offset` under the rules; the call is the caller's. */
struct k_call *k_read_under(struct k_store *s, const char *rules, pst_str key, uint64_t offset,
                            uint64_t size);
/* Are the bytes that came those of k_fill(seed) at `offset`, all `size` of them? */
bool k_read_is_right(struct k_call *c, uint64_t seed, uint64_t offset, uint64_t size);
/* Without faults the store works again: the object is read and compared. */
void k_wants_recovery(struct k_store *s, pst_str key, uint64_t size, uint64_t seed);

#endif
