/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * descriptors.h - how many descriptors this process has
 */
#ifndef DESCRIPTORS_H
#define DESCRIPTORS_H

#include <dirent.h>
#include <string.h>
#include <unistd.h>

/*
 * @what: only those that link to it, counted right. NULL: all, for comparisons: the entries "."
 * and "..", and the descriptor of looking, count as well.
 */
static inline unsigned int count_descriptors(const char *what)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	unsigned int n = 0;
	char is[256];

	while ((e = readdir(d))) {
		memset(is, 0, sizeof(is));
		if (!what || (readlinkat(dirfd(d), e->d_name, is, sizeof(is) - 1) > 0 &&
			      !strcmp(is, what)))
			n++;
	}
	closedir(d);
	return n;
}

#endif /* DESCRIPTORS_H */
