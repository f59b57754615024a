// SPDX-License-Identifier: GPL-2.0-only
/*
 * memtype.c - how is a mapping really cached?
 *
 * memremap(MEMREMAP_WB) is a request: under an uncached MTRR it gives an uncached
 * mapping and says nothing. The page table knows.
 */
#include "driver.h"

#ifdef CONFIG_X86
#include <asm/pgtable.h>
#endif

u32 vine_memory_type(void *base)
{
#ifdef CONFIG_X86
	unsigned int level;
	pte_t *pte = lookup_address((unsigned long)base, &level);

	if (!pte)
		return VINE_MEMORY_UNKNOWN;
	/* Linux keeps PAT entry 0 write-back: no bit set, on any level */
	if (pte_flags(*pte) & (_PAGE_PWT | _PAGE_PCD))
		return VINE_MEMORY_UNCACHED;
	return VINE_MEMORY_CACHED;
#else
	return VINE_MEMORY_UNKNOWN;
#endif
}
