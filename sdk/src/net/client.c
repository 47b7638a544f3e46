/* client.c - the table http/1: clients, and which loop a request goes to.
 *
 * A request that is made in a callback stays on the loop of that callback, where it costs no wake-up;
 * it leaves only a loop that has much more to do than another. Any other request goes to the first
 * loop that is not loaded, so that little work keeps one thread warm and much work starts the next.
 *
 * The cap on connections to one origin is divided among the loops a client may use, since each has its
 * own cache of connections; a small cap means few loops. */
#include "net/net.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Transfers on a loop above which the next loop is taken. */
#define LOADED 32u
/* Fewer connections than this are not worth a loop of their own. */
#define SHARE_MIN 16u

static pst_rc client_new(const pst_host *host, const pst_http_config *config, pst_http_client **out,
                         pst_error *err)
{
    pst_http_config copy = {.struct_size = sizeof(copy)};
    struct pst_net_instance *instance = pst_net_instance_of(host);
    if (!instance)
        return pst_net_fail(err, PST_E_INVALID, "http/1: not a host of this process");
    const size_t known = config->struct_size < sizeof(copy) ? config->struct_size : sizeof(copy);
    memcpy(&copy, config, known); /* a plugin of before may know less of it */
    struct pst_http_client *client = calloc(1, sizeof(*client));
    if (!client)
        return pst_net_fail(err, PST_E_NO_MEMORY, "http/1: out of memory");
    pst_rc rc = pst_net_settings_init(&client->settings, &copy,
                                      !(instance->nh.flags & PST_NET_NO_ENVIRONMENT), err);
    if (rc != PST_OK) {
        free(client);
        return rc;
    }
    atomic_init(&client->refs, 1);
    client->instance = instance;
    client->n_loops = client->settings.max_connections / SHARE_MIN;
    if (client->n_loops == 0)
        client->n_loops = 1;
    if (client->n_loops > instance->n_loops)
        client->n_loops = instance->n_loops;
    if (client->n_loops < instance->n_loops)
        client->first_loop = (uint32_t)(atomic_fetch_add(&instance->next_client, 1) %
                                        instance->n_loops);
    pthread_mutex_init(&client->mutex, NULL);
    pthread_mutex_lock(&instance->mutex);
    client->next = instance->locked.clients;
    if (client->next)
        client->next->prev = client;
    instance->locked.clients = client;
    pthread_mutex_unlock(&instance->mutex);
    *out = client;
    return PST_OK;
}

/* Whether the socket is still open: libcurl does not tell of every one that it closes. */
static int is_open(const struct pst_socket *socket)
{
    struct stat st;
    return fstat(socket->fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_ino == socket->inode;
}

static void drop_closed_locked(struct pst_http_client *client)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < client->locked.n_sockets; i++) {
        if (is_open(&client->locked.sockets[i]))
            client->locked.sockets[n++] = client->locked.sockets[i];
    }
    client->locked.n_sockets = n;
}

static void add_figures(struct pst_http_client *client, pst_http_stats *sum)
{
#define ADD(member) sum->member += atomic_load_explicit(&client->member, memory_order_relaxed)
    ADD(requests);
    ADD(opened);
    ADD(reused);
    ADD(name_ns);
    ADD(connect_ns);
    ADD(tls_ns);
    ADD(bytes_sent);
    ADD(bytes_received);
#undef ADD
}

static void leave_instance(struct pst_http_client *client)
{
    struct pst_net_instance *instance = client->instance;
    pthread_mutex_lock(&instance->mutex);
    if (client->prev)
        client->prev->next = client->next;
    else
        instance->locked.clients = client->next;
    if (client->next)
        client->next->prev = client->prev;
    add_figures(client, &instance->locked.gone);
    pthread_mutex_unlock(&instance->mutex);
}

void pst_client_sum_up(struct pst_net_instance *instance, pst_http_stats *out)
{
    pthread_mutex_lock(&instance->mutex);
    *out = instance->locked.gone;
    for (struct pst_http_client *client = instance->locked.clients; client; client = client->next) {
        add_figures(client, out);
        pthread_mutex_lock(&client->mutex);
        drop_closed_locked(client);
        out->n_open += client->locked.n_sockets;
        pthread_mutex_unlock(&client->mutex);
    }
    pthread_mutex_unlock(&instance->mutex);
}

void pst_client_ref(struct pst_http_client *client)
{
    atomic_fetch_add_explicit(&client->refs, 1, memory_order_relaxed);
}

void pst_client_unref(struct pst_http_client *client)
{
    if (atomic_fetch_sub_explicit(&client->refs, 1, memory_order_acq_rel) != 1)
        return;
    leave_instance(client);
    pst_net_settings_fini(&client->settings);
    free(client->locked.sockets);
    pthread_mutex_destroy(&client->mutex);
    free(client);
}

static void client_free(pst_http_client *client)
{
    if (!client)
        return;
    pthread_mutex_lock(&client->mutex);
    for (uint32_t i = 0; i < PST_LOOPS_MAX; i++) {
        if (client->locked.lanes[i])
            pst_loop_retire(client->instance->loops[i], client->locked.lanes[i]);
    }
    pthread_mutex_unlock(&client->mutex);
    pst_client_unref(client);
}

static struct pst_loop *loop_at(const struct pst_http_client *client, uint32_t i)
{
    return client->instance->loops[(client->first_loop + i) % client->instance->n_loops];
}

static unsigned load_of(struct pst_loop *loop)
{
    return atomic_load_explicit(&loop->load, memory_order_relaxed);
}

static int may_use(const struct pst_http_client *client, const struct pst_loop *loop)
{
    const uint32_t n = client->instance->n_loops;
    return loop->instance == client->instance &&
           (loop->index + n - client->first_loop) % n < client->n_loops;
}

static struct pst_loop *choose_loop(const struct pst_http_client *client)
{
    struct pst_loop *here = pst_loop_here();
    struct pst_loop *least = loop_at(client, 0);
    unsigned load, least_load = load_of(least);
    if (client->n_loops == 1)
        return least;
    for (uint32_t i = 0; least_load >= LOADED && i < client->n_loops; i++) {
        load = load_of(loop_at(client, i));
        if (load < least_load) {
            least = loop_at(client, i);
            least_load = load;
        }
    }
    if (here && may_use(client, here) && load_of(here) <= least_load + LOADED)
        return here;
    return least;
}

static pst_rc http_send(pst_http_client *client, const pst_http_request *request, uint64_t *id)
{
    struct pst_transfer *t = NULL;
    struct pst_loop *loop = choose_loop(client);
    pst_rc rc = pst_transfer_new(client, request, &t);
    if (rc != PST_OK)
        return rc;
    t->id = (atomic_fetch_add_explicit(&client->instance->next_id, 1, memory_order_relaxed) + 1)
                << 3 |
            loop->index;
    *id = t->id;
    rc = pst_loop_send(loop, t);
    if (rc != PST_PENDING)
        pst_transfer_free(t);
    return rc;
}

static void signal_id(pst_http_client *client, uint64_t id, int is_cancel)
{
    const uint32_t index = (uint32_t)(id & 7);
    if (index < client->instance->n_loops)
        pst_loop_signal(client->instance->loops[index], id, is_cancel);
}

static void http_cancel(pst_http_client *client, uint64_t id)
{
    signal_id(client, id, 1);
}

static void http_resume(pst_http_client *client, uint64_t id)
{
    signal_id(client, id, 0);
}

static int have_room_locked(struct pst_http_client *client)
{
    if (client->locked.n_sockets < client->locked.socket_room)
        return 1;
    drop_closed_locked(client);
    if (client->locked.n_sockets < client->locked.socket_room / 2)
        return 1;
    const uint32_t room = client->locked.socket_room ? client->locked.socket_room * 2 : 16;
    struct pst_socket *sockets = reallocarray(client->locked.sockets, room,
                                              sizeof(*client->locked.sockets));
    if (!sockets)
        return client->locked.n_sockets < client->locked.socket_room;
    client->locked.sockets = sockets;
    client->locked.socket_room = room;
    return 1;
}

void pst_client_note_socket(struct pst_http_client *client, int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return;
    pthread_mutex_lock(&client->mutex);
    if (have_room_locked(client))
        client->locked.sockets[client->locked.n_sockets++] = (struct pst_socket){
            .fd = fd, .inode = st.st_ino};
    pthread_mutex_unlock(&client->mutex);
}

static void http_stats(pst_http_client *client, pst_http_stats *out)
{
    if (PST_HAS(pst_http_stats, out, n_open)) {
        pthread_mutex_lock(&client->mutex);
        drop_closed_locked(client);
        out->n_open = client->locked.n_sockets;
        pthread_mutex_unlock(&client->mutex);
    }
#define FILL(member)                                                                               \
    do {                                                                                           \
        if (PST_HAS(pst_http_stats, out, member))                                                  \
            out->member = atomic_load_explicit(&client->member, memory_order_relaxed);             \
    } while (0)
    FILL(requests);
    FILL(opened);
    FILL(reused);
    FILL(name_ns);
    FILL(connect_ns);
    FILL(tls_ns);
    FILL(bytes_sent);
    FILL(bytes_received);
#undef FILL
}

const pst_http_1 pst_net_http = {
    .struct_size = sizeof(pst_http_1),
    .client_new = client_new,
    .client_free = client_free,
    .send = http_send,
    .cancel = http_cancel,
    .resume = http_resume,
    .stats = http_stats,
};
