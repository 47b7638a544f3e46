/* mem.h - what the files of mem:// share; mem.c says what it is. */
#ifndef PST_TEST_MEM_H
#define PST_TEST_MEM_H

#define _GNU_SOURCE
#include <penstock/plugin.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define KEY_MAX 1024u
#define META_MAX 4096u
#define INFLIGHT_MAX 64u
#define PAGE_MAX 1000u
#define N_THREADS 2u

/* ---- objects and buckets (bucket.c) ------------------------------------------------------------- */

/* One version of a key, which never changes once it is in a bucket but for what follows it there. */
struct object {
    atomic_uint n_refs;
    pst_str key;
    unsigned char *data;
    uint64_t size, generation; /* names etag and version */
    uint32_t crc32c;
    int is_marker;        /* no object: the key was deleted here */
    struct object *older; /* of the same key, under mem_process.mutex; referenced */
    int64_t mtime_ns;
    pst_str content_type, content_encoding;
    pst_kv *meta, *tags;
    size_t n_meta, n_tags;
};

struct bucket {
    pst_str authority;
    atomic_int is_there;
    struct object **objects; /* the newest of each key, by key */
    size_t n, cap;
    struct bucket *next;
};

struct process {
    pthread_mutex_t mutex;
    struct bucket *buckets;
    uint64_t generation;
    pid_t pid;
};
extern struct process mem_process;

int mem_dup_str(pst_str s, pst_str *out);
void mem_free_str(pst_str s);
int mem_compare(pst_str a, pst_str b);
uint32_t mem_crc32c(uint32_t crc, const unsigned char *p, size_t n);

/* NULL for lack of memory; without bytes, to be filled. `attr` may be NULL. */
struct object *mem_object_new(pst_str key, uint64_t size, const pst_attr *attr);
struct object *mem_object_ref(struct object *o);
void mem_object_unref(struct object *o);

/* With mem_process.mutex held, all of these. */
struct bucket *mem_bucket_find(pst_str authority); /* NULL: there was none of that name */
struct bucket *mem_bucket_make(pst_str authority); /* it is there now; NULL for lack of memory */
size_t mem_lower_bound(const struct bucket *b, pst_str key);
struct object *mem_find(const struct bucket *b, pst_str key); /* not a marker */
struct object *mem_find_version(const struct bucket *b, pst_str key, pst_str version);
int mem_is_empty(const struct bucket *b); /* of objects that are there now */

/* Take `o` over as the newest version, keeping `n_kept` older ones. -1 for lack of memory. */
int mem_insert(struct bucket *b, struct object *o, unsigned n_kept);
/* Delete the key: by a marker where versions are kept. -1 for lack of memory. */
int mem_drop(struct bucket *b, pst_str key, unsigned n_kept);
/* Delete one version for good; a marker, too. */
void mem_drop_version(struct bucket *b, pst_str key, pst_str version);

#define ETAG_SIZE 20
pst_str mem_etag(const struct object *o, char buf[ETAG_SIZE]);
pst_str mem_version(const struct object *o, char buf[ETAG_SIZE]);
int mem_matches(const struct object *o, pst_str if_match);

/* ---- operations (work.c) ------------------------------------------------------------------------ */

enum { RUNNING, PARKED, READY };

typedef pst_rc (*mem_run_fn)(void *object, pst_op *op, const void *args, void *result);

struct job { /* in the operation's scratch */
    struct job *next;
    mem_run_fn run;
    void *object;
    pst_op *op;
    const void *args;
    void *result;
    atomic_uint state;
    atomic_uint is_cancelled;
};

struct pst_backend {
    const pst_host *host;
    struct bucket *bucket;
    unsigned n_kept;   /* old versions of a key */
    uint64_t part_max; /* bytes of one request; 0: any number */
    pthread_t threads[N_THREADS];
    unsigned n_threads;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    struct {
        struct job *first, **last;
        unsigned n_inflight;
        int is_closing, owes_wake;
    } locked;
};

int mem_start_threads(pst_backend *b);
void mem_join_threads(pst_backend *b);

/* Run it on a thread of the store; BUSY when enough is under way. */
pst_rc mem_submit(pst_backend *b, void *object, pst_op *op, const void *args, void *result,
                  mem_run_fn run);
void mem_cancel(pst_backend *b, pst_op *op);
void mem_dst_ready(pst_backend *b, pst_op *op);

pst_rc mem_fail(pst_op *op, pst_rc rc, pst_str key, const char *why);
/* INVALID for a key that cannot be; NOT_FOUND where the bucket is not there. */
pst_rc mem_check(pst_backend *b, pst_op *op, pst_str key);
int mem_op_dup(pst_op *op, pst_str s, pst_str *out);
int mem_tell_etag(pst_op *op, const struct object *o, pst_str *etag, uint32_t *strength);
int mem_tell_version(const pst_backend *b, pst_op *op, const struct object *o, pst_str *version);

/* The object, or one version of it, with a reference. */
struct object *mem_find_ref(pst_backend *b, pst_str key, pst_str version);

/* ---- the slots ---------------------------------------------------------------------------------- */

pst_rc mem_read(pst_backend *, pst_op *, const pst_read_args *, pst_read_result *);
pst_rc mem_stat(pst_backend *, pst_op *, const pst_stat_args *, pst_attr *);
pst_rc mem_presign(pst_backend *, pst_op *, const pst_presign_args *, pst_presign_result *);

pst_rc mem_put(pst_backend *, pst_op *, const pst_put_args *, pst_put_result *);
pst_rc mem_append(pst_backend *, pst_op *, const pst_put_args *, pst_put_result *);
pst_rc mem_copy(pst_backend *, pst_op *, const pst_copy_args *, pst_put_result *);
pst_rc mem_rename(pst_backend *, pst_op *, const pst_copy_args *, pst_put_result *);
pst_rc mem_remove(pst_backend *, pst_op *, const pst_remove_args *, pst_remove_result *);

pst_rc mem_upload_open(pst_backend *, pst_op *, const pst_put_args *, pst_upload_result *);
pst_rc mem_upload_part(pst_upload *, pst_op *, const pst_part_args *, pst_result *);
pst_rc mem_upload_commit(pst_upload *, pst_op *, const pst_commit_args *, pst_put_result *);
pst_rc mem_upload_abort(pst_upload *, pst_op *, const pst_abort_args *, pst_result *);
void mem_upload_free(pst_upload *);

pst_rc mem_list(pst_backend *, pst_op *, const pst_list_args *, pst_list_result *);
pst_rc mem_container_create(pst_backend *, pst_op *, const pst_container_args *, pst_result *);
pst_rc mem_container_delete(pst_backend *, pst_op *, const pst_container_args *, pst_result *);
pst_rc mem_container_list(pst_backend *, pst_op *, const pst_list_args *, pst_list_result *);

/* ---- for puts and uploads (write.c) ------------------------------------------------------------- */

pst_rc mem_check_attr(pst_op *op, pst_str key, const pst_attr *attr);
uint64_t mem_iov_bytes(const pst_iov *iov, size_t n);
void mem_gather(unsigned char *out, const pst_iov *iov, size_t n);
int mem_is_sum_right(const pst_sum *sums, size_t stride, size_t n_sums, const unsigned char *data,
                     uint64_t size);
/* A copy of `from` under another key, `more` bytes longer; `attr` NULL: with its attributes. */
struct object *mem_object_dup(const struct object *from, pst_str key, const pst_attr *attr,
                              uint64_t more);
/* Make `o` visible if the conditions hold. Takes it over, unless it fails. */
pst_rc mem_publish(pst_backend *b, pst_op *op, struct object *o, uint32_t flags, pst_str if_match,
                   pst_put_result *r);

#endif
