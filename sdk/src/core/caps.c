#include "core/caps.h"

#include <string.h>

#include <penstock/plugins.h>

const struct pst_cap pst_caps[] = {
    {PST_CAP_READ, "read"},
    {PST_CAP_READ_SUFFIX, "read_suffix"},
    {PST_CAP_STAT, "stat"},
    {PST_CAP_PUT, "put"},
    {PST_CAP_UPLOAD, "upload"},
    {PST_CAP_UPLOAD_UNORDERED, "upload_unordered"},
    {PST_CAP_REMOVE, "remove"},
    {PST_CAP_LIST, "list"},
    {PST_CAP_LIST_ORDERED, "list_ordered"},
    {PST_CAP_COPY, "copy"},
    {PST_CAP_RENAME, "rename"},
    {PST_CAP_CONTAINER, "container"},
    {PST_CAP_PRESIGN, "presign"},
    {PST_CAP_CLEANUP, "cleanup"},
    {PST_CAP_READ_IF_MATCH, "read_if_match"},
    {PST_CAP_WRITE_IF_MATCH, "write_if_match"},
    {PST_CAP_CREATE_ONLY, "create_only"},
    {PST_CAP_USER_META, "user_meta"},
    {PST_CAP_CONTENT_TYPE, "content_type"},
    {PST_CAP_CANCEL_BOUNDED, "cancel_bounded"},
    {PST_CAP_EMPTY_DIRS, "empty_dirs"},
    {PST_CAP_APPEND, "append"},
    {PST_CAP_COPY_ACROSS, "copy_across"},
    {PST_CAP_UPLOAD_CONDITIONAL, "upload_conditional"},
    {PST_CAP_VERSIONS, "versions"},
    {PST_CAP_TAGS, "tags"},
    {0, NULL},
};

uint64_t pst_caps_known(void)
{
    uint64_t all = 0;

    for (const struct pst_cap *cap = pst_caps; cap->name; cap++)
        all |= cap->bit;
    return all;
}

uint64_t pst_caps_parse(const char *name)
{
    for (const struct pst_cap *cap = pst_caps; cap->name; cap++) {
        if (strcmp(cap->name, name) == 0)
            return cap->bit;
    }
    return 0;
}

const char *pst_cap_name(uint64_t bit)
{
    for (const struct pst_cap *cap = pst_caps; cap->name; cap++) {
        if (cap->bit == bit)
            return cap->name;
    }
    return NULL;
}

struct need {
    uint64_t bit;
    size_t slot; /* offset in pst_backend_ops */
    const char *name;
};

#define NEED(cap, member)                                                                          \
    {                                                                                              \
        PST_CAP_##cap, offsetof(pst_backend_ops, member), #member                                  \
    }
static const struct need needs[] = {
    NEED(READ, read),
    NEED(READ_SUFFIX, read),
    NEED(READ_IF_MATCH, read),
    NEED(STAT, stat),
    NEED(PUT, put),
    NEED(APPEND, append),
    NEED(COPY, copy),
    NEED(RENAME, rename),
    NEED(REMOVE, remove),
    NEED(UPLOAD, upload_open),
    NEED(UPLOAD, upload_part),
    NEED(UPLOAD, upload_commit),
    NEED(UPLOAD, upload_abort),
    NEED(UPLOAD, upload_free),
    NEED(UPLOAD_UNORDERED, upload_open),
    NEED(CONTAINER, container_create),
    NEED(CONTAINER, container_delete),
    NEED(PRESIGN, presign),
    NEED(CLEANUP, cleanup),
    NEED(CANCEL_BOUNDED, cancel),
};
#undef NEED

static int has_slot(const pst_backend_ops *ops, size_t offset)
{
    void (*slot)(void);

    memcpy(&slot, (const char *)ops + offset, sizeof(slot));
    return slot != NULL;
}

const char *pst_caps_missing_slot(uint64_t caps, const pst_backend_ops *ops, const char **cap)
{
    for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
        if ((caps & needs[i].bit) && !has_slot(ops, needs[i].slot)) {
            *cap = pst_cap_name(needs[i].bit);
            return needs[i].name;
        }
    }
    /* Listing is there in one of two ways: pages by token, or a cursor. */
    const int has_cursor = ops->list_open && ops->list_page && ops->list_close;
    if ((caps & (PST_CAP_LIST | PST_CAP_LIST_ORDERED)) && !ops->list && !has_cursor) {
        *cap = caps & PST_CAP_LIST ? "list" : "list_ordered";
        return ops->list_open ? (ops->list_page ? "list_close" : "list_page") : "list";
    }
    return NULL;
}
