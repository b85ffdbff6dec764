/* What the first write to a page costs while dirty logging is on, in TSC ticks a page: `dirty=` (4096) pages out of
 * `pages=` (16384) are written once, spread evenly, in `rounds=` (40) rounds; least and mean over the rounds.
 * Before each round `port=` (0: none) is written: a hypervisor under test harvests there, and that is timed as well.
 * Without a harvest between them, only the first round dirties anything. */
#include "guest.h"

static void report(const char *name, u64 ticks, u64 pages)
{
	u64 hundredths = ticks * 100 / pages;
	print("bench %s %lu.%02lu\n", name, hundredths / 100, hundredths % 100);
}

int main(void)
{
	u64 pages = option("pages", 16384), dirty = option("dirty", 4096), rounds = option("rounds", 40), port = option("port", 0);
	u64 base = (free_memory() + 0x1FFFFF) & ~0x1FFFFFull, step = pages / dirty * 4096;
	if (base + pages * 4096 > 0x100000 + ((u64)mem_upper() << 10)) {
		print("dirty-bench: %lu pages do not fit below %u KiB\n", pages, mem_upper() + 1024);
		return 2;
	}
	/* Every page gets its memory first: what is timed is dirtying, not allocation. */
	for (u64 at = base; at < base + pages * 4096; at += 4096)
		*(volatile u64 *)at = at;
	u64 least = ~0ull, sum = 0, harvest_least = ~0ull, first = 0;
	for (u64 round = 0; round < rounds; round++) {
		u64 start = rdtsc();
		if (port)
			outb(port, round);
		u64 before = rdtsc();
		u64 n = dirty, at = base;
		asm volatile("1:\tmov %1, (%0)\n\tadd %2, %0\n\tdec %1\n\tjnz 1b" : "+r"(at), "+r"(n) : "r"(step) : "memory", "cc");
		u64 ticks = rdtsc() - before;
		harvest_least = before - start < harvest_least ? before - start : harvest_least;
		least = ticks < least ? ticks : least;
		sum += ticks;
		if (!round)
			first = ticks;
	}
	report("dirty_first_round", first, dirty);
	report("dirty_write", least, dirty);
	report("dirty_write_mean", sum / rounds, dirty);
	if (port)
		report("dirty_harvest", harvest_least, dirty);
	print("dirty-bench: done\n");
	return 0;
}
