/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * list.h - doubly linked lists, as the kernel's: a head, and links within the items
 */
#ifndef SERVE_LIST_H
#define SERVE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next, *prev;
};

#define container_of(p, type, member)	((type *)((char *)(p) - offsetof(type, member)))

/* Goes on well when the body removes @item from its list. */
#define list_each(item, following, head)						\
	for ((item) = (head)->next, (following) = (item)->next; (item) != (head);	\
	     (item) = (following), (following) = (item)->next)

static inline void list_init(struct list *l)
{
	l->next = l;
	l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_add_tail(struct list *head, struct list *item)
{
	item->next = head;
	item->prev = head->prev;
	head->prev->next = item;
	head->prev = item;
}

/* Also when it is on none. */
static inline void list_del(struct list *item)
{
	item->next->prev = item->prev;
	item->prev->next = item->next;
	list_init(item);
}

#endif /* SERVE_LIST_H */
