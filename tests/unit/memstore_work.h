/* memstore_work.h - the inside of the store in memory: memstore.c says when, memstore_work.c does it. */
#ifndef PST_TEST_MEMSTORE_WORK_H
#define PST_TEST_MEMSTORE_WORK_H

#include <pthread.h>

#include "memstore.h"

struct mem_object {
    char *key;
    unsigned char *data;
    size_t key_len, size;
    unsigned serial;
    char content_type[64];
};

struct pst_upload {
    pst_str key;
    unsigned char *data;
    size_t size, room;
    unsigned n_under_way;
    char content_type[64];
    uint8_t is_part_under_way[256];
};

struct mem_job {
    enum mem_slot slot;
    pst_op *op;
    void *object;
    const void *args;
    void *result;
    struct mem_job *next;
};

/* Guards everything; `mem_changed` is told of all that a test may wait for. */
extern pthread_mutex_t mem_mutex;
extern pthread_cond_t mem_changed;

/* Memory apart from malloc, which a test may have told to fail: what is tortured is the host. */
void *mem_grab(size_t size);
void mem_drop(void *memory);

/* With the mutex held. */
pst_rc mem_perform(struct mem_job *job, int must_fail);
const struct mem_object *mem_find(pst_str key);
void mem_set(pst_str key, unsigned char *data, size_t size); /* takes data */
void mem_drop_all(void);

/* Slots that are no operations. */
void mem_list_close(pst_cursor *cursor);
void mem_upload_free(pst_upload *upload);

#endif
