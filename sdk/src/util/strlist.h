/* strlist.h - an array of strings that it owns. */
#ifndef PST_UTIL_STRLIST_H
#define PST_UTIL_STRLIST_H

#include <stddef.h>

struct pst_strlist {
    char **items;
    size_t n, room, ceiling;
};

/* `ceiling`: the most strings it may ever hold. */
void pst_strlist_init(struct pst_strlist *list, size_t ceiling);

/* Append a copy. Returns 0, or -1 without memory or at the ceiling. */
int pst_strlist_add(struct pst_strlist *list, const char *text);

/* In byte order, whatever the locale says. */
void pst_strlist_sort(struct pst_strlist *list);

void pst_strlist_fini(struct pst_strlist *list);

#endif
