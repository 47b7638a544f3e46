/* head.h - collects the head of a reply, line by line. Pure: knows neither libcurl nor sockets. */
#ifndef PST_NET_HEAD_H
#define PST_NET_HEAD_H

#include <stdint.h>

#include <penstock/base.h>

#define PST_HEAD_MAX_BYTES (256u * 1024)
#define PST_HEAD_LINE_MAX_BYTES (64u * 1024)

struct pst_head {
    char *text; /* names in lower case and values, one after the other */
    size_t len, room;
    pst_kv *fields; /* until the head is complete their pointers are offsets into text, plus one */
    size_t n, n_room;
    size_t n_bytes; /* of all lines, as they came */
    uint32_t status;
    int is_complete; /* the empty line was seen */
    int is_encoded;  /* transfer-encoding was there */
    uint64_t content_length;
};

#define PST_HEAD_MORE 0      /* go on */
#define PST_HEAD_COMPLETE 1  /* this was its empty line; fields may be read now */
#define PST_HEAD_TOO_LONG 2  /* as a whole, or a line of it */
#define PST_HEAD_MALFORMED 3 /* two lengths that differ, or one that is no number */
#define PST_HEAD_NO_MEMORY 4

/* Take one line, with or without its line end. A status line begins a new head: interim replies are
 * forgotten when the final one begins. Lines after a complete head (trailers) are dropped. */
int pst_head_add(struct pst_head *head, const char *line, size_t len);

/* Forget what is there, keep the memory unless it is large. */
void pst_head_reset(struct pst_head *head);

void pst_head_fini(struct pst_head *head);

#endif
