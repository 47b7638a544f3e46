/* net.h - the services that live in libpenstock-net, mapped when the first of them is asked for. */
#ifndef PST_CORE_NET_H
#define PST_CORE_NET_H

#include <penstock/plugins.h>
#include <penstock/services.h>

/* Read nothing from the environment: neither proxies nor certificates. Before anything is asked for. */
void pst_services_ignore_environment(pst_services *services);

/* Why the library cannot be used, "" as long as nothing has failed. It does not change once it is set. */
const char *pst_services_failure(pst_services *services);

/* Cancel every request and end the threads, before anything that their callbacks may touch goes. Nothing
 * can be sent any more; clients are still to be freed. Returns 0 if a callback has not come back at
 * deadline_ns (CLOCK_MONOTONIC). Not on a thread of the library. */
int pst_services_shutdown(pst_services *services, uint64_t deadline_ns);

/* What all clients of this core together have done; zeros while nothing is loaded. */
void pst_services_stats(pst_services *services, pst_http_stats *out);

/* In the child of a fork, from its handler: no lock, no memory. */
void pst_services_fork_child(void);

/* Find the library in `path`; what it answers is checked. For tests: everyone else goes by pst_services_find.
 * Errors: BAD_PLUGIN, naming both files where the build ids differ. */
struct pst_net;
pst_rc pst_net_load(const char *path, const struct pst_net **out, pst_error *err);

#endif
