// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * mutate.c - new inputs from old ones, instruction by instruction
 *
 * libFuzzer's own mutations insert and remove bytes, after which all that follows means
 * something else.
 */
#include "fuzz.h"

size_t LLVMFuzzerMutate(u8 *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(u8 *data, size_t size, size_t max, unsigned int seed);
size_t LLVMFuzzerCustomCrossOver(const u8 *a, size_t a_size, const u8 *b, size_t b_size,
				 u8 *out, size_t max, unsigned int seed);

#define HEAD	sizeof(struct head)
#define INSN	sizeof(struct insn)

/* What lies are made of which words, at best: how, as lie() of hostile.c counts. */
static const u8 likely[KINDS][8] = {
	[HEADER] = { 0, 0, 1, 2, 3, 4, 11, 13 },
	[PEERS] = { 14, 14, 4, 3, 0, 8, 11, 2 },
	[SERVICES] = { 9, 9, 4, 8, 0, 1, 11, 3 },
	[QUEUE_ENTRIES] = { 9, 9, 10, 15, 17, 4, 8, 11 },
	[REGION_WORDS] = { 9, 9, 12, 12, 4, 8, 11, 7 },
	[HOLDS] = { 16, 16, 0, 0, 11, 2, 8, 1 },
	[CHUNKS] = { 10, 10, 10, 0, 0, 8, 11, 1 },
	[RINGS] = { 2, 2, 0, 8, 3, 6, 13, 1 },
};

static struct insn random_insn(u64 *s)
{
	struct insn in = { (u8)rnd(s), (u8)rnd(s), (u8)rnd(s), (u8)rnd(s), (u32)rnd(s) };
	u32 kind = (u32)(rnd(s) % KINDS);

	/* most of what makes sense is small */
	if (rnd(s) % 4)
		in.v &= 0xff;
	if (rnd(s) % 2)
		in.a %= 16;
	switch (rnd(s) % 6) {
	case 0: case 1:		/* in the next call */
		in.op = (u8)(0x80 | (kind + 2));
		if (rnd(s) % 4 == 0)
			in.op |= AGAIN_ALL;
		if (rnd(s) % 2)
			in.a = 0;
		in.b = likely[kind][rnd(s) % 8];
		break;
	case 2:			/* between two calls */
		in.op = 0x40 | likely[kind][rnd(s) % 8];
		in.a = (u8)(kind | in.a << 4);
		in.b %= 8;
		break;
	case 3: case 4:
		in.op &= 0x3f;
		if (rnd(s) % 2)
			in.b %= 4;
		break;
	}
	return in;
}

size_t LLVMFuzzerCustomMutator(u8 *data, size_t size, size_t max, unsigned int seed)
{
	u64 s = seed, times = 1 + rnd(&s) % 3, at, n, i;
	struct insn in, *insns = (struct insn *)(data + HEAD);
	size_t room;

	if (size < HEAD) {
		memset(data + size, 0, HEAD - size);
		size = HEAD;
	}
	n = (size - HEAD) / INSN;
	room = (max - HEAD) / INSN;
	while (times--) {
		at = n ? rnd(&s) % n : 0;
		switch (rnd(&s) % 10) {
		case 0:		/* the head */
			if (rnd(&s) % 2)
				data[offsetof(struct head, prologue)] = (u8)(rnd(&s) % 32);
			else
				LLVMFuzzerMutate(data, HEAD, HEAD);
			break;
		case 1: case 2:	/* one more */
			if (n == room)
				break;
			in = n && rnd(&s) % 3 == 0 ? insns[rnd(&s) % n] : random_insn(&s);
			memmove(insns + at + 1, insns + at, (n - at) * INSN);
			insns[at] = in;
			n++;
			break;
		case 3:		/* some less */
			i = 1 + rnd(&s) % 4;
			if (i > n - at)
				break;
			memmove(insns + at, insns + at + i, (n - at - i) * INSN);
			n -= i;
			break;
		case 4:		/* in another order */
			if (!n)
				break;
			i = rnd(&s) % n;
			in = insns[at];
			insns[at] = insns[i];
			insns[i] = in;
			break;
		case 5:		/* another instruction, or another time */
			if (n)
				((u8 *)&insns[at])[rnd(&s) % 4] += (u8)(1 + rnd(&s) % 8);
			break;
		default:
			if (n)
				LLVMFuzzerMutate((u8 *)&insns[at], INSN, INSN);
		}
	}
	return HEAD + n * INSN;
}

/* The beginning of the one, then the end of the other. */
size_t LLVMFuzzerCustomCrossOver(const u8 *a, size_t a_size, const u8 *b, size_t b_size,
				 u8 *out, size_t max, unsigned int seed)
{
	u64 s = seed, n, m, from;

	if (a_size < HEAD || b_size < HEAD)
		return 0;
	n = rnd(&s) % ((a_size - HEAD) / INSN + 1);
	m = (b_size - HEAD) / INSN;
	from = rnd(&s) % (m + 1);
	m = min_t(u64, m - from, (max - HEAD) / INSN - n);
	memcpy(out, a, HEAD + n * INSN);
	memcpy(out + HEAD + n * INSN, b + HEAD + from * INSN, m * INSN);
	return HEAD + (n + m) * INSN;
}
