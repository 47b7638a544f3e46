/* ring.h - doubly linked lists of things that hold their own links. */
#ifndef PST_UTIL_RING_H
#define PST_UTIL_RING_H

#include <stddef.h>

/* Both a link in an element and the head of a list; the head stands between last and first. */
struct pst_ring {
    struct pst_ring *prev, *next;
};

static inline void pst_ring_init(struct pst_ring *head)
{
    head->prev = head->next = head;
}

static inline int pst_ring_is_empty(const struct pst_ring *head)
{
    return head->next == head;
}

static inline void pst_ring_add(struct pst_ring *at, struct pst_ring *link)
{
    link->prev = at;
    link->next = at->next;
    at->next->prev = link;
    at->next = link;
}

static inline void pst_ring_add_first(struct pst_ring *head, struct pst_ring *link)
{
    pst_ring_add(head, link);
}

static inline void pst_ring_add_last(struct pst_ring *head, struct pst_ring *link)
{
    pst_ring_add(head->prev, link);
}

static inline void pst_ring_remove(struct pst_ring *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
}

/* The element that `link` is a member of. */
#define PST_RING_ENTRY(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

#endif
