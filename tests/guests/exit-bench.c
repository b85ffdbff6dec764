/* What a VM exit costs, in TSC ticks: 100 operations bracketed by RDTSC, least of 40 runs, hundredths of a tick.
 * The figures include the guest's own loop, `floor`. `port=` (0x99) and `mmio=` (0xfeb00000) must be unclaimed.
 * `others=1`: beside CPUs that have been started and are halted, and the last one, which waits for its start-up IPI. */
#include "smp.h"

enum { OPERATIONS = 100, RUNS = 40, CPUS = 16, STACK = 4096 };

static u8 stacks[CPUS][STACK] __attribute__((aligned(16)));
static volatile u64 halting;

/* What runs a further CPU halts it for good after this. */
static void halts(void *argument)
{
	(void)argument;
	lock_xadd(&halting, 1);
}

/* False: one does not start, or there are too few. */
static bool start_others(void)
{
	u32 ids[CPUS], count = acpi_cpus(ids, CPUS), started = 0;
	apic_enable();
	for (u32 i = 0; i + 1 < count; i++)
		if (ids[i] != apic_id()) {
			if (!start_cpu(ids[i], stacks[i] + STACK, halts, NULL))
				return false;
			started++;
		}
	while (halting != started)
		relax();
	print("exit-bench: %u CPUs, %u of them halted\n", count, started);
	return count > 2 && started == count - 2;
}

static void report(const char *name, u64 least)
{
	print("bench %s %lu.%02lu\n", name, least / OPERATIONS, least % OPERATIONS);
}

/* Each operation is inlined into a loop of DEC and JNZ; all of them may change RAX, RBX, RCX, RDX. */
#define BENCH(name, ...) do { \
	u64 least = ~0ull; \
	for (int run = 0; run < RUNS; run++) { \
		u64 start = rdtsc(); \
		asm volatile("mov %0, %%r8d\n1:\t" __VA_ARGS__ "\n\tdec %%r8d\n\tjnz 1b" \
			     : : "i"(OPERATIONS), "S"(port), "D"(mmio) : "rax", "rbx", "rcx", "rdx", "r8", "memory", "cc"); \
		u64 ticks = rdtsc() - start; \
		least = ticks < least ? ticks : least; \
	} \
	report(name, least); \
} while (0)

int main(void)
{
	u64 port = option("port", 0x99);
	u64 mmio = option("mmio", 0xFEB00000);
	u32 edx = rdmsr(0x1B) >> 32;
	if (option("others", 0) && !start_others())
		return 2;
	print("exit-bench: APIC_BASE high %x\n", edx);
	BENCH("floor", "nop");
	BENCH("cpuid_exit", "xor %%eax, %%eax\n\tcpuid");
	BENCH("rdmsr_exit", "mov $0x1B, %%ecx\n\trdmsr");
	BENCH("wrmsr_exit", "mov $0x8B, %%ecx\n\txor %%eax, %%eax\n\txor %%edx, %%edx\n\twrmsr");
	BENCH("io_exit", "mov %%esi, %%edx\n\tinb %%dx, %%al");
	BENCH("mmio_exit", "mov (%%rdi), %%eax");
	print("exit-bench: done\n");
	return 0;
}
