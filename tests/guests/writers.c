/* Several CPUs, each with interrupts off for ever, in loops without an exit; CPU 0 starts the others. Those of the bit mask
 * `writers=` (2) walk through `mib=` (2) MiB each, verify each page and rewrite it; the others only verify a MiB of theirs.
 * CPU 0 prints `tick N errors E` each `gap=` (1000000) TSC ticks. A byte on COM1 is looked at after a tick: when each CPU has
 * got further, CPU 0 prints `checked N cpus, P pages, E wrong`. */
#include "smp.h"

enum { MAX = 8, STACK = 8192, WORDS = 512, COM1 = 0x3F8 };

/* In pages of their own: a reader that counts in a writer's page would write it, too. */
static struct cpu {
	volatile u64 done, errors, ready;
	u64 number, base, pages;
	bool writes;
} __attribute__((aligned(4096))) cpus[MAX];
static u8 stacks[MAX][STACK] __attribute__((aligned(4096)));

static u64 pattern(u64 page, u64 generation, u64 word) { return (page << 40 | generation << 9 | word) * 0x9E3779B97F4A7C15; }

static void rewrite(struct cpu *c, u64 page, u64 generation)
{
	u64 *at = (u64 *)(c->base + page * 4096);
	for (u64 w = 0; w < WORDS; w++)
		at[w] = pattern(c->base / 4096 + page, generation, w);
}

static void verify(struct cpu *c, u64 page, u64 generation)
{
	u64 *at = (u64 *)(c->base + page * 4096), wrong = 0;
	for (u64 w = 0; w < WORDS; w++)
		wrong += at[w] != pattern(c->base / 4096 + page, generation, w);
	if (wrong)
		c->errors++;
}

/* CLI each time: Bochs keeps the host's interrupts from a guest that was entered with interrupts off, until that touches IF
 * (docs/testing.md). No CPU does. */
static void work(struct cpu *c)
{
	asm volatile("cli");
	u64 page = c->done % c->pages, generation = c->writes ? c->done / c->pages : 0;
	verify(c, page, generation);
	if (c->writes)
		rewrite(c, page, generation + 1);
	c->done++;
}

static void run_cpu(void *argument)
{
	struct cpu *c = argument;
	for (u64 page = 0; page < c->pages; page++)
		rewrite(c, page, 0);
	c->ready = 1;
	while (c->number)
		work(c);
}

static void check(u64 count)
{
	u64 done[MAX], pages = 0, wrong = 0;
	for (u64 i = 0; i < count; i++)
		done[i] = cpus[i].done;
	for (u64 i = 0; i < count; i++)
		while (cpus[i].done == done[i])
			work(&cpus[0]);
	for (u64 i = 0; i < count; i++)
		pages += cpus[i].done, wrong += cpus[i].errors;
	print("checked %lu cpus, %lu pages, %lu wrong\n", count, pages, wrong);
}

int main(void)
{
	u32 ids[MAX];
	u64 mask = option("writers", 2), mib = option("mib", 2), gap = option("gap", 1000000);
	u64 count = acpi_cpus(ids, MAX), base = free_memory();
	asm volatile("cli");
	apic_enable();
	for (u64 i = 0; i < count; i++) {
		struct cpu *c = &cpus[i];
		c->number = i;
		c->writes = mask >> i & 1;
		c->base = base;
		c->pages = (c->writes ? mib : 1) * 256;
		base += c->pages * 4096;
	}
	if (!count || base > 0x100000 + ((u64)mem_upper() << 10)) {
		print("writers: %lu cpus do not fit below %u KiB\n", count, mem_upper() + 1024);
		return 2;
	}
	run_cpu(&cpus[0]);
	for (u64 i = 1; i < count; i++) {
		if (!start_cpu(ids[i], stacks[i] + STACK, run_cpu, &cpus[i])) {
			print("writers: cpu %lu does not start\n", i);
			return 3;
		}
		while (!cpus[i].ready)
			relax();
	}
	print("writers: %lu cpus, 0x%lx of them write\n", count, mask);
	for (u64 tick = 1, errors = 0;; errors = 0) {
		for (u64 start = rdtsc(); rdtsc() - start < gap;)
			work(&cpus[0]);
		for (u64 i = 0; i < count; i++)
			errors += cpus[i].errors;
		print("tick %lu errors %lu\n", tick++, errors);
		if (inb(COM1 + 5) & 1) { /* LSR.DR */
			inb(COM1);
			check(count);
		}
	}
}
