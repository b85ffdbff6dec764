/* Accesses that a hypervisor carries out in the guest's place: operands over a page end, widths of address registers,
 * single steps, page tables with bits that this CPU does not have, instructions of every kind on no memory. */
#include "guest.h"

enum { SCRATCH = 0x3FF, PAIR = 0x3FE, LINEAR = 0x40000000, NOTHING = 0xD0000000 };
#define PRESENT_WRITABLE 3ull
#define ACCESSED_DIRTY 0x60ull

static int bad;

static void say(bool ok, const char *name, u64 a, u64 b)
{
	bad += !ok;
	print("%s %s 0x%lx 0x%lx\n", ok ? "ok" : "BAD", name, a, b);
}

static u64 table[512] __attribute__((aligned(4096)));
static u8 *frames;

static u64 read_cr2(void) { u64 v; asm volatile("mov %%cr2, %0" : "=r"(v)); return v; }
static u64 read_cr3(void) { u64 v; asm volatile("mov %%cr3, %0" : "=r"(v)); return v; }
static void flush(void) { asm volatile("mov %0, %%cr3" : : "r"(read_cr3()) : "memory"); }

/* Page n at LINEAR. */
static void map(int n, u64 entry) { table[n] = entry; flush(); }

static u8 *frame(int n) { return frames + 4096 * n; }

static void prepare(void)
{
	frames = (u8 *)((free_memory() + 0x1FFFFF) & ~0x1FFFFFull);
	u64 *top = (u64 *)(read_cr3() & ~0xFFFull), *next = (u64 *)(top[0] & ~0xFFFull);
	u64 *directory = (u64 *)(next[1] & 0xFFFFFF000ull);
	directory[0] = (u64)table | PRESENT_WRITABLE;
	map(0, (u64)frame(0) | PRESENT_WRITABLE);
	map(1, (u64)frame(2) | PRESENT_WRITABLE); /* not frame 1, which is somebody else's */
}

static void page_ends(void)
{
	u8 *own = frame(0), *foreign = frame(1), *other = frame(2);
	own[4095] = 0x11, foreign[0] = 0x22, other[0] = 0x77;
	outb(SCRATCH, 0);
	u64 at = LINEAR + 4095;
	asm volatile("outsw" : "+S"(at) : "d"(PAIR) : "memory");
	say(inb(SCRATCH) == 0x77, "outsw over a page end", inb(SCRATCH), 0x77);

	outb(SCRATCH, 0x5A);
	map(0, (u64)frame(0) | PRESENT_WRITABLE);
	map(1, (u64)frame(2) | PRESENT_WRITABLE);
	at = LINEAR + 4095;
	asm volatile("insw" : "+D"(at) : "d"(PAIR) : "memory");
	say(other[0] == 0x5A && foreign[0] == 0x22, "insw over a page end", other[0], foreign[0]);
	say((table[0] & table[1] & ACCESSED_DIRTY) == ACCESSED_DIRTY, "both pages accessed and dirty", table[0], table[1]);

	other[0] = 0;
	u64 from = NOTHING, to = LINEAR + 4095;
	asm volatile("movsl" : "+S"(from), "+D"(to) : : "memory");
	say(other[0] == 0xFF && foreign[0] == 0x22, "movsl from nothing over a page end", other[0], foreign[0]);

	map(1, 0);
	own[4095] = 0x11;
	at = LINEAR + 4095;
	asm volatile(GUARD("insw") : "+D"(at) : "d"(PAIR) : "memory");
	say(fault_vector == PF && fault_error == 2 && read_cr2() == LINEAR + 4096, "insw onto an absent page", fault_error, read_cr2());
	say(foreign[0] == 0x22 && own[4095] == 0x11 && at == LINEAR + 4095, "and nothing done", foreign[0], own[4095]);

	/* Half in memory, half out of it. */
	map(1, NOTHING | PRESENT_WRITABLE);
	u32 value = 0;
	asm volatile("movl (%1), %0" : "=r"(value) : "r"((u64)LINEAR + 4095) : "memory");
	say(value == 0xFFFFFF11, "movl half out of memory", value, 0xFFFFFF11);
	asm volatile("movl %0, (%1)" : : "r"(0x99999944), "r"((u64)LINEAR + 4095) : "memory");
	say(own[4095] == 0x44 && foreign[0] == 0x22, "and back", own[4095], foreign[0]);
}

static void widths(void)
{
	static char text[] = "xyz";
	u64 si = 7ull << 32 | (u32)(u64)text, cx = 5ull << 32 | 2;
	asm volatile(".byte 0x67; rep outsb" : "+S"(si), "+c"(cx) : "d"(0x80) : "memory");
	say(si == (u32)(u64)text + 2 && cx == 0, "32-bit addresses clear the upper halves", si, cx);
}

static volatile int steps, steps_there;
static u64 watched;
static void on_debug(struct frame *f)
{
	steps++;
	steps_there += f->rip == watched;
	u64 dr6 = 0xFFFF0FF0;
	asm volatile("mov %0, %%dr6" : : "r"(dr6));
}

/* A trap after each iteration (SDM 3B 17.3.1.4). */
#define STEP(insn) "pushfq\n\torq $0x100, (%%rsp)\n\tpopfq\n\t1: " insn "\n\tpushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq\n\tnop"
static void single_steps(void)
{
	on_vector(1, on_debug);
	u64 si = (u64)"abc", cx = 3;
	asm volatile("lea 1f(%%rip), %%rax\n\tmov %%rax, %2\n\t" STEP("rep outsb") : "+S"(si), "+c"(cx), "=m"(watched) : "d"(0x80) : "rax", "memory", "cc");
	say(steps_there == 2 && cx == 0, "rep outsb in single steps", steps, steps_there);
	steps = steps_there = 0;
	u64 di = NOTHING;
	cx = 3;
	asm volatile("lea 1f(%%rip), %%rax\n\tmov %%rax, %2\n\t" STEP("rep stosb") : "+D"(di), "+c"(cx), "=m"(watched) : : "rax", "memory", "cc");
	say(steps_there == 2 && cx == 0, "rep stosb in single steps", steps, steps_there);
}

static void reserved_bits(void)
{
	u32 width = cpuid_checked(0x80000008, 0).eax & 0xFF;
	if (width < 52) {
		u64 value;
		map(1, (u64)frame(2) | PRESENT_WRITABLE | 1ull << width);
		asm volatile(GUARD("movq (%1), %0") : "=r"(value) : "r"((u64)LINEAR + 4096) : "memory");
		say(fault_vector == PF && fault_error == 9 && read_cr2() == LINEAR + 4096, "a bit beyond the width", fault_error, width);
		map(1, (u64)frame(2) | PRESENT_WRITABLE);
	}
	/* A table that is not there reads as ones. */
	u64 *top = (u64 *)(read_cr3() & ~0xFFFull), old = top[256], value;
	top[256] = NOTHING | PRESENT_WRITABLE;
	flush();
	/* What the walk does to the tables is not what the program does: each access has its own bits. */
	u64 below = 0xFFFF800000000000ull, fetch = rdmsr(0xC0000080) & 1 << 11 ? 0x10 : 0;
	asm volatile(GUARD("movq (%1), %0") : "=r"(value) : "r"(below) : "memory");
	say(fault_vector == PF && fault_error == 9 && read_cr2() == below, "read by a table that is not there", fault_error, fault_vector);
	asm volatile(GUARD("movq %0, (%1)") : : "r"(below), "r"(below) : "memory");
	say(fault_vector == PF && fault_error == 0xB && read_cr2() == below, "write by a table that is not there", fault_error, fault_vector);
	asm volatile(GUARD("xaddl %%eax, (%0)") : : "r"(below) : "eax", "memory", "cc");
	say(fault_vector == PF && fault_error == 0xB && read_cr2() == below, "xadd by a table that is not there", fault_error, fault_vector);
	asm volatile(GUARD("jmp *%0") : : "r"(below) : "memory");
	say(fault_vector == PF && fault_error == (9 | fetch) && read_cr2() == below, "fetch by a table that is not there", fault_error, fault_vector);
	top[256] = old;
	flush();
}

/* Each has the address in RDI; what it should leave in RAX, and how it should end. */
#define ON_NOTHING(name, insn, start, want, vector) do { \
	u64 rax = (start), rdi = NOTHING, rsi = (u64)frame(0), rcx = 1, rdx = 1; \
	asm volatile("mov %%rsp, %%rbx\n\t" GUARD(insn) "mov %%rbx, %%rsp" \
		     : "+a"(rax), "+D"(rdi), "+S"(rsi), "+c"(rcx), "+d"(rdx) : : "rbx", "memory", "cc"); \
	say(rax == (u64)(want) && fault_vector == (vector), name, rax, fault_vector); \
} while (0)

static void instructions(void)
{
	frame(0)[0] = 0xFF;
	ON_NOTHING("cmpsb", "cmpsb\n\tsete %%al", 0, 1, -1);
	ON_NOTHING("scasb", "scasb\n\tsetne %%al", 0, 1, -1);
	ON_NOTHING("push and pop", "pushq (%%rdi)\n\tpop %%rax", 0, ~0ull, -1);
	ON_NOTHING("pop to it", "push %%rax\n\tpopq (%%rdi)", 5, 5, -1);
	ON_NOTHING("setcc", "sete (%%rdi)", 5, 5, -1);
	ON_NOTHING("mul", "mull (%%rdi)\n\tmov %%edx, %%eax", 3, 2, -1);
	ON_NOTHING("imul", "imul $5, (%%rdi), %%eax", 0, 0xFFFFFFFB, -1);
	ON_NOTHING("div", "xor %%edx, %%edx\n\tdivl (%%rdi)", 0xFFFFFFFF, 1, -1);
	ON_NOTHING("idiv, too large", "idivl (%%rdi)", 5, 5, DE);
	ON_NOTHING("bsf", "bsf (%%rdi), %%eax", 5, 0, -1);
	ON_NOTHING("bsr", "bsr (%%rdi), %%rax", 5, 63, -1);
	ON_NOTHING("bt by register", "mov $100, %%eax\n\tbt %%eax, (%%rdi)\n\tsetc %%al\n\tmovzx %%al, %%eax", 0, 1, -1);
	ON_NOTHING("shld", "shld $3, %%eax, (%%rdi)", 5, 5, -1);
	ON_NOTHING("shl", "shll %%cl, (%%rdi)\n\tsetc %%al", 0, 1, -1);
	ON_NOTHING("rcr", "rcrq $5, (%%rdi)", 5, 5, -1);
	ON_NOTHING("clflush", "clflush (%%rdi)", 5, 5, -1);
	ON_NOTHING("lmsw", "smsw %%eax\n\tlmsw (%%rdi)\n\tsmsw %%ecx\n\tlmsw %%ax\n\tmovzx %%cl, %%eax\n\tand $15, %%eax", 0, 15, -1);
	ON_NOTHING("call", "call *(%%rdi)", 5, 5, PF);
}

int main(void)
{
	/* Enabled, write-back: else Linux gives up PAT. */
	say(rdmsr(0x2FF) == 0x806, "MTRRs as firmware leaves them", rdmsr(0x2FF), 0x806);
	prepare();
	page_ends();
	widths();
	single_steps();
	reserved_bits();
	instructions();
	print("access-probe: %d BAD\n", bad);
	return bad != 0;
}
