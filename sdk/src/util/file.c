#include "util/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int pst_file_read(const char *path, size_t max, char **out, size_t *len)
{
    struct stat st;
    char *data = NULL;
    size_t room, used = 0;
    int failure = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return errno;
    if (fstat(fd, &st) != 0) {
        failure = errno;
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        failure = ENODEV;
        goto out;
    }
    if ((uintmax_t)st.st_size > max) {
        failure = EFBIG;
        goto out;
    }
    /* One byte more than it should be, to see that it did not grow; files of /proc tell size 0. */
    room = st.st_size > 0 ? (size_t)st.st_size + 1 : max + 1;
    data = malloc(room + 1);
    if (!data) {
        failure = ENOMEM;
        goto out;
    }
    for (;;) {
        ssize_t n = read(fd, data + used, room - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            failure = errno;
            goto out;
        }
        used += (size_t)n;
        if (n == 0)
            break;
        if (used == room) {
            failure = room > max ? EFBIG : EAGAIN; /* somebody is writing it */
            goto out;
        }
    }
    data[used] = '\0';
    *out = data;
    *len = used;
    data = NULL;
out:
    free(data);
    close(fd);
    return failure;
}
