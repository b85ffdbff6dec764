/* Debug exceptions where instructions exit: single steps, shadows of STI and MOV SS, breakpoints, RF, DR6 and DR7.GD.
 * Prints `ok NAME` or `BAD NAME`; the result is the number of the latter. */
#include "guest.h"

#define TF 0x100ul
#define RF 0x10000ul
#define BS 0x4000ul
#define BD 0x2000ul
#define DR6_NONE 0xffff0ff0ul
#define APIC 0xfee00000ul
#define GETDR(n) ({u64 v; asm volatile("mov %%dr" #n ", %0" : "=r"(v)); v;})
#define SETDR(n, x) asm volatile("mov %0, %%dr" #n : : "r"((u64)(x)))
#define STEP "pushfq; orq $0x100, (%%rsp); popfq; "
#define STEP_END "pushfq; andq $~0x100, (%%rsp); popfq; nop; "
#define LABEL(name) ".globl " #name "; " #name ": "

static int bad;

static void say(bool ok, const char *name, u64 a, u64 b)
{
	bad += !ok;
	print("%s %s 0x%lx 0x%lx\n", ok ? "ok" : "BAD", name, a, b);
}

/* What the handler of #DB does, and saw. */
static volatile bool keep_stepping, leave_gd;
static volatile int count, nested, depth;
static volatile u64 at[16], dr6[16];
static volatile int ticks, ticks_at_first;

static void on_debug(struct frame *f)
{
	if (depth++) {
		nested++;
		f->rip += 3; /* behind the MOV from DR6 that should not have trapped */
		depth--;
		return;
	}
	u64 cause;
	asm volatile("mov %%dr6, %%rax" : "=a"(cause));
	if (!count)
		ticks_at_first = ticks;
	if (count < 16) {
		at[count] = f->rip;
		dr6[count] = cause;
	}
	count++;
	SETDR(6, DR6_NONE);
	if (!keep_stepping || count > 14)
		f->rflags &= ~TF;
	if (cause & 0xf)
		f->rflags |= RF;
	depth--;
}

static void reset(bool stepping)
{
	count = nested = 0;
	keep_stepping = stepping;
	SETDR(6, DR6_NONE);
}

static void on_timer(struct frame *f)
{
	(void)f;
	ticks++;
	write32(APIC + 0xb0, 0);
}

static void arm_timer(void)
{
	ticks = 0;
	write32(APIC + 0x3e0, 0xb);
	write32(APIC + 0x320, 0x40);
	write32(APIC + 0x380, 20000000);
}

/* RDMSR of an MSR that no level has: the second try reads the TSC. */
static volatile int faults;
static void on_gp(struct frame *f)
{
	faults++;
	f->rcx = 0x10;
	f->rflags &= ~TF;
}

static void steps(void)
{
	extern char over_cpuid[], over_in[], over_out[], over_last[];
	reset(true);
	asm volatile(STEP "xor %%eax, %%eax; " LABEL(over_cpuid) "cpuid; " LABEL(over_in) "in $0x21, %%al; "
		LABEL(over_out) "out %%al, $0x80; " LABEL(over_last) STEP_END : : : "rax", "rbx", "rcx", "rdx", "memory", "cc");
	say(count >= 4 && at[0] == (u64)over_cpuid && at[1] == (u64)over_in && at[2] == (u64)over_out && at[3] == (u64)over_last,
		"step-over-exits", count, at[1] - (u64)over_cpuid);
	say(dr6[1] & dr6[2] & BS, "step-says-so", dr6[1], dr6[2]);

	extern char after_sti[];
	reset(false);
	asm volatile("cli; " STEP "sti; " LABEL(after_sti) "nop; cli" : : : "memory", "cc");
	say(count == 1 && at[0] == (u64)after_sti, "step-over-sti", count, at[0] - (u64)after_sti);

	extern char after_int1[];
	reset(false);
	asm volatile("mov %%ss, %%eax; " STEP "mov %%eax, %%ss; .byte 0xf1; " LABEL(after_int1) "nop"
		: : : "rax", "memory", "cc");
	say(count >= 1 && at[0] == (u64)after_int1, "int1-after-mov-ss", count, at[0] - (u64)after_int1);

	reset(false);
	asm volatile(".byte 0xf1" : : : "memory");
	say(count == 1 && dr6[0] == DR6_NONE, "int1-leaves-dr6", count, dr6[0]);

	reset(false);
	faults = 0;
	asm volatile("mov %%ss, %%eax; mov $0xdead, %%ecx; " STEP "mov %%eax, %%ss; rdmsr"
		: : : "rax", "rcx", "rdx", "memory", "cc");
	say(faults == 1, "fault-after-mov-ss", faults, count);
}

static void halts(void)
{
	extern char after_hlt[];
	reset(false);
	arm_timer();
	asm volatile("cli; pushfq; orq $0x300, (%%rsp); popfq; hlt; " LABEL(after_hlt) "nop; cli" : : : "memory", "cc");
	say(count >= 1 && !ticks_at_first && at[0] == (u64)after_hlt, "step-over-hlt-traps", ticks_at_first, at[0] - (u64)after_hlt);

	/* The interrupt is there when HLT exits: no step is lost to it. Its handler runs unstepped. */
	extern char steps_end[];
	reset(true);
	ticks = 0;
	asm volatile("cli");
	arm_timer();
	while (!(read32(APIC + 0x220) & 1)) /* IRR of vector 0x40 */
		;
	asm volatile(STEP "nop; sti; hlt; nop; cli; " LABEL(steps_end) STEP_END : : : "memory", "cc");
	int before = 0;
	for (int i = 0; i < count && i < 16; i++)
		before += at[i] <= (u64)steps_end;
	say(before == 5 && ticks == 1, "no-step-lost-to-an-interrupt", before, ticks);
	write32(APIC + 0x320, 1 << 16);
}

static void breakpoints(void)
{
	extern char bp_rdmsr[];
	reset(false);
	faults = 0;
	SETDR(0, bp_rdmsr);
	SETDR(7, 0x401);
	asm volatile("mov $0xdead, %%ecx; " LABEL(bp_rdmsr) "rdmsr" : : : "rax", "rcx", "rdx", "memory");
	say(count == 1 && faults == 1, "fault-is-pushed-with-rf", count, faults);

	extern char bp_cpuid[], bp_next[];
	reset(false);
	SETDR(0, bp_cpuid);
	SETDR(1, bp_next);
	SETDR(7, 0x405);
	asm volatile("xor %%eax, %%eax; " LABEL(bp_cpuid) "cpuid; " LABEL(bp_next) "nop" : : : "rax", "rbx", "rcx", "rdx", "memory");
	say(count == 2 && at[1] == (u64)bp_next, "rf-is-spent-by-an-exit", count, at[1] - (u64)bp_next);

	static volatile u32 watched;
	reset(false);
	SETDR(1, &watched);
	SETDR(7, 0x408 | 0xdul << 20); /* DR1: write, 4 bytes */
	SETDR(6, DR6_NONE | 1);
	watched = 1;
	SETDR(7, 0x400);
	say(count == 1 && (dr6[0] & 0xf) == 2, "dr6-names-the-cause-alone", count, dr6[0]);

	reset(false);
	SETDR(7, 0x400 | 1 << 13);
	/* A fault: it would come again where DR7.GD were still set. */
	asm volatile("mov %%dr0, %%rax" : : : "rax");
	say(count == 1 && !nested && dr6[0] & BD, "gd-opens-for-the-handler", nested, dr6[0]);
	SETDR(7, 0x400);
}

int main(void)
{
	on_vector(1, on_debug);
	on_vector(GP, on_gp);
	on_vector(0x40, on_timer);
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	write32(APIC + 0xf0, 0x1ff);
	steps();
	halts();
	breakpoints();
	print("debug-traps: %d BAD\n", bad);
	return bad;
}
