/* What a guest must not be able to harm anybody with: storms of IPIs from one of its CPUs, at CPUs that run, that wait for
 * their start, and that are not there. Three CPUs at least. It prints a line after each, and `hostile: N wrong` at the end;
 * a byte on COM1 then has CPU 1 send INIT to CPU 0, which is a reset of the machine. */
#include "smp.h"

enum { MAX = 8, STACK = 8192, COM1 = 0x3F8, STORM = 60, PAGE = 0x8000 >> 12 };

static u8 stacks[MAX][STACK] __attribute__((aligned(16)));
static volatile u64 counts[MAX], starts[MAX];
static volatile bool inits_itself, inits_first;
static u64 wrong;
static u32 ids[MAX], count;

static void run_cpu(void *argument)
{
	u64 number = (u64)argument;
	lock_xadd(&starts[number], 1);
	for (;;) {
		counts[number]++;
		if (number == 2 && inits_itself) {
			inits_itself = false;
			apic_send(ids[2], IPI_INIT);
		}
		if (number == 1 && inits_first)
			apic_send(ids[0], IPI_INIT);
	}
}

static void expect(const char *what, u64 found, u64 wanted)
{
	if (found == wanted)
		return;
	wrong++;
	print("hostile: %s: %lu for %lu\n", what, found, wanted);
}

static bool start(u64 number) { return start_cpu(ids[number], stacks[number] + STACK, run_cpu, (void *)number); }

/* It gets further: so it runs, and has gone on from where it was. */
static void goes_on(u64 number)
{
	for (u64 before = counts[number]; counts[number] == before;)
		relax();
}

/* Long enough for a CPU that runs to get further. */
static bool stands_still(u64 number)
{
	u64 before = counts[number];
	for (u64 start = rdtsc(); rdtsc() - start < 4000000;)
		relax();
	return counts[number] == before;
}

static void storm(u32 id, u32 command)
{
	for (int i = 0; i < STORM; i++)
		apic_send(id, command);
}

int main(void)
{
	static const u32 absent[] = {MAX, 0x7E, 0xFE};
	count = acpi_cpus(ids, MAX);
	if (count < 3)
		return 2;
	asm volatile("cli");
	apic_enable();
	if (!start(1) || !start(2))
		return 3;

	storm(ids[1], IPI_STARTUP | PAGE);
	storm(ids[0], IPI_STARTUP | PAGE);
	goes_on(1);
	expect("starts of a CPU that runs", starts[1], 1);
	print("hostile: start-up IPIs at CPUs that run\n");

	for (u32 i = 0; i < sizeof absent / sizeof absent[0]; i++)
		for (u32 command = 0; command < 8; command++)
			storm(absent[i], 0x4040 | command << 8);
	storm(absent[0], IPI_INIT);
	goes_on(1);
	goes_on(2);
	print("hostile: IPIs of all kinds to CPUs that are not there\n");

	inits_itself = true;
	while (inits_itself)
		relax();
	expect("a CPU that has sent INIT to itself stands still", stands_still(2), true);
	expect("and is started again", start(2), true);
	goes_on(2);
	expect("starts of it", starts[2], 2);
	print("hostile: INIT to itself\n");

	for (int i = 0; i < STORM; i++) {
		apic_send(ids[2], IPI_INIT);
		apic_send(ids[2], IPI_STARTUP | PAGE);
	}
	storm(ids[2], IPI_INIT);
	expect("a CPU after many INITs stands still", stands_still(2), true);
	expect("and is started again", start(2), true);
	goes_on(2);
	goes_on(1);
	print("hostile: INIT and start-up IPIs in turn\n");

	print("hostile: %lu wrong\n", wrong);
	while (!(inb(COM1 + 5) & 1)) /* LSR.DR */
		relax();
	inits_first = true;
	for (;;)
		relax();
}
