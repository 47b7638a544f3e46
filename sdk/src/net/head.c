#include "net/head.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_TEXT_BYTES = 1024, FIRST_FIELDS = 24, KEPT_BYTES = 16 * 1024 };

static int is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static int reserve_text(struct pst_head *head, size_t len)
{
    size_t room = head->room ? head->room : FIRST_TEXT_BYTES;
    if (head->text && head->len + len <= head->room)
        return 1;
    while (room < head->len + len)
        room *= 2;
    char *text = realloc(head->text, room);
    if (!text)
        return 0;
    head->text = text;
    head->room = room;
    return 1;
}

static int reserve_field(struct pst_head *head)
{
    if (head->n < head->n_room)
        return 1;
    size_t room = head->n_room ? head->n_room * 2 : FIRST_FIELDS;
    pst_kv *fields = reallocarray(head->fields, room, sizeof(*fields));
    if (!fields)
        return 0;
    head->fields = fields;
    head->n_room = room;
    return 1;
}

/* While the text may still move, a pst_str of it holds its offset. */
static pst_str at_offset(size_t offset, size_t len)
{
    return pst_str_of((const char *)(uintptr_t)(offset + 1), len);
}

static void resolve(const struct pst_head *head, pst_str *s)
{
    s->ptr = head->text + ((uintptr_t)s->ptr - 1);
}

static int name_is(const char *name, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(name, word, len) == 0;
}

static int take_length(struct pst_head *head, const char *value, size_t len)
{
    uint64_t length = 0;
    if (len == 0)
        return PST_HEAD_MALFORMED;
    for (size_t i = 0; i < len; i++) {
        if (value[i] < '0' || value[i] > '9' || length > (UINT64_MAX - 9) / 10)
            return PST_HEAD_MALFORMED;
        length = length * 10 + (uint64_t)(value[i] - '0');
    }
    if (head->content_length != PST_UNKNOWN && head->content_length != length)
        return PST_HEAD_MALFORMED;
    head->content_length = length;
    return PST_HEAD_MORE;
}

static int add_field(struct pst_head *head, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);
    if (!colon)
        return PST_HEAD_MORE; /* libcurl has let it pass; it says nothing */
    size_t name_len = (size_t)(colon - line);
    const char *value = colon + 1;
    size_t value_len = len - name_len - 1;
    while (name_len > 0 && is_blank(line[name_len - 1]))
        name_len--;
    while (value_len > 0 && is_blank(*value)) {
        value++;
        value_len--;
    }
    if (!reserve_text(head, name_len + value_len) || !reserve_field(head))
        return PST_HEAD_NO_MEMORY;
    char *name = head->text + head->len;
    for (size_t i = 0; i < name_len; i++)
        name[i] = (char)(line[i] >= 'A' && line[i] <= 'Z' ? line[i] + ('a' - 'A') : line[i]);
    if (value_len > 0)
        memcpy(name + name_len, value, value_len);
    head->fields[head->n].key = at_offset(head->len, name_len);
    head->fields[head->n].value = at_offset(head->len + name_len, value_len);
    head->n++;
    head->len += name_len + value_len;
    if (name_is(name, name_len, "content-length"))
        return take_length(head, value, value_len);
    if (name_is(name, name_len, "transfer-encoding"))
        head->is_encoded = 1;
    return PST_HEAD_MORE;
}

/* RFC 9112, 5.2: a line that begins with a blank goes on with the value before it. */
static int extend_field(struct pst_head *head, const char *line, size_t len)
{
    while (len > 0 && is_blank(*line)) {
        line++;
        len--;
    }
    if (head->n == 0 || len == 0)
        return PST_HEAD_MORE;
    if (!reserve_text(head, len + 1))
        return PST_HEAD_NO_MEMORY;
    head->text[head->len] = ' ';
    memcpy(head->text + head->len + 1, line, len);
    head->len += len + 1;
    head->fields[head->n - 1].value.len += len + 1;
    return PST_HEAD_MORE;
}

static void clear(struct pst_head *head)
{
    head->len = 0;
    head->n = 0;
    head->status = 0;
    head->is_complete = 0;
    head->is_encoded = 0;
    head->content_length = PST_UNKNOWN;
}

static void begin(struct pst_head *head, const char *line, size_t len)
{
    const char *p = memchr(line, ' ', len);
    clear(head);
    for (; p && p < line + len && is_blank(*p); p++) {}
    for (int i = 0; p && i < 3 && p < line + len && *p >= '0' && *p <= '9'; i++, p++)
        head->status = head->status * 10 + (uint32_t)(*p - '0');
}

int pst_head_add(struct pst_head *head, const char *line, size_t len)
{
    head->n_bytes += len;
    if (head->n_bytes > PST_HEAD_MAX_BYTES || len > PST_HEAD_LINE_MAX_BYTES)
        return PST_HEAD_TOO_LONG;
    if (head->is_complete && head->status != 417) /* libcurl may try again after a 417 */
        return PST_HEAD_MORE;
    while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == '\n' || is_blank(line[len - 1])))
        len--;
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        begin(head, line, len);
        return PST_HEAD_MORE;
    }
    if (head->is_complete)
        return PST_HEAD_MORE;
    if (len > 0)
        return is_blank(*line) ? extend_field(head, line, len) : add_field(head, line, len);
    if (head->is_encoded)
        head->content_length = PST_UNKNOWN;
    if (head->status < 200)
        return PST_HEAD_MORE;
    for (size_t i = 0; i < head->n; i++) {
        resolve(head, &head->fields[i].key);
        resolve(head, &head->fields[i].value);
    }
    head->is_complete = 1;
    return PST_HEAD_COMPLETE;
}

void pst_head_reset(struct pst_head *head)
{
    if (head->room > KEPT_BYTES || head->n_room * sizeof(*head->fields) > KEPT_BYTES)
        pst_head_fini(head);
    clear(head);
    head->n_bytes = 0;
}

void pst_head_fini(struct pst_head *head)
{
    free(head->text);
    free(head->fields);
    memset(head, 0, sizeof(*head));
}
