/* The last bytes of an object, of some length that is told by the first four: they are no table, a table
 * that fits it to the byte, or an error. What is read is what would be written again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/seek_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

static void check_table(const struct pst_seek_table *table, const uint8_t *bytes, size_t len,
                        uint64_t object_bytes)
{
    struct pst_seek_log log;
    const struct pst_seek_point *end = &table->at[table->n_frames];
    int is_plain = bytes[len - 5] == 0; /* no checksums, no unused bits */
    require(table->at[0].stored_at == 0 && table->at[0].content_at == 0);
    require(end->stored_at == object_bytes - len);
    pst_seek_log_init(&log);
    for (size_t i = 0; i < table->n_frames; i++) {
        const struct pst_seek_point *at = &table->at[i], *next = at + 1;
        require(next->stored_at >= at->stored_at && next->content_at >= at->content_at);
        require(pst_seek_log_add(&log, (uint32_t)(next->stored_at - at->stored_at),
                                 (uint32_t)(next->content_at - at->content_at), NULL) == PST_OK);
        if (next->content_at > at->content_at) {
            require(pst_seek_table_frame_of(table, at->content_at) == i);
            require(pst_seek_table_frame_of(table, next->content_at - 1) == i);
        }
    }
    require(pst_seek_log_end(&log, NULL) == PST_OK);
    if (is_plain)
        require(log.bytes.len == len && memcmp(log.bytes.data, bytes, len) == 0);
    pst_seek_log_fini(&log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pst_seek_table *table = NULL;
    pst_error err = PST_ERROR_INIT;
    uint64_t table_bytes = 0;
    uint32_t before = 0;
    if (size < sizeof(before) + PST_SEEK_FOOTER_BYTES)
        return 0;
    memcpy(&before, data, sizeof(before));
    data += sizeof(before);
    size -= sizeof(before);
    const uint64_t object_bytes = (uint64_t)before + size;
    pst_rc rc = pst_seek_table_find(data + size - PST_SEEK_FOOTER_BYTES, object_bytes, &table_bytes,
                                    &err);
    require(rc == PST_OK || (rc == PST_E_DATA_LOSS && strstr(err.message, "at offset ") != NULL) ||
            strstr(err.message, ", offset ") != NULL);
    if (rc != PST_OK || table_bytes == 0)
        return 0;
    require(table_bytes <= object_bytes);
    if (table_bytes > size) /* the rest is elsewhere */
        return 0;
    rc = pst_seek_table_read(data + size - table_bytes, table_bytes, object_bytes, &table, &err);
    require(rc == PST_OK ? table != NULL : rc == PST_E_DATA_LOSS && !table);
    if (table)
        check_table(table, data + size - table_bytes, (size_t)table_bytes, object_bytes);
    free(table);
    return 0;
}
