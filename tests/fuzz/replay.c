/* main of a fuzzer in a build without libFuzzer: give it each file of the corpus, once. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *dir, const char *name)
{
    static uint8_t data[1 << 20];
    char path[4096];

    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
        return -1;
    FILE *file = fopen(path, "re");
    if (!file)
        return -1;
    const size_t n = fread(data, 1, sizeof(data), file);
    const int failed = ferror(file);
    fclose(file);
    if (failed)
        return -1;
    /* A copy of just that size, so that the sanitizers see a step beyond its end. */
    uint8_t *copy = malloc(n > 0 ? n : 1);
    if (!copy)
        return -1;
    for (size_t i = 0; i < n; i++)
        copy[i] = data[i];
    (void)LLVMFuzzerTestOneInput(copy, n);
    free(copy);
    return 0;
}

int main(int argc, char **argv)
{
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    const struct dirent *entry;
    unsigned n = 0;

    if (!dir) {
        fprintf(stderr, "usage: %s CORPUS\n", argv[0]);
        return 2;
    }
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        if (replay(argv[1], entry->d_name) != 0) {
            fprintf(stderr, "%s/%s: cannot be read\n", argv[1], entry->d_name);
            return 1;
        }
        n++;
    }
    closedir(dir);
    printf("%u inputs\n", n);
    return n == 0;
}
