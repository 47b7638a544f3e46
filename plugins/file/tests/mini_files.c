/* mini_files.c - fixtures, children that run with fewer rights or system calls, and files. */
#include "mini_host.h"

#include <dirent.h>
#include <ftw.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

int mini_setup_with(void **state, const char *option)
{
    struct mini_fixture *f = calloc(1, sizeof(*f));
    char *root = NULL;

    if (!f)
        return -1;
    f->dir = mini_temp_dir();
    if (asprintf(&root, "root=%s", f->dir) < 0)
        return -1;
    const char *const options[] = {root, option, NULL};
    pst_rc rc = mini_open(&f->mini, options);
    free(root);
    *state = f;
    return rc == PST_OK ? 0 : -1;
}

int mini_setup(void **state)
{
    return mini_setup_with(state, NULL);
}

int mini_teardown(void **state)
{
    struct mini_fixture *f = *state;

    mini_close(&f->mini);
    mini_remove_tree(f->dir);
    free(f);
    return 0;
}

int mini_run_child(int (*fn)(void *), void *arg, int as_nobody)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (as_nobody && geteuid() == 0 &&
            (setgroups(0, NULL) != 0 || setresgid(65534, 65534, 65534) != 0 ||
             setresuid(65534, 65534, 65534) != 0))
            _exit(101);
        _exit(fn(arg));
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

int mini_forbid(long number, int sys_errno)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)sys_errno),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

char *mini_temp_dir(void)
{
    const char *base = getenv("TMPDIR");
    char *dir = NULL;

    if (asprintf(&dir, "%s/penstock-file-XXXXXX", base && base[0] ? base : "/tmp") < 0 ||
        !mkdtemp(dir))
        abort();
    return dir;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void mini_remove_tree(char *dir)
{
    nftw(dir, remove_entry, 32, FTW_DEPTH | FTW_PHYS);
    free(dir);
}

char *mini_path(const char *dir, const char *name)
{
    char *path = NULL;

    if (asprintf(&path, "%s/%s", dir, name) < 0)
        abort();
    return path;
}

void mini_write_file(const char *dir, const char *name, const char *text)
{
    char *path = mini_path(dir, name);
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
    free(path);
}

char *mini_read_file(const char *dir, const char *name)
{
    char *path = mini_path(dir, name);
    FILE *f = fopen(path, "r");
    char *text = NULL;
    size_t cap = 0;

    free(path);
    if (!f)
        return NULL;
    ssize_t len = getdelim(&text, &cap, 0, f);
    if (len < 0) {
        free(text);
        text = strdup("");
    }
    fclose(f);
    return text;
}

int mini_count_names(const char *dir)
{
    DIR *d = opendir(dir);
    int n = 0;

    if (!d)
        return -1;
    for (const struct dirent *e = readdir(d); e; e = readdir(d))
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

void mini_pass_tick(const char *dir, const char *name)
{
    char *path = mini_path(dir, name);
    struct timespec now;
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    do
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
    while (now.tv_sec < st.st_ctim.tv_sec ||
           (now.tv_sec == st.st_ctim.tv_sec && now.tv_nsec <= st.st_ctim.tv_nsec));
    free(path);
}
