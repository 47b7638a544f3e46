/* escape.h - file names that stand for keys which no file system can hold.
 *
 * The mapping is one to one, both ways; docs/cli.md, "Transfers", has it in words. A name is a
 * relative path: components of 1 to 255 bytes between slashes, none of them "." or "..". */
#ifndef PST_CLI_ESCAPE_H
#define PST_CLI_ESCAPE_H

#include <stdbool.h>

#include <penstock/base.h>

/* The most bytes that the name of a key of `key_len` bytes can need. */
#define CLI_ESCAPED_MAX(key_len) (3 * (key_len) + 3 * ((key_len) / 64) + 8)

/* Write the name of `key` to `out`, which holds CLI_ESCAPED_MAX(key.len) bytes. Returns its length;
 * nothing is NUL-terminated. An empty key has the name of one empty component. */
size_t cli_escape_key(pst_str key, char *out);

/* Working space of cli_unescape_key. */
#define CLI_UNESCAPE_BYTES(name_len) (2 * (name_len) + CLI_ESCAPED_MAX(name_len))

/* Write the key that `name` stands for to the front of `out`, which holds CLI_UNESCAPE_BYTES(name.len)
 * bytes. False: no key has this name, so it was not made by cli_escape_key. Marks are read over. */
bool cli_unescape_key(pst_str name, char *out, size_t *len);

/* A key can be an object and a directory of others at once; a path cannot be a file and a directory.
 * Then one of the two carries this mark at the end of its component. It adds nothing to the key. */
#define CLI_ESCAPE_MARK "%="

/* Write `name` without its marks to `out`, which holds name.len bytes; returns the length. */
size_t cli_escape_unmark(pst_str name, char *out);

#endif
