/* elf.c - what the plugin's file says about itself, read without loading it.
 *
 * Symbols are taken from the dynamic symbol table by way of the section headers where they are there,
 * else counted through DT_HASH or DT_GNU_HASH. Every offset is checked against the file's length: the
 * file may be anything. Only files of this machine's class and byte order are understood. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kit.h"

typedef ElfW(Ehdr) elf_header;
typedef ElfW(Phdr) elf_segment;
typedef ElfW(Shdr) elf_section;
typedef ElfW(Sym) elf_symbol;
typedef ElfW(Dyn) elf_dynamic;

#if UINTPTR_MAX > UINT32_MAX
#define MY_CLASS ELFCLASS64
#define BIND(info) ELF64_ST_BIND(info)
#else
#define MY_CLASS ELFCLASS32
#define BIND(info) ELF32_ST_BIND(info)
#endif

static bool refuse(struct k_elf *elf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static bool refuse(struct k_elf *elf, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(elf->error, sizeof(elf->error), format, ap);
    va_end(ap);
    return false;
}

/* `n` elements of `size` bytes at `offset`, or NULL if the file ends before. */
static const void *at(const struct k_elf *elf, uint64_t offset, uint64_t n, uint64_t size)
{
    if (offset > elf->len || (size > 0 && n > (elf->len - offset) / size))
        return NULL;
    return elf->map + offset;
}

static const elf_segment *segments(const struct k_elf *elf, size_t *n)
{
    const elf_header *h = (const elf_header *)(const void *)elf->map;
    *n = h->e_phnum;
    return at(elf, h->e_phoff, h->e_phnum, sizeof(elf_segment));
}

/* The file's offset of a virtual address; UINT64_MAX if it is in no segment. */
static uint64_t offset_of(const struct k_elf *elf, uint64_t address)
{
    size_t n = 0;
    const elf_segment *s = segments(elf, &n);
    for (size_t i = 0; s && i < n; i++)
        if (s[i].p_type == PT_LOAD && address >= s[i].p_vaddr &&
            address - s[i].p_vaddr < s[i].p_filesz)
            return address - s[i].p_vaddr + s[i].p_offset;
    return UINT64_MAX;
}

/* Is everything there that its headers speak of? A file that was cut may load and crash later. */
static bool is_whole(const struct k_elf *elf)
{
    const elf_header *h = (const elf_header *)(const void *)elf->map;
    size_t n = 0;
    const elf_segment *s = segments(elf, &n);
    bool is_whole = s && (h->e_shoff == 0 || at(elf, h->e_shoff, h->e_shnum, h->e_shentsize));
    for (size_t i = 0; is_whole && i < n; i++)
        is_whole = s[i].p_type != PT_LOAD || at(elf, s[i].p_offset, s[i].p_filesz, 1);
    return is_whole;
}

static void read_segments(struct k_elf *elf)
{
    size_t n = 0;
    const elf_segment *s = segments(elf, &n);
    for (size_t i = 0; s && i < n; i++) {
        if (s[i].p_type == PT_TLS)
            elf->tls_bytes = s[i].p_memsz;
        if (s[i].p_type == PT_LOAD && (s[i].p_flags & PF_W) && (s[i].p_flags & PF_X))
            elf->has_writable_code = true;
        if (s[i].p_type == PT_GNU_STACK) {
            elf->has_stack_header = true;
            elf->has_exec_stack = (s[i].p_flags & PF_X) != 0;
        }
    }
}

struct dynamic {
    uint64_t strings, strings_len, symbols, hash, gnu_hash;
};

static const char *string_at(const struct k_elf *elf, const struct dynamic *d, uint64_t index)
{
    const char *table = at(elf, d->strings, 1, d->strings_len);
    if (!table || index >= d->strings_len || !memchr(table + index, '\0', d->strings_len - index))
        return NULL;
    return table + index;
}

static const char **append_text(const char **list, size_t *n, const char *text)
{
    const char **grown = (const char **)(void *)k_alloc((*n + 1) * sizeof(*grown));
    if (*n > 0)
        memcpy(grown, list, *n * sizeof(*grown));
    k_free(list);
    grown[(*n)++] = text;
    return grown;
}

static bool read_dynamic(struct k_elf *elf, struct dynamic *d)
{
    size_t n = 0;
    const elf_segment *s = segments(elf, &n);
    const elf_dynamic *dynamic = NULL;
    size_t n_dynamic = 0;
    memset(d, 0, sizeof(*d));
    for (size_t i = 0; s && i < n; i++) {
        if (s[i].p_type == PT_DYNAMIC) {
            n_dynamic = s[i].p_filesz / sizeof(elf_dynamic);
            dynamic = at(elf, s[i].p_offset, n_dynamic, sizeof(elf_dynamic));
        }
    }
    if (!dynamic)
        return refuse(elf, "it has no dynamic section");
    for (size_t i = 0; i < n_dynamic && dynamic[i].d_tag != DT_NULL; i++) {
        uint64_t value = dynamic[i].d_un.d_val;
        switch (dynamic[i].d_tag) {
        case DT_STRTAB:
            d->strings = offset_of(elf, value);
            break;
        case DT_STRSZ:
            d->strings_len = value;
            break;
        case DT_SYMTAB:
            d->symbols = offset_of(elf, value);
            break;
        case DT_HASH:
            d->hash = offset_of(elf, value);
            break;
        case DT_GNU_HASH:
            d->gnu_hash = offset_of(elf, value);
            break;
        case DT_FLAGS:
            elf->flags = value;
            elf->has_textrel |= (value & DF_TEXTREL) != 0;
            break;
        case DT_TEXTREL:
            elf->has_textrel = true;
            break;
        default:
            break;
        }
    }
    for (size_t i = 0; i < n_dynamic && dynamic[i].d_tag != DT_NULL; i++) {
        const char *name = dynamic[i].d_tag == DT_NEEDED ? string_at(elf, d, dynamic[i].d_un.d_val)
                                                         : NULL;
        if (name)
            elf->needed = append_text(elf->needed, &elf->n_needed, name);
    }
    return d->symbols && d->strings ? true : refuse(elf, "it has no dynamic symbols");
}

/* The last symbol of the longest chain; what comes before the first hashed one is undefined. */
static size_t count_gnu_hash(const struct k_elf *elf, uint64_t offset)
{
    const uint32_t *h = at(elf, offset, 4, sizeof(uint32_t));
    if (!h)
        return 0;
    uint64_t buckets_at = offset + 16 + (uint64_t)h[2] * sizeof(ElfW(Addr));
    const uint32_t *buckets = at(elf, buckets_at, h[0], sizeof(uint32_t));
    uint32_t last = h[1] > 0 ? h[1] - 1 : 0;
    for (uint32_t i = 0; buckets && i < h[0]; i++)
        last = buckets[i] > last ? buckets[i] : last;
    uint64_t chains_at = buckets_at + (uint64_t)h[0] * sizeof(uint32_t);
    for (; last >= h[1]; last++) {
        const uint32_t *chain = at(elf, chains_at + (uint64_t)(last - h[1]) * 4, 1, 4);
        if (!chain || (*chain & 1))
            break;
    }
    return (size_t)last + 1;
}

static size_t count_symbols(const struct k_elf *elf, const struct dynamic *d)
{
    const elf_header *h = (const elf_header *)(const void *)elf->map;
    const elf_section *sections = at(elf, h->e_shoff, h->e_shnum, sizeof(elf_section));
    for (size_t i = 0; h->e_shoff && sections && i < h->e_shnum; i++)
        if (sections[i].sh_type == SHT_DYNSYM)
            return sections[i].sh_size / sizeof(elf_symbol);
    const uint32_t *hash = d->hash ? at(elf, d->hash, 2, sizeof(uint32_t)) : NULL;
    return hash ? hash[1] : count_gnu_hash(elf, d->gnu_hash);
}

static bool read_symbols(struct k_elf *elf, const struct dynamic *d)
{
    size_t n = count_symbols(elf, d);
    const elf_symbol *symbols = at(elf, d->symbols, n, sizeof(elf_symbol));
    if (!symbols || n == 0)
        return refuse(elf, "its dynamic symbols cannot be read");
    for (size_t i = 1; i < n; i++) {
        const char *name = string_at(elf, d, symbols[i].st_name);
        unsigned bind = BIND(symbols[i].st_info);
        if (!name || !*name || bind == STB_LOCAL)
            continue;
        if (symbols[i].st_shndx == SHN_UNDEF)
            elf->undefined = append_text(elf->undefined, &elf->n_undefined, name);
        else
            elf->exports = append_text(elf->exports, &elf->n_exports, name);
    }
    return true;
}

bool k_elf_read(const char *path, struct k_elf *out)
{
    struct stat st;
    struct dynamic dynamic;
    memset(out, 0, sizeof(*out));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
        if (fd >= 0)
            (void)close(fd);
        return refuse(out, "it is not a file that can be read");
    }
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    (void)close(fd);
    if (map == MAP_FAILED)
        return refuse(out, "it cannot be mapped");
    out->map = map;
    out->len = (size_t)st.st_size;
    const elf_header *h = (const elf_header *)(const void *)out->map;
    const uint16_t one = 1;
    unsigned char order = *(const unsigned char *)&one == 1 ? ELFDATA2LSB : ELFDATA2MSB;
    if (out->len < sizeof(*h) || memcmp(h->e_ident, ELFMAG, SELFMAG) != 0)
        return refuse(out, "it is not an ELF file");
    if (h->e_ident[EI_CLASS] != MY_CLASS || h->e_ident[EI_DATA] != order)
        return refuse(out, "it is for another kind of machine");
    if (h->e_type != ET_DYN)
        return refuse(out, "it is not a shared object");
    if (h->e_phentsize != sizeof(elf_segment))
        return refuse(out, "its program headers are of another size");
    if (!is_whole(out))
        return refuse(out, "it was cut: its headers speak of more than there is");
    read_segments(out);
    return read_dynamic(out, &dynamic) && read_symbols(out, &dynamic);
}

void k_elf_fini(struct k_elf *elf)
{
    k_free(elf->exports);
    k_free(elf->undefined);
    k_free(elf->needed);
    if (elf->map) {
        void *map = NULL;
        memcpy(&map, &elf->map, sizeof(map));
        (void)munmap(map, elf->len);
    }
    memset(elf, 0, sizeof(*elf));
}
