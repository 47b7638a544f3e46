/* fault_client.c - how a requirement speaks to the fault server, and opens stores on it. */
#include <arpa/inet.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fault.h"
#include "kit_fault.h"

/* ---- a client of a few lines ------------------------------------------------------------------- */

static int connect_to(const char *address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval limit = {20, 0};
    const char *colon = strchr(address, ':');
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    in.sin_port = htons((uint16_t)strtoul(colon ? colon + 1 : "0", NULL, 10));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (fd >= 0 && connect(fd, (const struct sockaddr *)(const void *)&in, sizeof(in)) == 0)
        return fd;
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

/* The status, 0 if there was none; the body is in `out`, from *at on. */
static unsigned control(struct k_test *t, const char *method, const char *path, const void *body,
                        size_t n, struct kf_buf *out, size_t *at)
{
    char piece[16384];
    ssize_t got;
    int fd = connect_to(t->config->faults->address);
    bool is_sent = false;
    kf_addf(out, "%s /-/", method);
    kf_add(out, path, strlen(path));
    kf_addf(out, " HTTP/1.1\r\nHost: kit\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", n);
    kf_add(out, body, n);
    for (size_t done = 0; fd >= 0 && done < out->len; is_sent = done == out->len) {
        got = send(fd, out->data + done, out->len - done, MSG_NOSIGNAL);
        if (got <= 0)
            break;
        done += (size_t)got;
    }
    out->len = 0;
    while (is_sent && (got = recv(fd, piece, sizeof(piece), 0)) > 0)
        kf_add(out, piece, (size_t)got);
    if (fd >= 0)
        (void)close(fd);
    const char *end = out->len > 0 ? memmem(out->data, out->len, "\r\n\r\n", 4) : NULL;
    *at = end ? (size_t)(end - out->data) + 4 : out->len;
    return end ? (unsigned)strtoul(out->data + strlen("HTTP/1.1 "), NULL, 10) : 0;
}

static void must_work(struct k_test *t, const char *method, const char *path, const void *body,
                      size_t n)
{
    struct kf_buf reply = {0};
    size_t at;
    unsigned status = control(t, method, path, body, n, &reply, &at);
    if (status != 200)
        k_fail(t, "the kit's own request %s /-/%s to the fault server failed: %u %s", method, path,
               status, reply.len > at ? reply.data + at : "");
    kf_buf_fini(&reply);
}

static json_t *ask(struct k_test *t, const char *path)
{
    struct kf_buf reply = {0};
    size_t at;
    unsigned status = control(t, "GET", path, "", 0, &reply, &at);
    json_t *answer = status == 200 ? json_loadb(reply.data + at, reply.len - at, 0, NULL) : NULL;
    kf_buf_fini(&reply);
    if (!answer)
        k_fail(t, "the kit's own request GET /-/%s to the fault server failed", path);
    return answer ? answer : json_array();
}

/* ---- stores ------------------------------------------------------------------------------------ */

struct k_store *k_fault_store(struct k_test *t, uint64_t caps)
{
    struct kf_buf path = {0};
    must_work(t, "DELETE", "", "", 0);
    kf_addf(&path, "containers/");
    kf_escape_url(t->config->authority, "", &path);
    must_work(t, "PUT", path.data, "", 0);
    kf_buf_fini(&path);
    return k_failed(t) ? NULL : k_need(t, caps);
}

bool k_has_fault(struct k_test *t, const char *name)
{
    const json_t *faults = json_object_get(t->config->faults->declaration, "faults");
    if (json_object_get(faults, name))
        return true;
    k_skip(t, "the declaration has no fault \"%s\"", name);
    return false;
}

void k_fault_set(struct k_test *t, const char *rules, ...)
{
    char text[2048] = "[]";
    va_list ap;
    if (rules) {
        va_start(ap, rules);
        (void)vsnprintf(text, sizeof(text), rules, ap);
        va_end(ap);
    }
    for (char *p = text; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    must_work(t, "DELETE", "log", "", 0);
    must_work(t, "PUT", "faults", text, strlen(text));
}

/* ---- what lies there --------------------------------------------------------------------------- */

static void path_of(struct k_test *t, pst_str key, struct kf_buf *path)
{
    kf_addf(path, "objects/");
    kf_escape_url(t->config->authority, "", path);
    kf_addf(path, "/");
    kf_escape_url(key, "/", path);
}

pst_str k_fault_object(struct k_test *t, const char *name, uint64_t size, uint64_t seed)
{
    pst_str key = k_key(t, "%s", name);
    unsigned char *data = k_alloc((size_t)size + 1);
    struct kf_buf path = {0};
    k_fill(data, (size_t)size, seed, 0);
    path_of(t, key, &path);
    must_work(t, "PUT", path.data, data, (size_t)size);
    kf_buf_fini(&path);
    k_free(data);
    return key;
}

static unsigned fetch(struct k_test *t, pst_str key, struct kf_buf *reply, size_t *at)
{
    struct kf_buf path = {0};
    path_of(t, key, &path);
    unsigned status = control(t, "GET", path.data, "", 0, reply, at);
    kf_buf_fini(&path);
    return status;
}

bool k_fault_holds(struct k_test *t, pst_str key, uint64_t size, uint64_t seed)
{
    struct kf_buf reply = {0};
    size_t at;
    bool is_right = false;
    unsigned status = fetch(t, key, &reply, &at);
    if (k_that(t, status == 200, "expected the server to hold %s, got status %u", k_show(key),
               status))
        is_right = k_that(t,
                          reply.len - at == size &&
                              k_differs((const unsigned char *)reply.data + at, (size_t)size, seed,
                                        0) == SIZE_MAX,
                          "expected the server to hold %llu certain bytes under %s, got %zu bytes "
                          "or other ones",
                          (unsigned long long)size, k_show(key), reply.len - at);
    kf_buf_fini(&reply);
    return is_right;
}

bool k_fault_absent(struct k_test *t, pst_str key)
{
    struct kf_buf reply = {0};
    size_t at;
    unsigned status = fetch(t, key, &reply, &at);
    kf_buf_fini(&reply);
    return k_that(t, status == 404, "expected nothing under %s on the server, got status %u",
                  k_show(key), status);
}

size_t k_fault_uploads(struct k_test *t)
{
    json_t *uploads = ask(t, "uploads");
    size_t n = json_array_size(uploads);
    json_decref(uploads);
    return n;
}

json_t *k_fault_log(struct k_test *t)
{
    return ask(t, "log");
}

size_t k_fault_count(struct k_test *t, const char *action)
{
    json_t *log = k_fault_log(t), *entry;
    size_t i, n = 0;
    json_array_foreach(log, i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "do"));
        n += !action || (name && strcmp(name, action) == 0);
    }
    json_decref(log);
    return n;
}
