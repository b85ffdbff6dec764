/* Walks `mib=` MiB (16) of memory, rewriting pages with a pattern that can be checked, and verifies each page before
 * it rewrites it. Prints `tick N` every `pages=` (64) pages, and ends after `ticks=` (0: never), with `errors=`.
 * `gap=` is the least time between ticks, in TSC ticks (0), waited out with interrupts off and without an exit. A byte
 * on COM1 has all of the memory verified after the tick: `checked N pages, N wrong`. */
#include "guest.h"

enum { WORDS = 512, COM1 = 0x3F8, STEP = 7919 };

static u64 pattern(u64 page, u64 generation, u64 word)
{
	return (page << 40 | generation << 9 | word) * 0x9E3779B97F4A7C15;
}

/* The generation of a page is in its first word, in the clear, and must be the one expected. */
static int verify(const u64 *at, u64 page, u64 generation)
{
	int errors = at[0] != generation;
	for (u64 w = 1; w < WORDS; w++)
		errors += at[w] != pattern(page, generation, w);
	return errors;
}

static void rewrite(u64 *at, u64 page, u64 generation)
{
	at[0] = generation;
	for (u64 w = 1; w < WORDS; w++)
		at[w] = pattern(page, generation, w);
}

static u64 wrong_page(u64 base, u64 page, u64 generation)
{
	int wrong = verify((u64 *)(base + page * 4096), page, generation);
	if (wrong)
		print("memwriter: page %lu, generation %lu: %d words wrong, says %lu\n", page, generation, wrong, *(u64 *)(base + page * 4096));
	return wrong != 0;
}

/* All pages, of which `done` were rewritten so far, counted each time. */
static void check(u64 base, u64 pages, u64 done)
{
	u64 wrong = 0;
	for (u64 i = 0; i < pages; i++)
		wrong += wrong_page(base, i * STEP % pages, done / pages + (i < done % pages));
	print("checked %lu pages, %lu wrong\n", pages, wrong);
}

int main(void)
{
	u64 pages = option("mib", 16) * 256, batch = option("pages", 64), ticks = option("ticks", 0), gap = option("gap", 0);
	u64 base = free_memory(), errors = 0, done = 0;
	if (base + pages * 4096 > 0x100000 + ((u64)mem_upper() << 10)) {
		print("memwriter: %lu pages do not fit below %u KiB\n", pages, mem_upper() + 1024);
		return 2;
	}
	print("memwriter: %lu pages at 0x%lx, %lu a tick\n", pages, base, batch);
	for (u64 page = 0; page < pages; page++)
		rewrite((u64 *)(base + page * 4096), page, 0);
	for (u64 tick = 1; !ticks || tick <= ticks; tick++) {
		u64 start = rdtsc();
		for (u64 i = 0; i < batch; i++, done++) {
			/* A step that shares no factor with the number of pages, so that each gets its turn. */
			u64 page = done * STEP % pages, generation = done / pages;
			u64 *at = (u64 *)(base + page * 4096);
			int wrong = verify(at, page, generation);
			if (wrong && errors++ < 10)
				print("memwriter: page %lu, generation %lu: %d words wrong, says %lu\n", page, generation, wrong, at[0]);
			rewrite(at, page, generation + 1);
		}
		while (rdtsc() - start < gap)
			;
		print("tick %lu errors %lu\n", tick, errors);
		if (inb(COM1 + 5) & 1) { /* LSR.DR */
			inb(COM1);
			check(base, pages, done);
		}
	}
	print("memwriter: done, %lu errors\n", errors);
	return errors != 0;
}
