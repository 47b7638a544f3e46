/* transfer_mark.c - marks of escaped names (escape.h), which say that a name gave way to another. */
#include <string.h>
#include <sys/stat.h>

#include "escape.h"
#include "transfer.h"

static bool is_type(const char *path, mode_t type)
{
    struct stat st;
    return lstat(path, &st) == 0 && (st.st_mode & S_IFMT) == type;
}

void transfer_mark_name(const char *dir, pst_str escaped, struct cli_text_buf *out)
{
    struct cli_text_buf path = {0};
    size_t begin = 0;

    out->len = 0;
    cli_addf(&path, "%s", dir);
    for (;;) {
        const char *slash = memchr(escaped.ptr + begin, '/', escaped.len - begin);
        size_t end = slash ? (size_t)(slash - escaped.ptr) : escaped.len;
        mode_t wanted = slash ? S_IFDIR : S_IFREG, other = slash ? S_IFREG : S_IFDIR;
        size_t path_len = path.len;

        cli_addf(&path, "/%.*s%s", (int)(end - begin), escaped.ptr + begin, CLI_ESCAPE_MARK);
        bool is_marked = is_type(path.data, wanted);
        path.len = path_len;
        cli_addf(&path, "/%.*s", (int)(end - begin), escaped.ptr + begin);
        is_marked = is_marked || is_type(path.data, other);
        cli_add(out, escaped.ptr + begin, end - begin);
        if (is_marked) {
            cli_addf(&path, "%s", CLI_ESCAPE_MARK);
            cli_addf(out, "%s", CLI_ESCAPE_MARK);
        }
        if (!slash)
            break;
        cli_add(out, "/", 1);
        begin = end + 1;
    }
    cli_text_fini(&path);
}

bool transfer_is_marked_rightly(const char *dir, pst_str name)
{
    struct cli_text_buf path = {0};
    size_t n_mark = strlen(CLI_ESCAPE_MARK);
    bool is_right = true;

    for (size_t end = 1; end <= name.len && is_right; end++) {
        bool is_dir = end < name.len && name.ptr[end] == '/';
        if ((end < name.len && !is_dir) || end < n_mark ||
            memcmp(name.ptr + end - n_mark, CLI_ESCAPE_MARK, n_mark) != 0)
            continue;
        path.len = 0;
        cli_addf(&path, "%s/%.*s", dir, (int)(end - n_mark), name.ptr);
        is_right = !is_type(path.data, is_dir ? S_IFDIR : S_IFREG);
    }
    cli_text_fini(&path);
    return is_right;
}
