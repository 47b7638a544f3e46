/* net.c - the one exported function, and the instances that it leads to.
 *
 * A plugin passes its pst_host to http/1; the list here says which instance that is. A fork child
 * starts with an empty list: what the parent had is not freed, since its locks, threads and
 * connections are not the child's. */
#include "net/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/crypto.h"
#include "util/text.h"

static pthread_mutex_t instances_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct pst_net_instance *instances;

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_rc;

static void init_curl(void)
{
    curl_rc = curl_global_init_mem(CURL_GLOBAL_DEFAULT, pst_blocks_malloc, pst_blocks_free,
                                   pst_blocks_realloc, pst_blocks_strdup, pst_blocks_calloc);
}

uint64_t pst_net_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

pst_rc pst_net_fail(pst_error *err, pst_rc rc, const char *message)
{
    if (err && PST_HAS(pst_error, err, message)) {
        err->code = rc;
        pst_text_escape(message, strlen(message), err->message, sizeof(err->message));
    }
    return rc;
}

struct pst_net_instance *pst_net_instance_of(const pst_host *host)
{
    pthread_mutex_lock(&instances_mutex);
    struct pst_net_instance *i = instances;
    while (i && i->nh.host != host)
        i = i->next;
    pthread_mutex_unlock(&instances_mutex);
    return i;
}

static void free_loops(struct pst_net_instance *instance)
{
    for (uint32_t i = 0; i < PST_LOOPS_MAX; i++)
        pst_loop_free(instance->loops[i]);
    pthread_mutex_destroy(&instance->mutex);
    free(instance);
}

static pst_rc instance_new(const struct pst_net_host *nh, struct pst_net_instance **out,
                           pst_error *err)
{
    pst_rc rc = pst_crypto_setup(err);
    if (rc != PST_OK)
        return rc;
    pthread_once(&curl_once, init_curl);
    if (curl_rc != CURLE_OK)
        return pst_net_fail(err, PST_E_INTERNAL, curl_easy_strerror(curl_rc));
    struct pst_net_instance *instance = calloc(1, sizeof(*instance));
    if (!instance)
        return pst_net_fail(err, PST_E_NO_MEMORY, "out of memory");
    instance->nh = *nh;
    pthread_mutex_init(&instance->mutex, NULL);
    instance->n_loops = nh->n_cores < PST_LOOPS_MAX ? nh->n_cores : PST_LOOPS_MAX;
    if (instance->n_loops == 0)
        instance->n_loops = 1;
    for (uint32_t i = 0; rc == PST_OK && i < instance->n_loops; i++)
        rc = pst_loop_new(instance, i, &instance->loops[i]);
    if (rc != PST_OK) {
        free_loops(instance);
        return pst_net_fail(err, rc, "out of memory");
    }
    pthread_mutex_lock(&instances_mutex);
    instance->next = instances;
    instances = instance;
    pthread_mutex_unlock(&instances_mutex);
    *out = instance;
    return PST_OK;
}

static const void *service(struct pst_net_instance *instance, const char *name)
{
    (void)instance;
    if (strcmp(name, "http/1") == 0)
        return &pst_net_http;
    if (strcmp(name, "crypto/1") == 0)
        return &pst_crypto_service;
    return NULL;
}

static int instance_shutdown(struct pst_net_instance *instance, uint64_t deadline_ns)
{
    int have_ended = 1;
    for (uint32_t i = 0; i < instance->n_loops; i++)
        pst_loop_stop(instance->loops[i]);
    for (uint32_t i = 0; i < instance->n_loops; i++)
        have_ended &= pst_loop_wait(instance->loops[i], deadline_ns);
    return have_ended;
}

static void instance_free(struct pst_net_instance *instance)
{
    pthread_mutex_lock(&instances_mutex);
    struct pst_net_instance **at = &instances;
    while (*at != instance)
        at = &(*at)->next;
    *at = instance->next;
    pthread_mutex_unlock(&instances_mutex);
    free_loops(instance);
}

static int is_own_thread(void)
{
    return pst_loop_here() != NULL;
}

static void fork_child(void)
{
    pthread_mutex_init(&instances_mutex, NULL); /* another thread may have held it */
    instances = NULL;
}

static const struct pst_net net = {
    .build_id = PENSTOCK_BUILD_ID,
    .instance_new = instance_new,
    .service = service,
    .instance_shutdown = instance_shutdown,
    .instance_free = instance_free,
    .is_own_thread = is_own_thread,
    .fork_child = fork_child,
    .stats = pst_client_sum_up,
};

pst_rc pst_net_open_1(const char *build_id, const struct pst_net **out, pst_error *err)
{
    if (strcmp(build_id, net.build_id) != 0) {
        char message[256];
        snprintf(message, sizeof(message), "the net library was built as %s, libpenstock as %s",
                 net.build_id, build_id);
        return pst_net_fail(err, PST_E_BAD_PLUGIN, message);
    }
    *out = &net;
    return PST_OK;
}
