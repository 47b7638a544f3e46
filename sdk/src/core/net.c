/* net.c - maps libpenstock-net for the first plugin that asks for one of its services.
 *
 * libcurl and OpenSSL cost ten milliseconds and thirty shared objects, so a process that only reads files
 * never maps them. The library is looked for at one place, the folder of the file that this code is in,
 * by its absolute path: never along LD_LIBRARY_PATH. It must be of the same build; one of another build
 * is refused with both files named. In a host that links both archives the entry is in the program
 * already, and nothing is mapped.
 *
 * Each core has one instance, with loops and connections of its own. It is made under the lock of its
 * services and stays for good, so plugins keep the tables. Callbacks run on the threads of the loops,
 * between enter and leave: what they set free is submitted there, on the same thread, when the plugin's
 * callback is behind it (core/stack.h).
 *
 * A failure is told once in the log and kept: whoever asks later gets NULL without another attempt. Lack
 * of memory is not kept. Nothing is ever unmapped. */
#include "core/net.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"
#include "core/discover.h"
#include "core/error.h"
#include "core/stack.h"
#include "util/load.h"
#include "util/net_abi.h"

#define LIBRARY "libpenstock-net.so"
#define END_WAIT_NS 1000000000u

#pragma weak pst_net_open_1

struct pst_services {
    const pst_host *host;
    uint32_t flags;      /* PST_NET_* for the instance */
    uint32_t generation; /* of fork: a parent's instance is nobody's here */
    pthread_mutex_t mutex;
    struct {
        struct pst_net_instance *instance; /* NULL: not asked for yet, or it cannot be had */
        int is_quiet;                      /* shut down */
        pst_error failure;
    } locked;
    _Atomic(const struct pst_net *) net; /* set after `instance`, for readers without the lock */
    atomic_int has_failed;               /* set after `failure` */
};

/* The table of the library, once it is mapped; the same for all cores of the process. */
static _Atomic(const struct pst_net *) mapped;

static int is_served(const char *name)
{
    return strcmp(name, "http/1") == 0 || strcmp(name, "crypto/1") == 0;
}

/* ---- the library ------------------------------------------------------------------------------- */

static pst_rc find_entry(const char *path, pst_net_open_1_fn *out, pst_error *err)
{
    static const struct pst_home homes[] = {
        {"SSL_new", "libssl.so"},
        {"EVP_DigestInit_ex", "libcrypto.so"},
        {"curl_easy_init", "libcurl"},
    };
    char why[400];
    void *library = pst_load_library(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE, homes,
                                     sizeof(homes) / sizeof(homes[0]), why, sizeof(why));
    if (!library)
        return pst_fail(err, PST_E_BAD_PLUGIN, "the network library cannot be loaded: %s", why);
    void *symbol = dlsym(library, "pst_net_open_1");
    if (!symbol)
        return pst_fail(err, PST_E_BAD_PLUGIN, "%s does not export pst_net_open_1", path);
    memcpy(out, &symbol, sizeof(*out)); /* ISO C has no cast from object to function pointer */
    return PST_OK;
}

pst_rc pst_net_load(const char *path, const struct pst_net **out, pst_error *err)
{
    pst_error why = PST_ERROR_INIT;
    pst_net_open_1_fn entry = NULL;
    char *own = NULL;
    int is_program = 0;
    pst_rc rc = find_entry(path, &entry, err);
    if (rc != PST_OK)
        return rc;
    rc = entry(PENSTOCK_BUILD_ID, out, &why);
    if (rc == PST_OK && *out && strcmp((*out)->build_id, PENSTOCK_BUILD_ID) == 0)
        return PST_OK;
    if (pst_discover_own_file(LIBRARY, &is_program, &own) != PST_OK)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    pst_fail(err, PST_E_BAD_PLUGIN, "%s does not belong to %s%s%s", path,
             own ? own : "this program", why.message[0] ? ": " : "", why.message);
    free(own);
    return PST_E_BAD_PLUGIN;
}

/* The library that belongs to this file. */
static pst_rc load_own(const struct pst_net **out, pst_error *err)
{
    char *path = NULL;
    if (pst_net_open_1)
        return pst_net_open_1(PENSTOCK_BUILD_ID, out, err);
    pst_rc rc = pst_discover_beside(LIBRARY, LIBRARY, &path);
    if (rc != PST_OK)
        return pst_fail(err, rc, "out of memory");
    if (!path)
        return pst_fail(err, PST_E_BAD_PLUGIN, "%s: it is not known where to look for it", LIBRARY);
    rc = pst_net_load(path, out, err);
    free(path);
    return rc;
}

/* ---- one for each core ------------------------------------------------------------------------- */

static pst_rc start_locked(pst_services *services, pst_error *err)
{
    const struct pst_net_host nh = {
        .host = services->host,
        .n_cores = pst_usable_cores(),
        .flags = services->flags,
        .enter = pst_stack_enter_service,
        .leave = pst_stack_leave_service,
    };
    const struct pst_net *net = atomic_load(&mapped);
    if (!net) {
        pst_rc rc = load_own(&net, err);
        if (rc != PST_OK)
            return rc;
        atomic_store(&mapped, net);
    }
    pst_rc rc = net->instance_new(&nh, &services->locked.instance, err);
    if (rc == PST_OK)
        atomic_store(&services->net, net);
    return rc;
}

static void start(pst_services *services)
{
    pst_error err = PST_ERROR_INIT;
    int is_news = 0;
    pthread_mutex_lock(&services->mutex);
    if (!services->locked.instance && !atomic_load(&services->has_failed) &&
        !services->locked.is_quiet) {
        pst_rc rc = start_locked(services, &err);
        is_news = rc != PST_OK;
        if (is_news && rc != PST_E_NO_MEMORY) {
            services->locked.failure = err;
            atomic_store(&services->has_failed, 1);
        }
    }
    pthread_mutex_unlock(&services->mutex);
    if (is_news)
        services->host->log(services->host, PST_LOG_ERROR, "net", err.message);
}

pst_rc pst_services_new(const pst_host *host, pst_services **out, pst_error *err)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    pst_fork_watch();
    (*out)->host = host;
    (*out)->generation = pst_fork_generation();
    pthread_mutex_init(&(*out)->mutex, NULL);
    return PST_OK;
}

void pst_services_ignore_environment(pst_services *services)
{
    services->flags |= PST_NET_NO_ENVIRONMENT;
}

const void *pst_services_find(pst_services *services, const char *name)
{
    if (!name || !is_served(name))
        return NULL;
    const struct pst_net *net = atomic_load(&services->net);
    if (!net) {
        start(services);
        net = atomic_load(&services->net);
    }
    return net ? net->service(services->locked.instance, name) : NULL;
}

const char *pst_services_failure(pst_services *services)
{
    return atomic_load(&services->has_failed) ? services->locked.failure.message : "";
}

int pst_services_shutdown(pst_services *services, uint64_t deadline_ns)
{
    const struct pst_net *net = atomic_load(&services->net);
    pthread_mutex_lock(&services->mutex);
    if (!net || net->instance_shutdown(services->locked.instance, deadline_ns))
        services->locked.is_quiet = 1;
    int is_quiet = services->locked.is_quiet;
    pthread_mutex_unlock(&services->mutex);
    return is_quiet;
}

void pst_services_free(pst_services *services)
{
    if (!services || services->generation != pst_fork_generation())
        return; /* the parent's: its threads are not here, its locks may be held for ever */
    const struct pst_net *net = atomic_load(&services->net);
    if (!pst_services_shutdown(services, pst_now_ns() + END_WAIT_NS))
        return; /* a callback that does not come back keeps what it needs */
    if (net)
        net->instance_free(services->locked.instance);
    pthread_mutex_destroy(&services->mutex);
    free(services);
}

void pst_services_stats(pst_services *services, pst_http_stats *out)
{
    const struct pst_net *net = atomic_load(&services->net);
    memset(out, 0, sizeof(*out));
    out->struct_size = sizeof(*out);
    if (net)
        net->stats(services->locked.instance, out);
}

void pst_services_fork_child(void)
{
    const struct pst_net *net = atomic_load(&mapped);
    if (net)
        net->fork_child();
}
