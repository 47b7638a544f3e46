/* caps.c - names of capabilities, for people. */
#include <penstock/plugin.h>

#include "cli.h"

void cli_add_caps(struct cli_text_buf *buf, uint64_t caps)
{
    static const struct {
        uint64_t bit;
        const char *name;
    } names[] = {
        {PST_CAP_READ, "read"},
        {PST_CAP_READ_SUFFIX, "read-suffix"},
        {PST_CAP_STAT, "stat"},
        {PST_CAP_PUT, "put"},
        {PST_CAP_UPLOAD, "upload"},
        {PST_CAP_UPLOAD_UNORDERED, "upload-unordered"},
        {PST_CAP_REMOVE, "remove"},
        {PST_CAP_LIST, "list"},
        {PST_CAP_LIST_ORDERED, "list-ordered"},
        {PST_CAP_COPY, "copy"},
        {PST_CAP_RENAME, "rename"},
        {PST_CAP_CONTAINER, "container"},
        {PST_CAP_PRESIGN, "presign"},
        {PST_CAP_CLEANUP, "cleanup"},
        {PST_CAP_READ_IF_MATCH, "read-if-match"},
        {PST_CAP_WRITE_IF_MATCH, "write-if-match"},
        {PST_CAP_CREATE_ONLY, "create-only"},
        {PST_CAP_USER_META, "user-meta"},
        {PST_CAP_CONTENT_TYPE, "content-type"},
        {PST_CAP_CANCEL_BOUNDED, "cancel-bounded"},
        {PST_CAP_EMPTY_DIRS, "empty-dirs"},
        {PST_CAP_APPEND, "append"},
        {PST_CAP_COPY_ACROSS, "copy-across"},
        {PST_CAP_UPLOAD_CONDITIONAL, "upload-conditional"},
        {PST_CAP_VERSIONS, "versions"},
        {PST_CAP_TAGS, "tags"},
    };
    const char *space = "";

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (caps & names[i].bit) {
            cli_addf(buf, "%s%s", space, names[i].name);
            space = " ";
        }
    }
}
