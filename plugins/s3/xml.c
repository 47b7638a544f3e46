/* xml.c - reading S3's XML with expat.
 *
 * A document comes whole (a listing of 1,000 keys is a few hundred KiB) and is walked once; what the
 * caller gets is the end of each element with its path and, for a leaf, its text. Namespaces are
 * dropped: stores disagree about them.
 *
 * Documents come from the network. There is no DTD in any of S3's, so that one is refused outright, and
 * with it every entity but the five of XML itself; depth, names and text have ceilings. Character
 * references to control characters are no XML 1.0 and fail the parse: listings ask for encoding-type=url
 * for that reason. */
#include "xml.h"

#include <expat.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 16, PATH_MAX_BYTES = 512, LEAF_MAX_BYTES = 64 << 10 };

struct walk {
    const struct s3_xml *handler;
    XML_Parser parser;
    pst_rc rc;
    unsigned depth;
    int is_leaf; /* no element has begun since the one that is open */
    size_t path_len[DEPTH_MAX + 1];
    char path[PATH_MAX_BYTES];
    char *text;
    size_t text_len, text_capacity;
};

static void stop(struct walk *walk, pst_rc rc)
{
    if (walk->rc == PST_OK)
        walk->rc = rc;
    XML_StopParser(walk->parser, XML_FALSE);
}

static void XMLCALL on_begin(void *ctx, const XML_Char *name, const XML_Char **attributes)
{
    struct walk *walk = ctx;
    const char *colon = strrchr(name, ':');
    size_t at = walk->path_len[walk->depth];

    (void)attributes;
    if (colon)
        name = colon + 1;
    const size_t len = strlen(name);
    const char *root = walk->depth == 0 ? walk->handler->root : NULL;
    if (walk->depth == DEPTH_MAX || len + 2 > sizeof(walk->path) - at ||
        (root && strcmp(name, root) != 0)) {
        stop(walk, PST_E_DATA_LOSS);
        return;
    }
    if (at > 0)
        walk->path[at++] = '/';
    memcpy(walk->path + at, name, len + 1);
    walk->path_len[++walk->depth] = at + len;
    walk->is_leaf = 1;
    walk->text_len = 0;
    if (walk->handler->begin) {
        const pst_rc rc = walk->handler->begin(walk->handler->ctx, walk->path);
        if (rc != PST_OK)
            stop(walk, rc);
    }
}

static void XMLCALL on_end(void *ctx, const XML_Char *name)
{
    struct walk *walk = ctx;
    pst_str text = pst_str_of("", 0);

    (void)name;
    if (walk->rc != PST_OK)
        return;
    if (walk->is_leaf && walk->text_len > 0) {
        walk->text[walk->text_len] = '\0';
        text = pst_str_of(walk->text, walk->text_len);
    }
    const pst_rc rc = walk->handler->end(walk->handler->ctx, walk->path, text);
    walk->is_leaf = 0;
    walk->text_len = 0;
    walk->depth--;
    walk->path[walk->path_len[walk->depth]] = '\0';
    if (rc != PST_OK)
        stop(walk, rc);
}

/* Leaves of some documents are keys. */
static void wipe_text(struct walk *walk)
{
    if (walk->text)
        explicit_bzero(walk->text, walk->text_capacity);
    free(walk->text);
}

static void XMLCALL on_text(void *ctx, const XML_Char *text, int n)
{
    struct walk *walk = ctx;
    const size_t len = (size_t)n;

    if (!walk->is_leaf || walk->rc != PST_OK)
        return; /* the white space between elements */
    if (walk->text_len + len >= walk->text_capacity) {
        size_t capacity = walk->text_capacity ? walk->text_capacity : 1024;
        while (capacity <= walk->text_len + len)
            capacity *= 2;
        if (capacity > 2 * LEAF_MAX_BYTES) {
            stop(walk, PST_E_DATA_LOSS);
            return;
        }
        char *bigger = malloc(capacity);
        if (!bigger) {
            stop(walk, PST_E_NO_MEMORY);
            return;
        }
        if (walk->text_len > 0)
            memcpy(bigger, walk->text, walk->text_len);
        wipe_text(walk);
        walk->text = bigger;
        walk->text_capacity = capacity;
    }
    memcpy(walk->text + walk->text_len, text, len);
    walk->text_len += len;
    if (walk->text_len > LEAF_MAX_BYTES)
        stop(walk, PST_E_DATA_LOSS);
}

static void XMLCALL on_doctype(void *ctx, const XML_Char *name, const XML_Char *system_id,
                               const XML_Char *public_id, int has_subset)
{
    (void)name;
    (void)system_id;
    (void)public_id;
    (void)has_subset;
    stop(ctx, PST_E_DATA_LOSS);
}

pst_rc s3_xml_parse(pst_str document, const struct s3_xml *handler)
{
    struct walk walk = {.handler = handler, .rc = PST_OK};

    if (document.len == 0 || document.len > INT32_MAX)
        return PST_E_DATA_LOSS;
    walk.parser = XML_ParserCreate(NULL);
    if (!walk.parser)
        return PST_E_NO_MEMORY;
    XML_SetUserData(walk.parser, &walk);
    XML_SetElementHandler(walk.parser, on_begin, on_end);
    XML_SetCharacterDataHandler(walk.parser, on_text);
    XML_SetStartDoctypeDeclHandler(walk.parser, on_doctype);
    if (XML_Parse(walk.parser, document.ptr, (int)document.len, 1) != XML_STATUS_OK &&
        walk.rc == PST_OK)
        walk.rc = XML_GetErrorCode(walk.parser) == XML_ERROR_NO_MEMORY ? PST_E_NO_MEMORY
                                                                       : PST_E_DATA_LOSS;
    XML_ParserFree(walk.parser);
    wipe_text(&walk);
    return walk.rc;
}

size_t s3_xml_escape(pst_str text, char *out, size_t capacity)
{
    size_t n = 0;

    for (size_t i = 0; i < text.len; i++) {
        pst_str piece = pst_str_of(text.ptr + i, 1);
        switch (text.ptr[i]) {
        case '&':
            piece = PST_STR("&amp;");
            break;
        case '<':
            piece = PST_STR("&lt;");
            break;
        case '>':
            piece = PST_STR("&gt;");
            break;
        case '"':
            piece = PST_STR("&quot;");
            break;
        case '\t':
            piece = PST_STR("&#9;");
            break;
        case '\n':
            piece = PST_STR("&#10;");
            break;
        case '\r': /* a parser would make a line feed of it */
            piece = PST_STR("&#13;");
            break;
        default:
            break;
        }
        if (n + piece.len <= capacity)
            memcpy(out + n, piece.ptr, piece.len);
        n += piece.len;
    }
    if (n < capacity)
        out[n] = '\0';
    return n;
}
