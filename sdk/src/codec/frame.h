/* frame.h - what a zstd frame says about itself in its first bytes (RFC 8878, 3.1). */
#ifndef PST_CODEC_FRAME_H
#define PST_CODEC_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define PST_FRAME_HEAD_MAX 18u /* bytes of the longest header */
#define PST_FRAME_WINDOW_LOG_MAX 27
#define PST_FRAME_WINDOW_MAX ((uint64_t)1 << PST_FRAME_WINDOW_LOG_MAX)

/* Can these be the first bytes of a frame, skippable or not? Looks at 4 of them at most. The formats
 * before 1.0, which libzstd may know as well, are not zstd here. */
int pst_frame_is_start(const void *data, size_t len);

/* Bytes of memory that a streaming decoder needs for the frame; 0 for a skippable one and where the
 * header is cut off. */
uint64_t pst_frame_window(const void *head, size_t len);

#endif
