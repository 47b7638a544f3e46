/* upload.h - a multipart upload, as upload.c and upload_commit.c share it. */
#ifndef PST_S3_UPLOAD_H
#define PST_S3_UPLOAD_H

#include "s3.h"

#define S3_PARTS_MAX 10000u

struct s3_part {
    uint64_t offset, length;
    char *etag;  /* quoted, as the store gave it; NULL: not stored yet */
    pst_sum sum; /* sent with it; algorithm 0: none */
};

enum s3_upload_state { S3_UPLOAD_OPEN, S3_UPLOAD_COMMITTED, S3_UPLOAD_ABORTED };

struct pst_upload {
    pst_backend *store;
    pst_str key, id, if_match; /* owned */
    uint32_t is_create_only;
    uint32_t algorithm; /* of checksums, declared when it was opened; 0: none */
    pthread_mutex_t mutex;
    struct {
        enum s3_upload_state state;
        int is_in_doubt; /* the reply to a commit was lost */
        int has_stray;   /* ... to a part: it may arrive after an abort */
        uint32_t n, room;
        struct s3_part *parts;
        pst_str etag, version; /* owned, of the object committed */
        uint32_t etag_strength, reserved0;
        uint64_t size;
    } locked;
};

/* Whole-object checksums are made of those of the parts by all algorithms but SHA-256. */
static inline int s3_is_full_object(uint32_t algorithm)
{
    return algorithm == PST_SUM_CRC32C || algorithm == PST_SUM_CRC64NVME;
}

/* A copy in memory of the host; {NULL, 0} for nothing and for lack of memory. */
pst_str s3_own(const pst_host *host, pst_str text);

/* Remember a part that the store has. Returns 0 for lack of memory. */
int s3_upload_keep_part(pst_upload *upload, uint32_t number, const struct s3_part *part,
                        pst_str etag);

#endif
