#include "smp.h"

enum { IA32_APIC_BASE = 0x1B, X2APIC_ICR = 0x830, TRAMPOLINE = 0x8000 };

extern const u8 ap_begin[], ap_end[];
void ap_main(void);

bool apic_x2;
volatile u64 ap_stack;
static void (*volatile ap_job)(void *);
static void *volatile ap_argument;
static volatile u32 ap_starts;

static u64 base(void) { return rdmsr(IA32_APIC_BASE) & 0xFFFFFF000; }

u32 apic_read(u32 reg) { return apic_x2 ? (u32)rdmsr(0x800 + (reg >> 4)) : read32(base() + reg); }

void apic_write(u32 reg, u32 value)
{
	if (apic_x2)
		wrmsr(0x800 + (reg >> 4), value);
	else
		write32(base() + reg, value);
}

u32 apic_id(void) { return apic_read(APIC_ID) >> (apic_x2 ? 0 : 24); }

void apic_enable(void)
{
	if (apic_x2)
		wrmsr(IA32_APIC_BASE, rdmsr(IA32_APIC_BASE) | 1 << 10);
	apic_write(APIC_SVR, 0x1FF);
	apic_write(APIC_TPR, 0);
}

void apic_send(u32 id, u32 command)
{
	if (apic_x2) {
		/* A write of this MSR is not serializing (SDM 3A 11.12.3). */
		asm volatile("mfence; lfence" : : : "memory");
		wrmsr(X2APIC_ICR, (u64)id << 32 | command);
		return;
	}
	while (apic_read(APIC_ICR) & 1 << 12) /* the one before is under way */
		relax();
	apic_write(APIC_ICR_HIGH, id << 24);
	apic_write(APIC_ICR, command);
}

static void wait(u64 ticks)
{
	for (u64 start = rdtsc(); rdtsc() - start < ticks;)
		relax();
}

bool start_cpu(u32 id, void *stack_top, void (*job)(void *), void *argument)
{
	u8 *page = (u8 *)(u64)TRAMPOLINE;
	u32 before = ap_starts;
	for (const u8 *from = ap_begin; from < ap_end;)
		*page++ = *from++;
	ap_stack = (u64)stack_top;
	ap_job = job;
	ap_argument = argument;
	apic_send(id, IPI_INIT);
	wait(200000);
	for (int i = 0; i < 2; i++) {
		apic_send(id, IPI_STARTUP | TRAMPOLINE >> 12);
		wait(20000);
	}
	for (u64 start = rdtsc(); ap_starts == before; relax())
		if (rdtsc() - start > 1ull << 30)
			return false;
	return true;
}

/* Called by ap.S. */
void ap_main(void)
{
	void (*job)(void *) = ap_job;
	void *argument = ap_argument;
	use_idt();
	asm volatile("lock incl %0" : "+m"(ap_starts) : : "memory");
	job(argument);
	for (;;)
		asm volatile("cli; hlt");
}
