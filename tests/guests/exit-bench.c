/* What a VM exit costs, in TSC ticks: 100 operations bracketed by RDTSC, least of 40 runs, hundredths of a tick.
 * The figures include the guest's own loop, `floor`. `port=` (0x99) and `mmio=` (0xfeb00000) must be unclaimed. */
#include "guest.h"

enum { OPERATIONS = 100, RUNS = 40 };

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
