/* transfer_spool.c - names that a plan keeps for later: in order in a file, or as a set in memory. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transfer.h"

/* ---- a file of names: length (size_t), bytes, and so on ----------------------------------------- */

static int fail_spool(struct cli *cli)
{
    return cli_fail_errno(cli, errno, "temporary file of names");
}

int transfer_spool_add(struct cli *cli, struct transfer_spool *spool, pst_str name)
{
    if (!spool->file) {
        spool->file = tmpfile();
        if (!spool->file)
            return fail_spool(cli);
    }
    if (fwrite(&name.len, sizeof(name.len), 1, spool->file) != 1 ||
        (name.len > 0 && fwrite(name.ptr, name.len, 1, spool->file) != 1))
        return fail_spool(cli);
    spool->n++;
    return CLI_OK;
}

int transfer_spool_rewind(struct cli *cli, struct transfer_spool *spool)
{
    if (spool->file && (fflush(spool->file) != 0 || fseek(spool->file, 0, SEEK_SET) != 0))
        return fail_spool(cli);
    return CLI_OK;
}

int transfer_spool_next(struct cli *cli, struct transfer_spool *spool, struct cli_text_buf *out,
                        bool *has_name)
{
    char block[4096];
    size_t len;

    out->len = 0;
    *has_name = false;
    if (!spool->file || fread(&len, sizeof(len), 1, spool->file) != 1)
        return spool->file && ferror(spool->file) ? fail_spool(cli) : CLI_OK;
    while (len > 0) {
        size_t n = len < sizeof(block) ? len : sizeof(block);
        if (fread(block, n, 1, spool->file) != 1)
            return fail_spool(cli);
        cli_add(out, block, n);
        len -= n;
    }
    *has_name = true;
    return CLI_OK;
}

void transfer_spool_fini(struct transfer_spool *spool)
{
    if (spool->file)
        fclose(spool->file); /* read already: nothing to lose */
    memset(spool, 0, sizeof(*spool));
}

/* ---- a set of names: open addressing over 64-bit hashes ----------------------------------------- */

/* FNV-1a with the finalizer of MurmurHash3, which spreads it over the low bits. */
static uint64_t hash_name(pst_str name)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < name.len; i++)
        h = (h ^ (unsigned char)name.ptr[i]) * 0x100000001b3u;
    h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdu;
    h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53u;
    h ^= h >> 33;
    return h ? h : 1;
}

static size_t find_slot(const struct transfer_set *set, uint64_t hash)
{
    size_t i = (size_t)hash & (set->n_slots - 1);
    while (set->slots[i] != 0 && set->slots[i] != hash)
        i = (i + 1) & (set->n_slots - 1);
    return i;
}

static void grow_set(struct transfer_set *set)
{
    struct transfer_set bigger = {.n = set->n, .n_slots = set->n_slots ? set->n_slots * 2 : 256};
    bigger.slots = cli_alloc(bigger.n_slots, sizeof(*bigger.slots));
    for (size_t i = 0; i < set->n_slots; i++) {
        if (set->slots[i] != 0)
            bigger.slots[find_slot(&bigger, set->slots[i])] = set->slots[i];
    }
    free(set->slots);
    *set = bigger;
}

bool transfer_set_add(struct transfer_set *set, pst_str name)
{
    uint64_t hash = hash_name(name);
    if (set->n * 2 >= set->n_slots)
        grow_set(set);
    size_t i = find_slot(set, hash);
    if (set->slots[i] == hash)
        return false;
    set->slots[i] = hash;
    set->n++;
    return true;
}

bool transfer_set_has(const struct transfer_set *set, pst_str name)
{
    uint64_t hash = hash_name(name);
    return set->n > 0 && set->slots[find_slot(set, hash)] == hash;
}

void transfer_set_fini(struct transfer_set *set)
{
    free(set->slots);
    memset(set, 0, sizeof(*set));
}
