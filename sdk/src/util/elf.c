#include "util/elf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bytes read at `offset`, less than asked for only at the end; -1 with errno. */
static ssize_t read_at(int fd, void *out, size_t len, uint64_t offset)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pread(fd, (char *)out + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static int is_native(const ElfW(Ehdr) * header)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    const unsigned char data = ELFDATA2LSB;
#else
    const unsigned char data = ELFDATA2MSB;
#endif
    return memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
           header->e_ident[EI_CLASS] == (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) &&
           header->e_ident[EI_DATA] == data && header->e_phentsize == sizeof(ElfW(Phdr));
}

static void reach(uint64_t offset, uint64_t len, uint64_t *extent)
{
    uint64_t end;

    if (__builtin_add_overflow(offset, len, &end))
        end = UINT64_MAX;
    if (end > *extent)
        *extent = end;
}

static int extent_of(int fd, uint64_t *needs_bytes)
{
    ElfW(Ehdr) header;
    ElfW(Phdr) segment;
    ssize_t n = read_at(fd, &header, sizeof(header), 0);

    if (n < 0)
        return errno;
    if (n != (ssize_t)sizeof(header) || !is_native(&header))
        return 0;
    reach(header.e_phoff, (uint64_t)header.e_phnum * header.e_phentsize, needs_bytes);
    reach(header.e_shoff, (uint64_t)header.e_shnum * header.e_shentsize, needs_bytes);
    for (unsigned i = 0; i < header.e_phnum; i++) {
        n = read_at(fd, &segment, sizeof(segment), header.e_phoff + i * sizeof(segment));
        if (n < 0)
            return errno;
        if (n != (ssize_t)sizeof(segment))
            return 0; /* the table itself is cut, which is known by now */
        if (segment.p_type == PT_LOAD)
            reach(segment.p_offset, segment.p_filesz, needs_bytes);
    }
    return 0;
}

int pst_elf_extent(const char *path, uint64_t *has_bytes, uint64_t *needs_bytes)
{
    struct stat st;
    int failure = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    *has_bytes = 0;
    *needs_bytes = 0;
    if (fd < 0)
        return errno;
    if (fstat(fd, &st) != 0)
        failure = errno;
    else if (!S_ISREG(st.st_mode))
        failure = ENODEV;
    else
        failure = extent_of(fd, needs_bytes);
    if (failure == 0)
        *has_bytes = (uint64_t)st.st_size;
    close(fd);
    return failure;
}
