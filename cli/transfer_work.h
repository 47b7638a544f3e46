/* transfer_work.h - one item under way: shared by transfer_side.c and transfer_item.c alone. */
#ifndef PST_CLI_TRANSFER_WORK_H
#define PST_CLI_TRANSFER_WORK_H

#include "transfer.h"

/* The user metadata that holds the CRC-32C, eight hex digits, on stores that keep no sums. */
#define TRANSFER_SUM_META PST_STR("penstock-crc32c")

/* One side of the item. */
struct transfer_side {
    const struct transfer_place *place;
    struct cli_text_buf key, shown; /* NUL-terminated, not counted */
    pst_attr *attr;                 /* once it was asked for */
    bool has_crc;
    uint32_t crc;
};

struct transfer_work {
    struct transfer *t;
    struct cli *cli;
    const struct transfer_item *item;
    struct transfer_side from, to;
    struct cli_text_buf to_name; /* item->to, marked if need be */
    pst_buffer *body;            /* of a small object, once it was read */
    uint64_t n_read;             /* bytes of a large object that went into the writer */
    uint32_t n_read_crc;
    uint64_t stored_size; /* of what was written */
    pst_writer *writer;
    bool may_rename; /* another mark may still help */
    bool is_renamed; /* ... and does: try again */
};

pst_str transfer_side_key(const struct transfer_side *side);
void transfer_side_set(struct transfer_side *side, const struct transfer_place *place,
                       pst_str name);
void transfer_side_clear(struct transfer_side *side);

/* Choose the target's name, with the marks that what is there asks for. */
void transfer_name_target(struct transfer_work *work);

/* Say why a call on a side failed; `words` come first. Returns the exit code. */
int transfer_fail_side(const struct transfer_work *work, const struct transfer_side *side,
                       pst_rc rc, const pst_error *err, const char *words);
int transfer_fail_from(const struct transfer_work *work, pst_rc rc, const pst_error *err);

/* ... of the target: says nothing but sets is_renamed when another name may do. */
int transfer_fail_to(struct transfer_work *work, pst_rc rc, const pst_error *err);

/* Make sure that side->attr is there. */
pst_rc transfer_load_attr(struct transfer_work *work, struct transfer_side *side, pst_error *err);

/* Does reading the place cost no network? */
bool transfer_is_local(const struct transfer_place *place);

bool transfer_is_sum_meta(pst_str name);

/* Take the sum that came with side->attr, if one did that can be believed. */
void transfer_find_sum(struct transfer_side *side);

/* Sum up the bytes of a side, whatever its store says; none if they cannot be read. */
void transfer_read_sum(struct transfer_work *work, struct transfer_side *side, uint64_t size);

/* Read a small object into work->body. *is_small is false if it is none. */
int transfer_load_body(struct transfer_work *work, bool *is_small);

/* Is the target object there, and is it the source's? */
int transfer_look_at_target(struct transfer_work *work, bool *is_identical);

/* ---- --verify (transfer_verify.c) --------------------------------------------------------------- */

/* Is the target's object there as it must be? `is_unread`: its bytes did not come through here. */
int transfer_verify_target(struct transfer_work *work, bool is_unread);

#endif
