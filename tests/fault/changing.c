/* changing.c - a file of blocks that changes, and the states it can be in.
 *
 * Each block begins with the number of the generation that wrote it. Eight bytes change at a time, and the
 * next ones only once the file's mtime has moved, so two states with the same times differ by one block at
 * most, which no reader could tell from either of them. */
#include "changing.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* In the writer's process there is no test to fail. */
static void must(int is_so, const char *what)
{
    if (is_so)
        return;
    perror(what);
    _exit(1);
}

static struct stat look(int fd)
{
    struct stat st;
    must(fstat(fd, &st) == 0, "fstat");
    return st;
}

static int is_moved(const struct stat *before, const struct stat *now)
{
    return before->st_mtim.tv_sec != now->st_mtim.tv_sec ||
           before->st_mtim.tv_nsec != now->st_mtim.tv_nsec;
}

static void set_block(int fd, size_t block, uint64_t value)
{
    struct stat before = look(fd), now;
    do {
        must(pwrite(fd, &value, sizeof(value), (off_t)(block * BLOCK)) == sizeof(value), "pwrite");
        now = look(fd);
    } while (!is_moved(&before, &now));
}

static void set_size(int fd, size_t blocks)
{
    struct stat before = look(fd), now;
    do {
        must(ftruncate(fd, (off_t)(blocks * BLOCK)) == 0, "ftruncate");
        now = look(fd);
    } while (!is_moved(&before, &now));
}

static int open_object(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    must(fd >= 0, path);
    return fd;
}

void rewrite_in_place(struct writer *w)
{
    int fd = open_object(w->path);
    w->generation++;
    for (size_t i = 0; i < BLOCKS; i++)
        set_block(fd, i, w->generation);
    close(fd);
}

void truncate_it(struct writer *w)
{
    int fd = open_object(w->path);
    set_size(fd, HALF);
    close(fd);
}

void grow_it(struct writer *w)
{
    int fd = open_object(w->path);
    set_size(fd, BLOCKS);
    for (size_t i = HALF; i < BLOCKS; i++)
        set_block(fd, i, w->generation);
    close(fd);
}

void replace_it(struct writer *w)
{
    int fd = open(w->temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd >= 0, w->temporary);
    w->generation += 2; /* a state that is no rewriting of the one before */
    must(ftruncate(fd, (off_t)(BLOCKS * BLOCK)) == 0, "ftruncate");
    for (size_t i = 0; i < BLOCKS; i++)
        must(pwrite(fd, &w->generation, 8, (off_t)(i * BLOCK)) == 8, "pwrite");
    close(fd);
    must(rename(w->temporary, w->path) == 0, "rename");
}

void delete_it(struct writer *w)
{
    must(unlink(w->path) == 0, "unlink");
}

void rewrite_a_later_block(struct writer *w)
{
    int fd = open_object(w->path);
    set_block(fd, BLOCKS - 1, w->generation - 1);
    close(fd);
}

void rewrite_half(struct writer *w)
{
    int fd = open_object(w->path);
    w->generation++;
    for (size_t i = 0; i < HALF; i++)
        set_block(fd, i, w->generation);
    close(fd);
}

/* ---- judging ----------------------------------------------------------------------------------- */

void see(struct sight *sight, size_t offset, const char *bytes, size_t len)
{
    assert_int_equal(offset % BLOCK, 0);
    assert_int_equal(len % BLOCK, 0);
    for (size_t at = 0; at < len; at += BLOCK) {
        uint64_t value;
        assert_true(sight->n < BLOCKS);
        memcpy(&value, bytes + at, sizeof(value));
        for (size_t i = sizeof(value); i < BLOCK; i++)
            assert_int_equal(bytes[at + i], 0);
        sight->places[sight->n] = (offset + at) / BLOCK;
        sight->values[sight->n++] = value;
    }
}

/* Was the file ever like this? */
static int is_one_state(const struct sight *sight)
{
    size_t n_steps = 0, step = 0;
    for (size_t i = 1; i < sight->n; i++) {
        if (sight->values[i] == sight->values[i - 1])
            continue;
        n_steps++;
        step = i;
    }
    if (n_steps == 0)
        return 1;
    uint64_t before = sight->values[0], after = sight->values[sight->n - 1];
    return n_steps == 1 && (after + 1 == before || (after == 0 && sight->places[step] >= HALF));
}

void judge(const char *what, const struct sight *sight)
{
    if (is_one_state(sight))
        return;
    for (size_t i = 0; i < sight->n; i++)
        print_message("%zu:%llu ", sight->places[i], (unsigned long long)sight->values[i]);
    fail_msg("%s: bytes of two versions", what);
}
