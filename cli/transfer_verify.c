/* transfer_verify.c - --verify for one item: is the target's object the source's?
 *
 * What was read and written here has a sum of its bytes on the way, and the target is held against it
 * (verify.c). What the store copied by itself, and what was found identical and left alone, has not:
 * the sum of the source is then that of its bytes where they are local, else the one that its store
 * keeps; where there is none the item is not verified, which is said. */
#include <inttypes.h>

#include "transfer_work.h"

int transfer_verify_target(struct transfer_work *work, bool is_unread)
{
    struct transfer_side *from = &work->from, *to = &work->to;
    struct cli_flow *flow = &work->t->flow;
    struct cli_expected expected = {.name = to->shown.data,
                                    .size = work->n_read,
                                    .stored_size = work->stored_size,
                                    .is_compressed = work->item->is_compressed};

    if (is_unread) {
        expected.size = expected.stored_size = work->item->size;
        if (transfer_is_local(from->place))
            transfer_read_sum(work, from, work->item->size);
        else if (!from->has_crc && transfer_load_attr(work, from, NULL) == PST_OK)
            transfer_find_sum(from);
        if (!from->has_crc) {
            cli_not_verified(work->cli, flow, to->shown.data, "no checksum of the source is known");
            return CLI_OK;
        }
    }
    expected.crc = from->crc;
    return cli_verify_written(work->cli, flow, to->place->store, transfer_side_key(to), &expected);
}
