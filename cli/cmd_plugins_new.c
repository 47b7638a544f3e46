/* cmd_plugins_new.c - the start of a vendor's plugin, from the templates in scaffold/.
 *
 * The templates are a real plugin called acme, which CI builds and tests; the build turns them into
 * the table cli_scaffold. Here "acme" becomes the new name, "ACME" the same in upper case. The folder
 * must not exist or be empty, and nothing that is there is ever overwritten. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scaffold.h"

/* A name is part of C identifiers, of a URI scheme and of file names. */
static bool is_name(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > 32 || !(name[0] >= 'a' && name[0] <= 'z'))
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") == len;
}

static void add_renamed(struct cli_text_buf *out, const char *text, size_t len, const char *name)
{
    for (size_t i = 0; i < len;) {
        bool is_lower = len - i >= 4 && memcmp(text + i, "acme", 4) == 0;
        bool is_upper = len - i >= 4 && memcmp(text + i, "ACME", 4) == 0;
        if (!is_lower && !is_upper) {
            cli_add(out, text + i++, 1);
            continue;
        }
        for (const char *p = name; *p; p++) {
            char c = is_upper ? (char)toupper((unsigned char)*p) : *p;
            cli_add(out, &c, 1);
        }
        i += 4;
    }
}

static int write_file(struct cli *cli, int dir_fd, const char *dir,
                      const struct cli_scaffold_file *file, const char *name)
{
    struct cli_text_buf file_name = {0}, text = {0};
    size_t done = 0;
    int code = CLI_OK;
    int fd;

    add_renamed(&file_name, file->name, strlen(file->name), name);
    cli_add(&file_name, "", 1);
    add_renamed(&text, file->data, file->size, name);
    fd = openat(dir_fd, file_name.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                file->is_executable ? 0777 : 0666);
    while (fd >= 0 && done < text.len) {
        ssize_t n = write(fd, text.data + done, text.len - done);
        if (n < 0)
            break;
        done += (size_t)n;
    }
    if (fd < 0 || done < text.len)
        code = cli_fail_errno(cli, errno, "%s/%s", dir, file_name.data);
    if (fd >= 0 && close(fd) != 0 && code == CLI_OK)
        code = cli_fail_errno(cli, errno, "%s/%s", dir, file_name.data);
    cli_text_fini(&file_name);
    cli_text_fini(&text);
    return code;
}

/* Make the directory, or take one that is empty. */
static int open_directory(struct cli *cli, const char *dir, int *dir_fd)
{
    bool is_empty = true;
    const struct dirent *entry;
    DIR *stream;

    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return cli_fail_errno(cli, errno, "%s", dir);
    stream = opendir(dir);
    if (!stream)
        return cli_fail_errno(cli, errno, "%s", dir);
    while (is_empty && (entry = readdir(stream)) != NULL)
        is_empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    *dir_fd = dup(dirfd(stream));
    closedir(stream);
    if (!is_empty) {
        if (*dir_fd >= 0)
            close(*dir_fd);
        return cli_fail(cli, CLI_CONFLICT, "%s: is there already and not empty", dir);
    }
    return *dir_fd >= 0 ? CLI_OK : cli_fail_errno(cli, errno, "%s", dir);
}

static int run_new(struct cli *cli, const struct cli_args *args)
{
    const char *name = args->operands[0];
    const char *dir = cli_text(args, "dir") ? cli_text(args, "dir") : name;
    int code, dir_fd = -1;

    if (!is_name(name))
        return cli_usage(cli,
                         "'%s' is no name for a plugin: lower case letters and digits, a letter "
                         "first, at most 32",
                         name);
    code = open_directory(cli, dir, &dir_fd);
    if (code)
        return code;
    for (size_t i = 0; i < cli_n_scaffold_files && code == CLI_OK; i++)
        code = write_file(cli, dir_fd, dir, &cli_scaffold_files[i], name);
    close(dir_fd);
    if (code == CLI_OK)
        cli_printf(cli, "%s: a plugin for %s://, start with its README.md\n", dir, name);
    return code;
}

static const struct cli_option options[] = {
    {0, CLI_TEXT, "dir", "DIR", "the folder to make (default: the name)", NULL, 0, 0},
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

const struct cli_verb cli_cmd_plugins_new = {
    .name = "plugins new",
    .operands = "NAME",
    .summary = "start a plugin of your own: a folder that builds and passes the kit",
    .details =
        "Makes a folder with CMakeLists.txt, NAME.c, README.md and a test script. As it is, the "
        "plugin keeps objects in a directory; replace that with your storage.\n\n"
        "  penstock plugins new acme && cd acme\n"
        "  cmake -B build && cmake --build build && ./test",
    .options = options,
    .min_operands = 1,
    .max_operands = 1,
    .complete = CLI_COMPLETE_NOTHING,
    .run = run_new,
};
