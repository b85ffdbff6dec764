/* IA32_TSC_DEADLINE and a guest that sets its TSC: the deadline stays as written, and comes when the TSC passes it.
 * Prints `ok NAME` or `BAD NAME`; the result is the number of the latter. */
#include "guest.h"

#define APIC 0xfee00000ul
#define TSC 0x10
#define TSC_ADJUST 0x3b
#define TSC_DEADLINE 0x6e0

static int bad;
static volatile int ticks;

static void on_timer(struct frame *f)
{
	(void)f;
	ticks++;
	write32(APIC + 0xb0, 0);
}

static void say(bool ok, const char *name, u64 a, u64 b)
{
	bad += !ok;
	print("%s %s 0x%lx 0x%lx\n", ok ? "ok" : "BAD", name, a, b);
}

/* Interrupts within this many ticks, at most one. */
static int wait(u64 span)
{
	ticks = 0;
	u64 from = rdtsc();
	asm volatile("sti");
	while (rdtsc() - from < span && !ticks)
		;
	asm volatile("cli");
	return ticks;
}

int main(void)
{
	on_vector(0x40, on_timer);
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	write32(APIC + 0xf0, 0x1ff);
	write32(APIC + 0x320, 2 << 17 | 0x40);
	asm volatile("mfence");
	u64 adjust = rdmsr(TSC_ADJUST), want = rdtsc() + (1ul << 40);
	wrmsr(TSC_DEADLINE, want);
	wrmsr(TSC_ADJUST, adjust + 12345);
	say(rdmsr(TSC_DEADLINE) == want, "reads-as-written", rdmsr(TSC_DEADLINE) - want, 0);

	wrmsr(TSC_ADJUST, adjust + (1ul << 41));
	say(wait(40000000) == 1, "comes-when-the-tsc-jumps-past-it", ticks, rdmsr(TSC_DEADLINE));
	say(rdmsr(TSC_DEADLINE) == 0, "is-spent", rdmsr(TSC_DEADLINE), 0);

	want = rdtsc() + 4000000;
	wrmsr(TSC_DEADLINE, want);
	wrmsr(TSC_ADJUST, adjust);
	say(wait(20000000) == 0 && rdmsr(TSC_DEADLINE) == want, "waits-after-the-tsc-went-back", ticks, rdmsr(TSC_DEADLINE) - want);

	wrmsr(TSC, want - 3000000);
	say(wait(20000000) == 1, "comes-after-a-write-of-the-tsc", ticks, rdmsr(TSC_DEADLINE));

	wrmsr(TSC_DEADLINE, ~0ul);
	say(rdmsr(TSC_DEADLINE) == ~0ul && wait(1000000) == 0, "never-is-never", ticks, rdmsr(TSC_DEADLINE));
	wrmsr(TSC_DEADLINE, 1);
	say(wait(20000000) == 1, "the-past-comes-at-once", ticks, rdmsr(TSC_DEADLINE));
	print("tsc-deadline: %d BAD\n", bad);
	return bad;
}
