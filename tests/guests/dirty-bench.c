/* What the first write to a page costs while written pages are tracked, in TSC ticks a page: `dirty=` (4096) pages out
 * of `pages=` (16384), spread evenly, are written once: `dirty_write`. Then come passes over the pages that are dirty
 * by then, the least of them: `dirty_again`, the loop's own cost. All `pages=` have their memory before: allocation is not timed.
 *
 * With `wait=1` each round waits for a byte on COM1, polling, after a line `dirty-bench: ready`, so that a harvest can
 * come between two rounds; `q` ends it. Else `rounds=` (40) rounds follow each other, `port=` (0: none) is written
 * before each, for a hypervisor that harvests there, which is timed as `dirty_harvest`; the least of all is printed. */
#include "guest.h"

enum { COM1 = 0x3F8 };

static void report(const char *name, u64 ticks, u64 pages)
{
	u64 hundredths = ticks * 100 / pages;
	print("bench %s %lu.%02lu\n", name, hundredths / 100, hundredths % 100);
}

static u64 least(u64 a, u64 b) { return a < b ? a : b; }

/* Ticks for one write to each of `count` pages, `step` bytes apart. */
static u64 pass(u64 at, u64 step, u64 count)
{
	u64 start = rdtsc();
	asm volatile("1:\tmov %1, (%0)\n\tadd %2, %0\n\tdec %1\n\tjnz 1b" : "+r"(at), "+r"(count) : "r"(step) : "memory", "cc");
	return rdtsc() - start;
}

/* The least of some passes over dirty pages: a turn of the host's falls into one or the other. */
static u64 passes_again(u64 at, u64 step, u64 count)
{
	u64 ticks = pass(at, step, count);
	for (int i = 0; i < 4; i++)
		ticks = least(ticks, pass(at, step, count));
	return ticks;
}

static u8 wait_byte(void)
{
	print("dirty-bench: ready\n");
	while (!(inb(COM1 + 5) & 1)) /* LSR.DR */
		asm volatile("pause");
	return inb(COM1);
}

int main(void)
{
	u64 pages = option("pages", 16384), dirty = option("dirty", 4096), rounds = option("rounds", 40), port = option("port", 0);
	u64 base = (free_memory() + 0x1FFFFF) & ~0x1FFFFFull, step = pages / dirty * 4096;
	if (base + pages * 4096 > 0x100000 + ((u64)mem_upper() << 10)) {
		print("dirty-bench: %lu pages do not fit below %u KiB\n", pages, mem_upper() + 1024);
		return 2;
	}
	for (u64 at = base; at < base + pages * 4096; at += 4096)
		*(volatile u64 *)at = at;
	if (option("wait", 0)) {
		while (wait_byte() != 'q') {
			u64 write = pass(base, step, dirty), again = passes_again(base, step, dirty);
			report("dirty_write", write, dirty);
			report("dirty_again", again, dirty);
		}
	} else {
		u64 write = ~0ull, again = ~0ull, harvest = ~0ull;
		while (rounds--) {
			u64 start = rdtsc();
			if (port)
				outb(port, rounds);
			harvest = least(harvest, rdtsc() - start);
			write = least(write, pass(base, step, dirty));
			again = least(again, passes_again(base, step, dirty));
		}
		report("dirty_write", write, dirty);
		report("dirty_again", again, dirty);
		if (port)
			report("dirty_harvest", harvest, dirty);
	}
	print("dirty-bench: done\n");
	return 0;
}
