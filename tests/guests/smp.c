/* All CPUs of the MADT at work on the same memory; CPU 0 starts the others. Each round, a CPU looks whether its x87, SSE
 * and AVX registers are as it left them; adds to counters by LOCK XADD, LOCK INC, and under a lock of which only one has
 * the key; verifies a page of its own `pages=` (8), then rewrites it; compares the TSC with the last that any CPU saw;
 * and sends an IPI with a number to the next CPU once that has taken the one before.
 *
 * CPU 0 prints `tick N errors E` each `gap=` (1000000) TSC ticks. A byte on COM1 is looked at after a tick: any but `r`
 * has all CPUs stop, and every page and sum checked: `checked N cpus, ..., N wrong`. `r` does the same, then ends what
 * these options began, each with the number of a CPU, 0 for none:
 *   halted=K   it waits in HLT, and nothing but the IPI of a stop may wake it;
 *   closed=K   it works with interrupts off until a stop: the IPI of the ring stays pending;
 *   nmi=K      it works in the handler of an NMI, a second one pending, which has to come after IRET, and once;
 *   waiting=K  it waits for its start-up IPI until `r`.
 * `x2apic=1`: the APICs are in x2APIC mode. `work=1`: beside each tick, `work R at T`: rounds of all, and the TSC. */
#include "smp.h"

enum { MAX = 16, STACK = 8192, WORDS = 512, COM1 = 0x3F8, RING = 0x40, WAKE = 0x41, NMI = 2, GS_BASE = 0xC0000101 };
enum { OSFXSR = 1 << 9, OSXSAVE = 1 << 18, NOTES = 8 };
/* An IPI to a CPU with interrupts on must be there before it has done so many rounds. */
enum { OVERDUE = 8 };

enum role { WORKER, HALTED, CLOSED, IN_NMI, WAITING };

struct cpu {
	struct cpu *self;
	u32 number, apic;
	volatile enum role role;
	volatile bool present, closed, in_nmi;
	/* `open` are the rounds with interrupts on; `stops` that it was in so far. */
	volatile u64 rounds, open, stops, stopped_at;
	u64 last, pages_done, generation;
	/* The ring: what it sent to the next; what the one before sent to it, and what it took. */
	volatile u64 sent, mail, taken;
	u64 mark;
	bool overdue;
	volatile u64 wakes, wakes_wanted, nmis, interrupts;
	u64 x87[8];
	u8 vectors[16 * 32] __attribute__((aligned(32)));
} __attribute__((aligned(64)));

static struct cpu cpus[MAX];
static u8 stacks[MAX][STACK] __attribute__((aligned(16)));
static u32 count;
static u64 pages, memory;
static bool avx;

/* Each in a cache line of its own, as far as they are fought for. */
static volatile u64 added __attribute__((aligned(64))), counted __attribute__((aligned(64))), newest __attribute__((aligned(64)));
static struct lock { volatile u64 taken, next, serving, value, mirror; } latch __attribute__((aligned(64))), queue __attribute__((aligned(64)));

/* Odd while all are to stop. */
static volatile u64 stops, arrived;
static volatile u64 errors;
static struct { const char *what; u64 found, wanted; u32 cpu; volatile bool ready; } notes[NOTES];

static struct cpu *self(void) { struct cpu *c; asm volatile("movq %%gs:0, %0" : "=r"(c)); return c; }
static bool stopping(void) { return stops & 1; }

static void wrong(const char *what, u64 found, u64 wanted)
{
	u64 slot = lock_xadd(&errors, 1);
	if (slot >= NOTES)
		return;
	notes[slot].what = what;
	notes[slot].found = found;
	notes[slot].wanted = wanted;
	notes[slot].cpu = self()->number;
	notes[slot].ready = true;
}

static void print_notes(void)
{
	for (int i = 0; i < NOTES; i++)
		if (notes[i].ready) {
			notes[i].ready = false;
			print("smp: cpu %u: %s: 0x%lx for 0x%lx\n", notes[i].cpu, notes[i].what, notes[i].found, notes[i].wanted);
		}
}

static u64 pattern(u64 place, u64 generation, u64 word) { return (place << 44 | generation << 9 | word) * 0x9E3779B97F4A7C15; }

/* ---- registers ---- */

#define REGISTERS ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"

/* x87 holds integers of 62 bits, which it gives back to the last bit. */
static u64 x87_pattern(struct cpu *c, int n) { return pattern(c->number, c->generation, 256 + n) >> 2; }
static u32 mxcsr_of(struct cpu *c) { return 0x1F80 | (c->number & 3) << 13; }
static u16 control_of(struct cpu *c) { return 0x37F | (c->number & 3) << 10; }

static void load_registers(struct cpu *c)
{
	u32 mxcsr = mxcsr_of(c);
	u16 control = control_of(c);
	c->generation++;
	for (int w = 0; w < 64; w++)
		((u64 *)c->vectors)[w] = pattern(c->number, c->generation, w);
	if (avx)
		asm volatile(REGISTERS "vmovups 32*\\n(%0), %%ymm\\n\n\t.endr" : : "r"(c->vectors) : "memory");
	else
		asm volatile(REGISTERS "movups 32*\\n(%0), %%xmm\\n\n\t.endr" : : "r"(c->vectors) : "memory");
	asm volatile("fninit; fldcw %0; ldmxcsr %1" : : "m"(control), "m"(mxcsr));
	for (int n = 0; n < 8; n++) {
		c->x87[n] = x87_pattern(c, n);
		asm volatile("fildll %0" : : "m"(c->x87[n]));
	}
}

static void check_registers(struct cpu *c)
{
	u32 mxcsr;
	u16 control;
	asm volatile("fnstcw %0; stmxcsr %1" : "=m"(control), "=m"(mxcsr));
	if (control != control_of(c) || mxcsr != mxcsr_of(c))
		wrong("FCW and MXCSR", (u64)control << 32 | mxcsr, (u64)control_of(c) << 32 | mxcsr_of(c));
	for (int n = 7; n >= 0; n--) {
		asm volatile("fistpll %0" : "=m"(c->x87[n]));
		if (c->x87[n] != x87_pattern(c, n))
			wrong("x87 register", c->x87[n], x87_pattern(c, n));
	}
	for (int w = 0; w < 64; w++)
		((u64 *)c->vectors)[w] = 0;
	if (avx)
		asm volatile(REGISTERS "vmovups %%ymm\\n, 32*\\n(%0)\n\t.endr" : : "r"(c->vectors) : "memory");
	else
		asm volatile(REGISTERS "movups %%xmm\\n, 32*\\n(%0)\n\t.endr" : : "r"(c->vectors) : "memory");
	for (int w = 0; w < 64; w++) {
		u64 found = ((u64 *)c->vectors)[w], wanted = avx || w % 4 < 2 ? pattern(c->number, c->generation, w) : 0;
		if (found != wanted)
			wrong("vector register", found, wanted);
	}
}

static void enable_registers(void)
{
	write_cr0((read_cr0() & ~(u64)0xC) | 2); /* EM and TS off, MP on */
	write_cr4(read_cr4() | OSFXSR);
	if (cpuid(1, 0).ecx >> 28 & 1) {
		write_cr4(read_cr4() | OSXSAVE);
		asm volatile("xsetbv" : : "c"(0), "a"(7), "d"(0)); /* x87, SSE, AVX */
	}
}

/* ---- memory ---- */

static u64 *page_of(struct cpu *c, u64 page) { return (u64 *)(memory + (c->number * pages + page) * 4096); }

static void verify(struct cpu *c, u64 page)
{
	u64 *at = page_of(c, page), place = c->number * pages + page;
	u64 generation = c->pages_done / pages + (page < c->pages_done % pages);
	for (u64 w = 0; w < WORDS; w++)
		if (at[w] != pattern(place, generation, w)) {
			wrong("word of a page", at[w], pattern(place, generation, w));
			return;
		}
}

static void rewrite(struct cpu *c, u64 page, u64 generation)
{
	u64 *at = page_of(c, page), place = c->number * pages + page;
	for (u64 w = 0; w < WORDS; w++)
		at[w] = pattern(place, generation, w);
}

/* The value and its complement, which only the lock keeps together. */
static void add_to(struct lock *lock)
{
	u64 value = lock->value;
	if (lock->mirror != ~value)
		wrong("two had the same lock", value, ~lock->mirror);
	lock->value = value + 1;
	lock->mirror = ~(value + 1);
}

static void count_up(struct cpu *c)
{
	u64 before = lock_xadd(&added, 1);
	if (c->rounds && before <= c->last)
		wrong("LOCK XADD", before, c->last);
	c->last = before;
	asm volatile("lock incq %0" : "+m"(counted) : : "memory");
	/* Who stands in a queue may wait for one whose vCPU does not run: less often. */
	if (c->rounds % 8) {
		while (latch.taken || atomic_swap(&latch.taken, 1))
			relax();
		add_to(&latch);
		asm volatile("" : : : "memory");
		latch.taken = 0;
	} else {
		u64 ticket = lock_xadd(&queue.next, 1);
		while (queue.serving != ticket)
			relax();
		add_to(&queue);
		asm volatile("" : : : "memory");
		queue.serving = ticket + 1;
	}
}

/* ---- time and interrupts ---- */

static void look_at_clock(void)
{
	u64 last = newest;
	asm volatile("lfence" : : : "memory");
	u64 now = rdtsc();
	if (now < last)
		wrong("TSC", now, last);
	while (last < now && !lock_cmpxchg(&newest, &last, now))
		;
}

static void send_on(struct cpu *c)
{
	struct cpu *next = &cpus[(c->number + 1) % count];
	u64 open = next->open; /* before `taken`, so that an IPI which came meanwhile is seen */
	if (!next->present || next->role == HALTED)
		return;
	if (next->taken == c->sent) {
		next->mail = ++c->sent;
		apic_send(next->apic, IPI_FIXED | RING);
		c->mark = next->open;
		c->overdue = false;
	} else if (!c->overdue && open > c->mark + OVERDUE) {
		c->overdue = true;
		wrong("an IPI did not come", next->taken, c->sent);
	}
}

static void on_ring(struct frame *f)
{
	(void)f;
	struct cpu *c = self();
	c->interrupts++;
	if (c->closed || c->in_nmi)
		wrong("an IPI with interrupts off", c->mail, c->taken);
	if (c->mail != c->taken + 1)
		wrong("IPI", c->mail, c->taken + 1);
	c->taken = c->mail;
	apic_write(APIC_EOI, 0);
}

static void on_wake(struct frame *f)
{
	(void)f;
	self()->interrupts++;
	self()->wakes++;
	apic_write(APIC_EOI, 0);
}

static void on_spurious(struct frame *f) { (void)f; self()->interrupts++; wrong("spurious interrupt", 0, 0); }

/* ---- work ---- */

static void do_round(struct cpu *c)
{
	check_registers(c);
	load_registers(c);
	count_up(c);
	verify(c, c->pages_done % pages);
	rewrite(c, c->pages_done % pages, c->pages_done / pages + 1);
	c->pages_done++;
	look_at_clock();
	send_on(c);
	c->rounds++;
}

/* Every first NMI of a stop's time; the second does no more than be counted. */
static void on_nmi(struct frame *f)
{
	(void)f;
	struct cpu *c = self();
	c->nmis++;
	if (c->in_nmi) {
		wrong("an NMI in the handler of one", c->nmis, 0);
	} else if (c->nmis % 2) {
		c->in_nmi = true;
		apic_send(c->apic, IPI_NMI);
		while (!stopping())
			do_round(c);
		c->in_nmi = false;
	}
}

static void until_stop(struct cpu *c)
{
	switch (c->role) {
	case HALTED:
		asm volatile("cli");
		while (!stopping()) {
			u64 before = c->interrupts;
			asm volatile("sti; hlt; cli" : : : "memory");
			if (c->interrupts == before)
				wrong("HLT ended without an interrupt", before, before + 1);
			else if (!stopping())
				wrong("it was woken, and nobody stops", c->wakes, c->wakes_wanted);
		}
		asm volatile("sti");
		do_round(c);
		break;
	case CLOSED:
		asm volatile("cli");
		c->closed = true;
		while (!stopping())
			do_round(c);
		c->closed = false;
		asm volatile("sti");
		break;
	case IN_NMI: {
		u64 before = c->nmis;
		apic_send(c->apic, IPI_NMI);
		while (c->nmis < before + 2)
			relax();
		do_round(c);
		if (c->nmis != before + 2)
			wrong("NMIs", c->nmis, before + 2);
		break;
	}
	default:
		do_round(c);
		c->open++;
	}
}

/* No IPI is under way any more, and the pages are as they have to be. */
static void settle(struct cpu *c)
{
	struct cpu *next = &cpus[(c->number + 1) % count];
	while (next->taken != c->sent)
		relax();
	for (u64 page = 0; page < pages; page++)
		verify(c, page);
}

static void join(struct cpu *c)
{
	wrmsr(GS_BASE, (u64)c->self);
	enable_registers();
	apic_enable();
	if (apic_id() != c->apic)
		wrong("APIC id", apic_id(), c->apic);
	for (u64 page = 0; page < pages; page++)
		rewrite(c, page, 0);
	load_registers(c);
	c->present = true;
}

static void run_cpu(void *argument)
{
	struct cpu *c = argument;
	join(c);
	asm volatile("sti");
	for (;;) {
		u64 now = stops;
		if (!(now & 1)) {
			until_stop(c);
			continue;
		}
		settle(c);
		c->stopped_at = now;
		lock_xadd(&arrived, 1);
		while (stops == now)
			relax();
	}
}

static bool start(struct cpu *c)
{
	if (start_cpu(c->apic, stacks[c->number] + STACK, run_cpu, c))
		while (!c->present)
			relax();
	else
		print("smp: cpu %u does not start\n", c->number);
	return c->present;
}

/* ---- CPU 0 ---- */

static void expect_sum(const char *what, u64 found, u64 wanted)
{
	if (found != wanted)
		wrong(what, found, wanted);
}

/* All CPUs stand still meanwhile. */
static void check(bool release)
{
	u64 present = 0, rounds = 0, ipis = 0;
	for (u32 i = 0; i < count; i++)
		present += cpus[i].present;
	arrived = 0;
	stops++;
	for (u32 i = 0; i < count; i++)
		if (cpus[i].role == HALTED && cpus[i].present) {
			cpus[i].wakes_wanted++;
			apic_send(cpus[i].apic, IPI_FIXED | WAKE);
		}
	settle(&cpus[0]);
	bool told = false;
	for (u64 begun = rdtsc(); arrived != present - 1; relax())
		if (!told && rdtsc() - begun > 1 << 28) {
			told = true;
			for (u32 i = 1; i < count; i++)
				if (cpus[i].present && cpus[i].stopped_at != stops)
					print("smp: cpu %u does not stop\n", i);
		}
	for (u32 i = 0; i < count; i++) {
		struct cpu *c = &cpus[i];
		rounds += c->rounds;
		ipis += c->taken;
		c->stops += c->present;
		expect_sum("wakes", c->wakes, c->wakes_wanted);
		if (c->role == IN_NMI)
			expect_sum("NMIs in all", c->nmis, c->stops * 2);
	}
	expect_sum("sum by LOCK XADD", added, rounds);
	expect_sum("sum by LOCK INC", counted, rounds);
	expect_sum("sum under locks", latch.value + queue.value, rounds);
	if (release)
		for (u32 i = 0; i < count; i++) {
			enum role role = cpus[i].role;
			cpus[i].role = WORKER;
			if (role == WAITING && !start(&cpus[i]))
				wrong("a CPU does not start", i, i);
		}
	print("checked %lu cpus, %lu pages, %lu rounds, %lu IPIs, %lu wrong\n", present, present * pages, rounds, ipis, errors);
	print_notes();
	stops++;
}

static u64 rounds_of_all(void)
{
	u64 rounds = 0;
	for (u32 i = 0; i < count; i++)
		rounds += cpus[i].rounds;
	return rounds;
}

int main(void)
{
	u32 ids[MAX];
	u64 gap = option("gap", 1000000), work = option("work", 0);
	const struct { const char *name; enum role role; } states[] = {{"halted", HALTED}, {"closed", CLOSED}, {"nmi", IN_NMI}, {"waiting", WAITING}};
	pages = option("pages", 8);
	apic_x2 = option("x2apic", 0) && cpuid(1, 0).ecx >> 21 & 1;
	avx = cpuid(1, 0).ecx >> 28 & 1;
	count = acpi_cpus(ids, MAX);
	memory = free_memory();
	if (!count || memory + count * pages * 4096 > 0x100000 + ((u64)mem_upper() << 10)) {
		print("smp: %u cpus with %lu pages each do not fit below %u KiB\n", count, pages, mem_upper() + 1024);
		return 2;
	}
	for (u32 i = 0; i < count; i++)
		cpus[i].self = &cpus[i], cpus[i].number = i, cpus[i].apic = ids[i];
	for (u32 i = 0; i < sizeof states / sizeof states[0]; i++) {
		u64 which = option(states[i].name, 0);
		if (which && which < count)
			cpus[which].role = states[i].role;
	}
	latch.mirror = queue.mirror = ~0ull;
	on_vector(RING, on_ring);
	on_vector(WAKE, on_wake);
	on_vector(NMI, on_nmi);
	on_vector(0xFF, on_spurious);
	outb(0x21, 0xFF);
	outb(0xA1, 0xFF);
	join(&cpus[0]);
	for (u32 i = 1; i < count; i++)
		if (cpus[i].role != WAITING && !start(&cpus[i]))
			return 3;
	asm volatile("sti");
	print("smp: %u cpus, %lu pages each, %s, %s\n", count, pages, apic_x2 ? "x2APIC" : "xAPIC", avx ? "AVX" : "SSE");
	u64 next = rdtsc() + gap;
	for (u64 tick = 1;;) {
		until_stop(&cpus[0]);
		u64 now = rdtsc();
		if (now < next)
			continue;
		next = now - next < gap ? next + gap : now + gap;
		print("tick %lu errors %lu\n", tick++, errors);
		if (work)
			print("work %lu at %lu\n", rounds_of_all(), now);
		print_notes();
		if (inb(COM1 + 5) & 1) /* LSR.DR */
			check(inb(COM1) == 'r');
	}
}
