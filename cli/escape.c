/* Keys as file names, one to one.
 *
 * A key is any bytes; a path has components that are not empty, not "." or "..", at most 255 bytes
 * long and free of NUL. The name of a key is the key itself, except that
 *
 *   %        becomes %25, so that every '%' in a name starts one of these forms
 *   NUL      becomes %00
 *   . ..     as a whole component become %2E %2E%2E
 *   (empty)  as a whole component becomes %-       "a//b" -> "a/%-/b", "a/" -> "a/%-"
 *   a dot that begins a component beginning with ".penstock-" becomes %2E: such names are those of
 *            temporary files
 *   a component that is longer than 253 bytes by then is cut into directories, each piece but the
 *            last ending in %+
 *
 * and that a component may end in the mark %= (escape.h). 253 and not 255 leaves room for the mark.
 * A piece is never cut inside a form, so pieces can be told apart and joined again.
 *
 * Backwards, a name is accepted only if its key has exactly that name, marks aside: "%41" or a stray
 * '%' is refused, because two files for one key would overwrite each other on their way back.
 *
 * Pure functions on bytes; memory is the caller's. */
#include "escape.h"

#include <string.h>

enum { PIECE_BYTES = 253, CUT_BYTES = PIECE_BYTES - 2 };

static const char hex_digits[] = "0123456789ABCDEF";

/* The form of byte `c`, of up to 3 bytes. */
static size_t escape_byte(unsigned char c, bool is_forced, char *form)
{
    if (c != '%' && c != '\0' && !is_forced) {
        form[0] = (char)c;
        return 1;
    }
    form[0] = '%';
    form[1] = hex_digits[c >> 4];
    form[2] = hex_digits[c & 15];
    return 3;
}

/* How many leading dots of the component must be escaped? */
static size_t count_forced_dots(const char *component, size_t len)
{
    static const char temporary[] = ".penstock-";
    if (len == 1 && component[0] == '.')
        return 1;
    if (len == 2 && component[0] == '.' && component[1] == '.')
        return 2;
    return len >= sizeof(temporary) - 1 && memcmp(component, temporary, sizeof(temporary) - 1) == 0;
}

/* Write one component; `len` may be 0. */
static size_t escape_component(const char *component, size_t len, char *out)
{
    size_t n = 0, rest = 0, n_forced = count_forced_dots(component, len);
    char form[3];
    if (len == 0) {
        memcpy(out, "%-", 2);
        return 2;
    }
    for (size_t i = 0; i < len; i++)
        rest += escape_byte((unsigned char)component[i], i < n_forced, form);

    size_t room = rest <= PIECE_BYTES ? PIECE_BYTES : CUT_BYTES;
    for (size_t i = 0; i < len; i++) {
        size_t n_form = escape_byte((unsigned char)component[i], i < n_forced, form);
        if (n_form > room) {
            memcpy(out + n, "%+/", 3);
            n += 3;
            room = rest <= PIECE_BYTES ? PIECE_BYTES : CUT_BYTES;
        }
        memcpy(out + n, form, n_form);
        n += n_form;
        room -= n_form;
        rest -= n_form;
    }
    return n;
}

size_t cli_escape_key(pst_str key, char *out)
{
    size_t n = 0, begin = 0;
    for (;;) {
        size_t end = begin;
        while (end < key.len && key.ptr[end] != '/')
            end++;
        n += escape_component(key.len > 0 ? key.ptr + begin : "", end - begin, out + n);
        if (end >= key.len)
            return n;
        out[n++] = '/';
        begin = end + 1;
    }
}

static bool ends_with(const char *text, size_t len, const char *form)
{
    return len >= 2 && memcmp(text + len - 2, form, 2) == 0;
}

size_t cli_escape_unmark(pst_str name, char *out)
{
    size_t n = 0, begin = 0;
    for (;;) {
        size_t end = begin;
        while (end < name.len && name.ptr[end] != '/')
            end++;
        size_t len = end - begin;
        if (len > 2 && ends_with(name.ptr + begin, len, CLI_ESCAPE_MARK))
            len -= 2;
        if (len > 0)
            memmove(out + n, name.ptr + begin, len);
        n += len;
        if (end >= name.len)
            return n;
        out[n++] = '/';
        begin = end + 1;
    }
}

static int read_hex(char c)
{
    const char *at = c != '\0' ? strchr(hex_digits, c) : NULL;
    return at ? (int)(at - hex_digits) : -1;
}

/* Undo the forms, trusting nothing but the bounds: whether the name was well formed shows when the
 * key is escaped again. */
static size_t unescape_forms(const char *name, size_t len, char *key)
{
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        if (name[i] != '%') {
            key[n++] = name[i++];
        } else if (i + 2 < len && name[i + 1] == '+' && name[i + 2] == '/') {
            i += 3;
        } else if (i + 1 < len && name[i + 1] == '-') {
            i += 2;
        } else if (i + 2 < len && read_hex(name[i + 1]) >= 0 && read_hex(name[i + 2]) >= 0) {
            key[n++] = (char)(read_hex(name[i + 1]) * 16 + read_hex(name[i + 2]));
            i += 3;
        } else {
            key[n++] = name[i++];
        }
    }
    return n;
}

bool cli_unescape_key(pst_str name, char *out, size_t *len)
{
    char *plain = out + name.len, *again = plain + name.len;
    size_t n_plain = cli_escape_unmark(name, plain);
    *len = unescape_forms(plain, n_plain, out);
    return cli_escape_key(pst_str_of(out, *len), again) == n_plain &&
           memcmp(again, plain, n_plain) == 0;
}
