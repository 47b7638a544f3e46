/* Every input is zstd or is not, and it does not matter in which pieces it comes: the same content, the
 * same error, whose offset lies in the input. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/decoder.h"
#include "codec/frame.h"
#include "codec/zstd_lib.h"

#define CONTENT_MAX ((size_t)1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

struct outcome {
    unsigned char *content;
    size_t len;
    pst_rc rc;
    int is_cut; /* more content than is looked at */
    char message[768];
};

static void decode(const uint8_t *data, size_t size, size_t in_step, size_t out_step,
                   struct outcome *out)
{
    struct pst_decoder *decoder = NULL;
    pst_error err = PST_ERROR_INIT;
    size_t at = 0, n_in = 0, n_out = 0;
    memset(out, 0, sizeof(*out));
    require((out->content = malloc(CONTENT_MAX)) != NULL);
    require(pst_decoder_new(&decoder, &err) == PST_OK);
    do {
        size_t len = size - at < in_step ? size - at : in_step;
        size_t room = CONTENT_MAX - out->len < out_step ? CONTENT_MAX - out->len : out_step;
        out->is_cut = room == 0;
        if (out->is_cut)
            break;
        out->rc = pst_decoder_run(decoder, data + at, len, &n_in, out->content + out->len, room,
                                  &n_out, &err);
        require(n_in <= len && n_out <= room);
        at += n_in;
        out->len += n_out;
    } while (out->rc == PST_OK && (n_in > 0 || n_out > 0));
    if (out->rc == PST_OK && !out->is_cut) {
        require(at == size);
        out->rc = pst_decoder_end(decoder, &err);
    }
    memcpy(out->message, err.message, sizeof(out->message));
    pst_decoder_free(decoder);
}

static void check_offset(const char *message, size_t size)
{
    const char *at = strstr(message, "at offset ");
    require(at && strtoull(at + strlen("at offset "), NULL, 10) <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t steps[][2] = {{CONTENT_MAX, CONTENT_MAX}, {1, 4096}, {4096, 1}, {7, 13}};
    struct outcome first, other;
    size_t n_steps = size < 4096 ? 4 : 1;
    (void)pst_frame_window(data, size);
    decode(data, size, steps[0][0], steps[0][1], &first);
    require(first.rc == PST_OK || first.rc == PST_E_DATA_LOSS || first.rc == PST_E_OVER_BUDGET);
    if (first.rc != PST_OK)
        check_offset(first.message, size);
    for (size_t i = 1; i < n_steps && first.len < 65536 && !first.is_cut; i++) {
        decode(data, size, steps[i][0], steps[i][1], &other);
        require(other.rc == first.rc && strcmp(other.message, first.message) == 0);
        if (first.rc == PST_OK)
            require(other.len == first.len && memcmp(other.content, first.content, first.len) == 0);
        free(other.content);
    }
    free(first.content);
    return 0;
}
