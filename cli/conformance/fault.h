/* fault.h - what the files of the fault server share. The picture is in fault_server.c, the format of
 * a declaration in docs/fault-server.md.
 *
 * Names: kf_ is private to the fault server. It runs in a process of its own and takes its memory from
 * k_alloc, which ends that process when there is none. */
#ifndef PST_KIT_FAULT_H
#define PST_KIT_FAULT_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <penstock/base.h>

/* ---- bytes and named values (fault_text.c) ------------------------------------------------------- */

struct kf_buf {
    char *data;
    size_t len, cap;
};
void kf_add(struct kf_buf *b, const void *bytes, size_t n);
void kf_add_str(struct kf_buf *b, pst_str s);
void kf_addf(struct kf_buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void kf_buf_fini(struct kf_buf *b);
pst_str kf_view(const struct kf_buf *b);

struct kf_fields { /* in order, owned copies */
    pst_kv *all;
    size_t n, cap;
};
void kf_append(struct kf_fields *f, pst_str name, pst_str value);
void kf_set(struct kf_fields *f, const char *name, pst_str value); /* replaces; empty: removes */
void kf_setf(struct kf_fields *f, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
pst_str kf_get(const struct kf_fields *f, const char *name); /* empty if there is none */
bool kf_has(const struct kf_fields *f, const char *name);
void kf_fields_fini(struct kf_fields *f);

pst_str kf_str(const char *text); /* of a C string, NULL allowed */
pst_str kf_copy(pst_str s);       /* NUL-terminated as well; k_free */
bool kf_is(pst_str s, const char *text);
bool kf_glob(const char *pattern, pst_str text); /* '*' stands for any bytes */
uint64_t kf_number(pst_str text, uint64_t otherwise);
void kf_unescape_url(pst_str text, bool plus_is_space, struct kf_buf *out);
void kf_escape_url(pst_str text, const char *keep, struct kf_buf *out);
void kf_parse_query(pst_str query, struct kf_fields *out);
/* The next <element>...</element> of `xml` from *at on; *inner: what is between. */
bool kf_xml_next(pst_str xml, const char *element, size_t *at, pst_str *inner);
pst_str kf_xml_text(pst_str xml, const char *element, struct kf_buf *out); /* unescaped */

/* ---- one exchange -------------------------------------------------------------------------------- */

struct kf_request {
    char *method, *target;
    pst_str path; /* of the target, as it was sent */
    struct kf_fields headers, query;
    struct kf_buf body;
    unsigned connection; /* a number for the log */
};

struct kf_reply {
    unsigned status;
    struct kf_fields headers;
    struct kf_buf body;
    uint64_t announced; /* Content-Length where it is not that of the body; else UINT64_MAX */
};

/* ---- templates (fault_template.c) ---------------------------------------------------------------- */

struct kf_scope { /* what a template may name */
    const struct kf_request *request;
    struct kf_fields *vars;
    const struct kf_object *object; /* what a reply with data sends: length bytes from first on */
    uint64_t first, length;
};
/* {name} {name|xml} {name|url} {name|path} {header:name} {query:name} {time:+60} {http:0}
 * {?name}if not empty{/}; "{{" is a brace, and so is one before anything but a name. */
void kf_expand(const char *template, const struct kf_scope *scope, struct kf_buf *out);

/* ---- objects (fault_model.c) --------------------------------------------------------------------- */

struct kf_object {
    char *container, *key;
    size_t key_len;
    struct kf_buf data;
    struct kf_fields kept; /* headers of the request that made it */
    char etag[64], crc32c[16], crc64nvme[16], version[24];
    int64_t mtime_s;
};
struct kf_part {
    char *id;
    struct kf_buf data;
    char etag[64];
};
struct kf_upload {
    char *container, *key, *id;
    size_t key_len;
    struct kf_fields kept;
    struct kf_part *parts;
    size_t n_parts;
    int64_t started_s;
};
struct kf_model {
    struct kf_object **objects; /* sorted by container and key */
    size_t n_objects;
    struct kf_upload **uploads;
    size_t n_uploads;
    char **containers;
    size_t n_containers;
    uint64_t serial;
    bool has_md5_etags; /* else they are of a kind of their own */
};
void kf_model_fini(struct kf_model *m);
bool kf_has_container(const struct kf_model *m, pst_str name);
void kf_add_container(struct kf_model *m, pst_str name);
bool kf_remove_container(struct kf_model *m, pst_str name); /* false: it has objects */
/* Position of the first object that is not before container and key. */
size_t kf_find_position(const struct kf_model *m, pst_str container, pst_str key);
struct kf_object *kf_find(const struct kf_model *m, pst_str container, pst_str key);
/* Takes over `data` and `kept`. */
struct kf_object *kf_store(struct kf_model *m, pst_str container, pst_str key, struct kf_buf *data,
                           struct kf_fields *kept);
void kf_sum_up(struct kf_object *o); /* its sums, which take time and are seldom asked for */
void kf_remove(struct kf_model *m, pst_str container, pst_str key);
struct kf_upload *kf_upload_open(struct kf_model *m, pst_str container, pst_str key,
                                 struct kf_fields *kept);
struct kf_upload *kf_upload_find(const struct kf_model *m, pst_str id);
struct kf_part *kf_upload_part(const struct kf_model *m, struct kf_upload *u, pst_str id,
                               struct kf_buf *data);
void kf_upload_drop(struct kf_model *m, struct kf_upload *u);
void kf_etag_of(const struct kf_model *m, pst_str data, char out[64]);
void kf_md5(pst_str data, unsigned char out[16]);
void kf_sums_of(pst_str data, char crc32c[16], char crc64nvme[16]); /* base64, big-endian */

/* ---- the server ---------------------------------------------------------------------------------- */

struct kf_route {
    const char *name, *action;
    json_t *spec;
    unsigned n_hits;
};
struct kf_rule { /* a fault that waits for its request */
    json_t *spec, *fault;
    unsigned n_seen;
};
#define KF_RULES_MAX 64u
struct kf_server {
    json_t *declaration;
    struct kf_route *routes;
    size_t n_routes;
    char address[32]; /* "127.0.0.1:4711" */
    pthread_mutex_t mutex;
    struct kf_rule rules[KF_RULES_MAX];
    size_t n_rules;
    json_t *log;
    uint64_t n_requests;
    struct kf_model model;
};

/* The declaration in `path`. NULL: *why says what is wrong with it. */
json_t *kf_load(const char *path, char *why, size_t size);
struct kf_server *kf_server_new(json_t *declaration);
void kf_add_declared(struct kf_server *server); /* containers that are there at the start */
void kf_server_free(struct kf_server *server);
/* Listen on a free port of 127.0.0.1; the descriptor, or -1. Fills server->address. */
int kf_listen(struct kf_server *server);
/* Serve until `stop_fd` is readable or at its end. */
void kf_serve(struct kf_server *server, int listen_fd, int stop_fd);
/* `serve-faults FILE [PORT-FILE]`; argv[0] is that word. */
int kf_command(int argc, char **argv);

/* fault_route.c: with the mutex held from here on. */
struct kf_route *kf_match(struct kf_server *s, const struct kf_request *r, struct kf_fields *vars);
/* Build the reply named `name` of the declaration. */
void kf_build(const struct kf_server *s, const char *name, const struct kf_scope *scope,
              struct kf_reply *out);
/* fault_action.c: carry out, and build the reply of the outcome. `fault` may change the result. */
void kf_act(struct kf_server *s, const struct kf_route *route, struct kf_scope *scope,
            const json_t *fault, struct kf_reply *out);
void kf_set_times(struct kf_fields *vars, int64_t when_s); /* mtime and mtime_iso */
void kf_object_vars(const struct kf_object *o, struct kf_fields *vars);
/* fault_action.c and fault_list.c: what routes do. They answer the name of the outcome. */
struct kf_turn {
    struct kf_server *server;
    const struct kf_route *route;
    struct kf_scope *scope;
    const json_t *fault;
    pst_str container, key; /* of the route's captures */
};
const char *kf_do_list(struct kf_turn *t);
const char *kf_do_list_uploads(struct kf_turn *t);
const char *kf_do_list_parts(struct kf_turn *t);
const char *kf_do_list_containers(struct kf_turn *t);
const char *kf_do_delete_many(struct kf_turn *t);

/* fault_rule.c */
bool kf_set_rules(struct kf_server *s, json_t *rules, char *why, size_t size);
/* The fault that this request meets, or NULL; counts it. */
json_t *kf_pick(struct kf_server *s, const struct kf_route *route, const struct kf_fields *vars);
/* Will the request, of which only the head is there, meet a fault that ends it in its body? */
bool kf_breaks_body(struct kf_server *s, const struct kf_request *r, uint64_t *at);
/* What the fault does to a reply that is ready. */
void kf_spoil(struct kf_server *s, json_t *fault, const struct kf_scope *scope,
              struct kf_reply *reply);
/* fault_control.c: requests below "/-/". */
void kf_control(struct kf_server *s, const struct kf_request *r, struct kf_reply *out);
void kf_log(struct kf_server *s, const struct kf_request *r, const struct kf_route *route,
            const struct kf_fields *vars, unsigned status, json_t *fault);

/* fault_wire.c */
struct kf_wire {
    int fd, stop_fd;
    char buf[16384];
    size_t at, len;
};
/* false: the connection is at its end, or not HTTP. */
bool kf_read_head(struct kf_wire *w, struct kf_request *out);
bool kf_read_body(struct kf_wire *w, struct kf_request *r);
bool kf_read_some(struct kf_wire *w, const struct kf_request *r, uint64_t n); /* and drop them */
/* false: the connection is to be closed. */
bool kf_send_reply(struct kf_wire *w, const struct kf_request *r, struct kf_reply *reply,
                   json_t *fault);
void kf_reset(struct kf_wire *w); /* so that close sends RST */
void kf_request_fini(struct kf_request *r);
void kf_reply_fini(struct kf_reply *r);

#endif
