#include "util/strlist.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_ITEMS = 16 };

void pst_strlist_init(struct pst_strlist *list, size_t ceiling)
{
    memset(list, 0, sizeof(*list));
    list->ceiling = ceiling;
}

int pst_strlist_add(struct pst_strlist *list, const char *text)
{
    if (list->n == list->ceiling)
        return -1;
    if (list->n == list->room) {
        const size_t room = list->room ? list->room * 2 : FIRST_ITEMS;
        char **items = reallocarray(list->items, room, sizeof(*items));
        if (!items)
            return -1;
        list->items = items;
        list->room = room;
    }
    char *copy = strdup(text);
    if (!copy)
        return -1;
    list->items[list->n++] = copy;
    return 0;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void pst_strlist_sort(struct pst_strlist *list)
{
    if (list->n > 1)
        qsort(list->items, list->n, sizeof(*list->items), compare);
}

void pst_strlist_fini(struct pst_strlist *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->items[i]);
    free(list->items);
    pst_strlist_init(list, list->ceiling);
}
