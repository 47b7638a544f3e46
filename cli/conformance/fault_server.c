/* fault_server.c - an HTTP/1.1 server that speaks like a provider and fails on demand.
 *
 * How a provider speaks is declared in a JSON file (docs/fault-server.md): routes, replies, errors. The
 * server finds the route of a request (fault_route.c), carries out what it says on objects in memory
 * (fault_action.c, fault_list.c, fault_model.c) and answers by the declared reply, filled in by templates
 * (fault_template.c). Faults are set by requests of its own (fault_control.c); one that is due
 * (fault_rule.c) keeps the request from being carried out, changes the reply, or breaks the sending of it
 * (fault_wire.c). So "applied, reply lost" needs no word of its own: it is a reply that is cut.
 *
 * A thread per connection, one mutex around everything that is remembered; it is not held while bytes
 * move. Bound to 127.0.0.1 on a free port; no TLS: to a client that wants it, this is a server that
 * answers nonsense.
 *
 * What it does not do: verify signatures, keep old versions, remember anything once it is gone. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fault.h"
#include "kit.h"

void kf_add_declared(struct kf_server *s)
{
    json_t *containers = json_object_get(s->declaration, "containers"), *name;
    size_t i;
    json_array_foreach(containers, i, name)
        kf_add_container(&s->model, kf_str(json_string_value(name)));
}

struct kf_server *kf_server_new(json_t *declaration)
{
    struct kf_server *s = (struct kf_server *)(void *)k_alloc(sizeof(*s));
    json_t *routes = json_object_get(declaration, "routes"), *route;
    size_t i;
    s->declaration = declaration;
    s->log = json_array();
    (void)pthread_mutex_init(&s->mutex, NULL);
    s->n_routes = json_array_size(routes);
    s->routes = (struct kf_route *)(void *)k_alloc(s->n_routes * sizeof(*s->routes));
    json_array_foreach(routes, i, route)
    {
        s->routes[i].spec = route;
        s->routes[i].name = json_string_value(json_object_get(route, "name"));
        s->routes[i].action = json_string_value(json_object_get(route, "do"));
    }
    s->model.has_md5_etags = json_is_true(json_object_get(declaration, "md5_etags"));
    kf_add_declared(s);
    return s;
}

void kf_server_free(struct kf_server *s)
{
    json_t *none = json_array();
    char why[8];
    (void)kf_set_rules(s, none, why, sizeof(why));
    json_decref(none);
    kf_model_fini(&s->model);
    json_decref(s->log);
    json_decref(s->declaration);
    (void)pthread_mutex_destroy(&s->mutex);
    k_free(s->routes);
    k_free(s);
}

int kf_listen(struct kf_server *s)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (bind(fd, (const struct sockaddr *)(const void *)&address, sizeof(address)) != 0 ||
        listen(fd, 256) != 0 || getsockname(fd, (struct sockaddr *)(void *)&address, &len) != 0) {
        (void)close(fd);
        return -1;
    }
    (void)snprintf(s->address, sizeof(s->address), "127.0.0.1:%u",
                   (unsigned)ntohs(address.sin_port));
    return fd;
}

/* ---- one request ------------------------------------------------------------------------------- */

static bool is_control(const struct kf_request *r)
{
    return r->path.len >= 3 && memcmp(r->path.ptr, "/-/", 3) == 0;
}

/* Everything that looks at or changes what is remembered; the fault is the caller's to release. */
static json_t *decide(struct kf_server *s, const struct kf_request *r, struct kf_reply *reply)
{
    struct kf_fields vars = {0};
    struct kf_scope scope = {.request = r, .vars = &vars};
    json_t *fault = NULL;
    if (is_control(r)) {
        kf_control(s, r, reply);
        return NULL;
    }
    s->n_requests++;
    struct kf_route *route = kf_match(s, r, &vars);
    kf_set(&vars, "address", kf_str(s->address));
    kf_set(&vars, "port", kf_str(strchr(s->address, ':') + 1));
    kf_setf(&vars, "id", "request-%06llu", (unsigned long long)s->n_requests);
    if (route)
        fault = kf_pick(s, route, &vars);
    const char *instead = json_string_value(json_object_get(fault, "reply"));
    const json_t *apply = json_object_get(fault, "apply");
    bool applies = apply ? json_is_true(apply) : instead == NULL;
    if (!route) {
        const char *unknown = json_string_value(
            json_object_get(json_object_get(s->declaration, "outcomes"), "no_route"));
        kf_build(s, unknown ? unknown : "no_route", &scope, reply);
    } else if (applies) {
        kf_act(s, route, &scope, fault, reply);
    }
    if (instead || !applies) {
        kf_reply_fini(reply);
        kf_build(s, instead ? instead : "", &scope, reply);
    }
    if (fault)
        kf_spoil(s, fault, &scope, reply);
    kf_log(s, r, route, &vars, reply->status, fault);
    kf_fields_fini(&vars);
    return json_incref(fault);
}

static bool serve_one(struct kf_server *s, struct kf_wire *w, unsigned connection)
{
    struct kf_request request = {.connection = connection};
    struct kf_reply reply = {.announced = UINT64_MAX};
    json_t *fault = NULL;
    uint64_t at = 0;
    bool goes_on = false, breaks;
    if (!kf_read_head(w, &request))
        goto out;
    (void)pthread_mutex_lock(&s->mutex);
    breaks = !is_control(&request) && kf_breaks_body(s, &request, &at);
    (void)pthread_mutex_unlock(&s->mutex);
    if (breaks) {
        (void)kf_read_some(w, &request, at);
        kf_reset(w);
        goto out;
    }
    if (!kf_read_body(w, &request))
        goto out;
    (void)pthread_mutex_lock(&s->mutex);
    fault = decide(s, &request, &reply);
    (void)pthread_mutex_unlock(&s->mutex);
    goes_on = kf_send_reply(w, &request, &reply, fault);
    (void)pthread_mutex_lock(&s->mutex); /* jansson's counts are for one thread at a time */
    json_decref(fault);
    (void)pthread_mutex_unlock(&s->mutex);
out:
    kf_reply_fini(&reply);
    kf_request_fini(&request);
    return goes_on;
}

/* ---- connections ------------------------------------------------------------------------------- */

struct crowd {
    struct kf_server *server;
    int stop_fd;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    unsigned n_live, n_made;
};
struct guest {
    struct crowd *crowd;
    int fd;
    unsigned number;
};

static void *serve_connection(void *arg)
{
    struct guest *guest = arg;
    struct crowd *crowd = guest->crowd;
    struct kf_wire *w = (struct kf_wire *)(void *)k_alloc(sizeof(*w));
    int yes = 1;
    w->fd = guest->fd;
    w->stop_fd = crowd->stop_fd;
    (void)setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    while (serve_one(crowd->server, w, guest->number))
        continue;
    (void)close(guest->fd);
    k_free(w);
    k_free(guest);
    (void)pthread_mutex_lock(&crowd->mutex);
    crowd->n_live--;
    (void)pthread_cond_signal(&crowd->cond);
    (void)pthread_mutex_unlock(&crowd->mutex);
    return NULL;
}

static void welcome(struct crowd *crowd, int fd)
{
    struct guest *guest = (struct guest *)(void *)k_alloc(sizeof(*guest));
    pthread_t thread;
    guest->crowd = crowd;
    guest->fd = fd;
    guest->number = ++crowd->n_made;
    (void)pthread_mutex_lock(&crowd->mutex);
    crowd->n_live++;
    (void)pthread_mutex_unlock(&crowd->mutex);
    if (pthread_create(&thread, NULL, serve_connection, guest) == 0) {
        (void)pthread_detach(thread);
        return;
    }
    (void)pthread_mutex_lock(&crowd->mutex);
    crowd->n_live--;
    (void)pthread_mutex_unlock(&crowd->mutex);
    (void)close(fd);
    k_free(guest);
}

void kf_serve(struct kf_server *s, int listen_fd, int stop_fd)
{
    struct crowd crowd = {.server = s, .stop_fd = stop_fd};
    (void)pthread_mutex_init(&crowd.mutex, NULL);
    (void)pthread_cond_init(&crowd.cond, NULL);
    for (;;) {
        struct pollfd fds[2] = {{listen_fd, POLLIN, 0}, {stop_fd, POLLIN, 0}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[1].revents)
            break;
        int fd = fds[0].revents ? accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (fd >= 0)
            welcome(&crowd, fd);
    }
    (void)pthread_mutex_lock(&crowd.mutex);
    while (crowd.n_live > 0)
        (void)pthread_cond_wait(&crowd.cond, &crowd.mutex);
    (void)pthread_mutex_unlock(&crowd.mutex);
    (void)pthread_cond_destroy(&crowd.cond);
    (void)pthread_mutex_destroy(&crowd.mutex);
}

int kf_command(int argc, char **argv)
{
    char why[500] = "";
    sigset_t ending;
    if (argc != 2 || argv[1][0] == '-')
        return k_usage("serve-faults takes one declaration");
    json_t *declaration = kf_load(argv[1], why, sizeof(why));
    if (!declaration)
        return k_usage("%s", why);
    struct kf_server *server = kf_server_new(declaration);
    (void)sigemptyset(&ending);
    (void)sigaddset(&ending, SIGTERM);
    (void)sigaddset(&ending, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &ending, NULL);
    int stop_fd = signalfd(-1, &ending, SFD_CLOEXEC);
    int listen_fd = kf_listen(server);
    if (listen_fd < 0 || stop_fd < 0) {
        (void)fprintf(stderr, "penstock: conformance: cannot listen on 127.0.0.1: %s\n",
                      strerrordesc_np(errno));
        kf_server_free(server);
        return 8;
    }
    printf("%s\n", server->address);
    (void)fflush(stdout);
    kf_serve(server, listen_fd, stop_fd);
    (void)close(listen_fd);
    (void)close(stop_fd);
    kf_server_free(server);
    return 0;
}
