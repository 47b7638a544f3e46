/* verb.c - checks before the wire.
 *
 * Whatever can be refused is refused here, before any I/O and in the same words for every store: a key
 * that is empty or too long, an operation or a condition that the store lacks, attributes that it
 * would drop. What only the backend can judge (which bytes a key may hold) it refuses itself. */
#include "io/verb.h"

#include <string.h>

#include "core/error.h"
#include "io/call.h"
#include "io/compress.h"
#include "io/sums.h"

pst_rc pst_options_take(void *own, size_t own_bytes, const void *given, pst_error *err)
{
    uint32_t given_bytes = 0;
    memset(own, 0, own_bytes);
    if (!given)
        return PST_OK;
    memcpy(&given_bytes, given, sizeof(given_bytes));
    if (given_bytes < sizeof(given_bytes))
        return pst_fail(err, PST_E_INVALID, "struct_size of the options is not set");
    memcpy(own, given, given_bytes < own_bytes ? given_bytes : own_bytes);
    for (size_t i = own_bytes; i < given_bytes; i++) {
        if (((const unsigned char *)given)[i] != 0)
            return pst_fail(err, PST_E_INVALID, "the options use a member that version %s lacks",
                            pst_version());
    }
    return PST_OK;
}

static const struct {
    uint64_t cap;
    const char *phrase;
} phrases[] = {
    {PST_CAP_STAT, "read attributes"},
    {PST_CAP_PUT, "write objects"},
    {PST_CAP_REMOVE, "delete objects"},
    {PST_CAP_LIST, "list keys"},
    {PST_CAP_LIST_ORDERED, "list in key order: ask for it unordered"},
    {PST_CAP_COPY, "copy objects: read and write instead"},
    {PST_CAP_RENAME, "rename objects: copy and delete instead"},
    {PST_CAP_CONTAINER, "create, delete or list containers"},
    {PST_CAP_PRESIGN, "presign URLs"},
    {PST_CAP_CLEANUP, "clean up after writers"},
    {PST_CAP_READ_IF_MATCH, "read on the condition of an etag"},
    {PST_CAP_WRITE_IF_MATCH, "replace an object on the condition of its etag"},
    {PST_CAP_CREATE_ONLY, "write on the condition that the key is free"},
    {PST_CAP_USER_META, "keep user metadata"},
    {PST_CAP_CONTENT_TYPE, "keep content type, encoding and the like"},
    {PST_CAP_COPY_ACROSS, "copy from another container: read and write instead"},
    {PST_CAP_UPLOAD_CONDITIONAL, "write on a condition"},
    {PST_CAP_VERSIONS, "read, delete or list old versions"},
    {PST_CAP_TAGS, "keep tags"},
};

pst_rc pst_verb_need(const struct pst_port *port, uint64_t caps, pst_error *err)
{
    uint64_t missing = caps & ~port->info.caps;
    if (!missing)
        return PST_OK;
    for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++) {
        if (missing & phrases[i].cap)
            return pst_fail(err, PST_E_UNIMPLEMENTED, "%s cannot %s", port->uri, phrases[i].phrase);
    }
    return pst_fail(err, PST_E_UNIMPLEMENTED, "%s cannot do this", port->uri);
}

pst_rc pst_verb_check_key(const struct pst_port *port, pst_str key, pst_error *err)
{
    if (key.len == 0)
        return pst_fail(err, PST_E_INVALID, "the key is empty");
    if (port->limits.key_max > 0 && key.len > port->limits.key_max)
        return pst_fail(err, PST_E_INVALID, "the key has %zu bytes, the store takes %u", key.len,
                        (unsigned)port->limits.key_max);
    return PST_OK;
}

pst_rc pst_verb_check_version(const struct pst_port *port, pst_str version, pst_error *err)
{
    return version.len > 0 ? pst_verb_need(port, PST_CAP_VERSIONS, err) : (pst_rc)PST_OK;
}

pst_rc pst_verb_begin(pst_store *store, enum pst_slot slot, uint64_t caps, pst_str key,
                      uint32_t flags, struct pst_task **out, pst_error *err)
{
    struct pst_port *port = NULL;
    pst_rc rc = pst_store_port(store, &port, err);
    if (rc != PST_OK)
        return rc;
    rc = pst_verb_need(port, caps, err);
    if (rc == PST_OK && !((flags & PST_VERB_ANY_KEY) && key.len == 0))
        rc = pst_verb_check_key(port, key, err);
    if (rc == PST_OK && !(*out = pst_task_new(port, slot, NULL)))
        rc = pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    if (rc != PST_OK)
        pst_fail_at(port, pst_slot_name(slot), key, rc, err, err);
    pst_port_unref(port);
    return rc;
}

/* ---- writes ----------------------------------------------------------------------------------- */

static pst_rc check_attr(const struct pst_port *port, const pst_attr *attr, pst_error *err)
{
    uint64_t caps = 0, meta_bytes = 0;
    if (attr->content_type.len || attr->content_encoding.len || attr->content_language.len ||
        attr->content_disposition.len || attr->cache_control.len)
        caps |= PST_CAP_CONTENT_TYPE;
    if (attr->n_user_meta > 0)
        caps |= PST_CAP_USER_META;
    if (attr->n_tags > 0)
        caps |= PST_CAP_TAGS;
    for (size_t i = 0; i < attr->n_user_meta; i++) {
        if (attr->user_meta[i].key.len == 0)
            return pst_fail(err, PST_E_INVALID, "user metadata with an empty name");
        meta_bytes += attr->user_meta[i].key.len + attr->user_meta[i].value.len;
    }
    for (size_t i = 0; i < attr->n_tags; i++) {
        if (attr->tags[i].key.len == 0)
            return pst_fail(err, PST_E_INVALID, "a tag with an empty name");
    }
    if (port->limits.user_meta_max > 0 && meta_bytes > port->limits.user_meta_max)
        return pst_fail(err, PST_E_INVALID, "user metadata has %llu bytes, the store takes %u",
                        (unsigned long long)meta_bytes, (unsigned)port->limits.user_meta_max);
    return pst_verb_need(port, caps, err);
}

static pst_rc check_condition(const struct pst_port *port, const pst_write_options *options,
                              pst_error *err)
{
    uint64_t caps = 0;
    if (options->flags & ~PST_WRITE_CREATE_ONLY)
        return pst_fail(err, PST_E_INVALID, "unknown flags 0x%x", (unsigned)options->flags);
    if (options->flags & PST_WRITE_CREATE_ONLY)
        caps |= PST_CAP_CREATE_ONLY;
    if (options->if_match.len > 0)
        caps |= PST_CAP_WRITE_IF_MATCH;
    if (caps == (PST_CAP_CREATE_ONLY | PST_CAP_WRITE_IF_MATCH))
        return pst_fail(err, PST_E_INVALID, "CREATE_ONLY and if_match exclude each other");
    return pst_verb_need(port, caps, err);
}

pst_rc pst_write_plan_init(const struct pst_port *port, const pst_write_options *given,
                           struct pst_write_plan *out, pst_error *err)
{
    memset(out, 0, sizeof(*out));
    pst_rc rc = pst_options_take(&out->options, sizeof(out->options), given, err);
    out->options.struct_size = sizeof(out->options);
    if (rc == PST_OK)
        rc = check_condition(port, &out->options, err);
    if (rc == PST_OK)
        rc = pst_options_take(&out->attr, sizeof(out->attr), out->options.attr, err);
    if (rc == PST_OK)
        rc = check_attr(port, &out->attr, err);
    if (rc == PST_OK && (out->options.sums & ~(PST_SUMS_CRC | PST_SUMS_DIGEST)))
        rc = pst_fail(err, PST_E_UNIMPLEMENTED, "unknown sums 0x%x", (unsigned)out->options.sums);
    if (rc == PST_OK)
        rc = pst_compress_check(&out->options, err);
    if (rc != PST_OK)
        return rc;
    out->has_attr = out->options.attr != NULL;
    out->attr.struct_size = sizeof(out->attr);
    if (out->options.flags & PST_WRITE_CREATE_ONLY)
        out->flags |= PST_PUT_CREATE_ONLY;
    out->sums = (out->options.sums | port->info.want_sums) & (PST_SUMS_CRC | PST_SUMS_DIGEST);
    return PST_OK;
}
