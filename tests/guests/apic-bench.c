/* What a guest pays for its local APIC, in TSC ticks: least of many runs. Each figure includes the guest's own part of it:
 * `eoi` the loop and the operands, `self_ipi` and `timer_irq` a handler that writes EOI and returns.
 * `ipi=1`: instead, with two CPUs, `ipi_halted`: the first wakes the other, which is halted, by an IPI, and halts until the
 * other's has come in answer. */
#include "ping.h"
#include "smp.h"

enum { OPERATIONS = 100, RUNS = 40, VECTOR = 0x61, TIMER = 0x62, LEAD = 20000 };
enum { APIC_BASE = 0x1b, TSC_DEADLINE = 0x6e0, X2APIC = 0x800, SVR = 0x0f, LVT_TIMER = 0x32, EOI = 0x0b, SELF_IPI = 0x3f };
#define APIC 0xfee00000ul

/* Handlers without the run-time's frame: EOI by the MSR. The second notes the time when it is entered and when it is done. */
extern void on_ipi(void), on_timer(void);
volatile u64 entered, ended;
asm("on_ipi:\n\t"
    "push %rax\n\tpush %rcx\n\tpush %rdx\n\t"
    "mov $0x80b, %ecx\n\txor %eax, %eax\n\txor %edx, %edx\n\twrmsr\n\t"
    "pop %rdx\n\tpop %rcx\n\tpop %rax\n\tiretq\n"
    "on_timer:\n\t"
    "push %rax\n\tpush %rcx\n\tpush %rdx\n\t"
    "rdtsc\n\tmov %eax, entered\n\tmov %edx, entered+4\n\t"
    "mov $0x80b, %ecx\n\txor %eax, %eax\n\txor %edx, %edx\n\twrmsr\n\t"
    "rdtsc\n\tmov %eax, ended\n\tmov %edx, ended+4\n\t"
    "pop %rdx\n\tpop %rcx\n\tpop %rax\n\tiretq\n");

/* The run-time's gate leads to this from now on. */
static void gate(u8 vector, void (*to)(void))
{
	struct { u16 limit; u64 base; } __attribute__((packed)) idtr;
	asm volatile("sidt %0" : "=m"(idtr));
	volatile u16 *at = (volatile u16 *)(idtr.base + 16 * vector);
	u64 address = (u64)to;
	at[0] = address, at[3] = address >> 16, at[4] = address >> 32, at[5] = address >> 48;
}

static void report(const char *name, u64 least, u64 count)
{
	print("bench %s %lu.%02lu\n", name, least / count, least * 100 / count % 100);
}

#define BENCH(name, setup, ...) do { \
	u64 least = ~0ull; \
	for (int run = 0; run < RUNS; run++) { \
		u64 start = rdtsc(); \
		asm volatile(setup "\n\tmov %0, %%r8d\n1:\t" __VA_ARGS__ "\n\tdec %%r8d\n\tjnz 1b" \
			     : : "i"(OPERATIONS), "D"(APIC) : "rax", "rcx", "rdx", "r8", "memory", "cc"); \
		u64 ticks = rdtsc() - start; \
		least = ticks < least ? ticks : least; \
	} \
	report(name, least, OPERATIONS); \
} while (0)

static u8 stack[4096] __attribute__((aligned(16)));
static volatile u64 answers;

static void answer(void *argument)
{
	(void)argument;
	apic_enable();
	answers = 1;
	ping_answer();
}

static int ping(void)
{
	u32 ids[2];
	gate(PING_ASK, ping_asked);
	gate(PING_ANSWER, ping_answered);
	apic_x2 = true;
	apic_enable();
	if (acpi_cpus(ids, 2) != 2 || ids[0] != 0 || !start_cpu(ids[1], stack + sizeof stack, answer, NULL))
		return 2;
	while (!answers)
		relax();
	u64 least = ~0ull;
	for (int run = 0; run < PING_RUNS; run++) {
		u64 ticks = ping_ask(PING_TRIPS, ids[1]);
		least = ticks < least ? ticks : least;
	}
	report("ipi_halted", least, PING_TRIPS);
	print("apic-bench: done\n");
	return 0;
}

int main(void)
{
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	if (option("ipi", 0))
		return ping();
	on_vector(VECTOR, 0);
	on_vector(TIMER, 0);
	gate(VECTOR, on_ipi);
	gate(TIMER, on_timer);
	write32(APIC + 0xf0, 0x1ff);
	BENCH("eoi_mmio", "xor %%eax, %%eax", "mov %%eax, 0xb0(%%rdi)");
	BENCH("tpr_mmio", "xor %%eax, %%eax", "mov %%eax, 0x80(%%rdi)");
	BENCH("cr8", "xor %%eax, %%eax", "mov %%rax, %%cr8");
	wrmsr(APIC_BASE, rdmsr(APIC_BASE) | 1 << 10);
	BENCH("eoi", "xor %%eax, %%eax\n\txor %%edx, %%edx\n\tmov $0x80b, %%ecx", "wrmsr");
	asm volatile("sti");
	BENCH("self_ipi", "mov $0x61, %%eax\n\txor %%edx, %%edx\n\tmov $0x83f, %%ecx", "wrmsr");
	wrmsr(X2APIC + LVT_TIMER, 2 << 17 | TIMER);
	u64 least_entry = ~0ull, least = ~0ull;
	for (int run = 0; run < RUNS; run++) {
		ended = 0;
		u64 deadline = rdtsc() + LEAD + 100 * run;
		wrmsr(TSC_DEADLINE, deadline);
		while (!ended)
			;
		u64 entry = entered - deadline, all = ended - deadline;
		least_entry = entry < least_entry ? entry : least_entry;
		least = all < least ? all : least;
	}
	asm volatile("cli");
	report("timer_entry", least_entry, 1);
	report("timer_irq", least, 1);
	print("apic-bench: done\n");
	return 0;
}
