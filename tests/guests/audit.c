/* Executes, when told to, instructions that a low level hides and no control can take away; prints where they stand.
 * A byte on COM1 says what to do: `x` all of them in a row, `s` one that is written over code that ran before, and one
 * that crosses a page, `l` a loop that writes to its own page, `o` patches that page while it may be both written and
 * executed, `p` runs it, `t` writes and calls many pages and prints the ticks, `q` ends. `row=` (5) of the instructions
 * are taken: older CPUs have the first only.
 *
 * A second CPU executes what the first has written: `a` all of the instructions, each over the one before, `m` many pages,
 * `f` a function `calls=` (1000) times, while the first writes to its page at the same time; `b` has both run a loop that writes to the
 * page that both are on, `c` patches the function. */
#include "smp.h"

enum { COM1 = 0x3F8, PAGE = 4096, CALLED = 64 };

/* Every page is for one purpose, so that nothing but the code meant stands in it. */
static u8 page[6][PAGE] __attribute__((aligned(PAGE)));
static u8 called[CALLED][PAGE] __attribute__((aligned(PAGE)));
static u8 area[PAGE] __attribute__((aligned(PAGE)));
static u8 shared[2][PAGE] __attribute__((aligned(PAGE)));
enum { ROW, OVER, ACROSS, ACROSS_NEXT, SELF };
enum { HANDED, FOUGHT };

struct insn { const char *feature; u8 len; u8 code[9]; };
static const struct insn row[] = {
	{"POPCNT", 4, {0xF3, 0x0F, 0xB8, 0xC0}},                 /* popcnt %eax, %eax */
	{"SSE4.2", 5, {0xF2, 0x0F, 0x38, 0xF1, 0xC0}},           /* crc32l %eax, %eax */
	{"AESNI", 5, {0x66, 0x0F, 0x38, 0xDC, 0xC1}},            /* aesenc %xmm1, %xmm0 */
	{"MOVBE", 4, {0x0F, 0x38, 0xF0, 0x07}},                  /* movbe (%rdi), %eax */
	{"BMI1", 5, {0xC4, 0xE2, 0x78, 0xF2, 0xC1}},             /* andn %ecx, %eax, %eax */
};
static const struct insn over = {"BMI2", 5, {0xC4, 0xE2, 0x7B, 0xF5, 0xC1}};           /* pdep %ecx, %eax, %eax */
static const struct insn across = {"PCLMULQDQ", 6, {0x66, 0x0F, 0x3A, 0x44, 0xC1, 0}}; /* pclmulqdq $0, %xmm1, %xmm0 */
static const struct insn patch = {"ADX", 5, {0x66, 0x0F, 0x38, 0xF6, 0xC1}};           /* adcx %ecx, %eax */

/* 1000 times: a counter in the same page goes up. */
static const u8 loop[] = {
	0xB9, 0xE8, 3, 0, 0,            /* mov $1000, %ecx */
	0xFF, 0x05, 0x35, 0, 0, 0,      /* 1: incl counter(%rip) */
	0xFF, 0xC9, 0x75, 0xF6,         /* dec %ecx; jnz 1b */
	0xC3,                           /* ret, to be patched */
};
enum { PATCH = sizeof loop - 1, COUNTER = 64, SECOND = PAGE / 2 };
static const u8 function[] = {0xFF, 0x07, 0xC3}; /* incl (%rdi); ret, to be patched */

/* The `time`th call: no two of them have the same in all registers. */
static void call(const void *code, u64 time)
{
	asm volatile("call *%1" : "+c"(time) : "r"(code), "D"(area) : "rax", "rdx", "memory", "cc");
}

static u8 *put(u8 *at, const struct insn *insn)
{
	for (int i = 0; i < insn->len; i++)
		at[i] = insn->code[i];
	return at + insn->len;
}

static void tell(const struct insn *insn, const u8 *at) { print("audit: %s at 0x%lx\n", insn->feature, (u64)at); }

static u32 rows, calls;

static void in_a_row(void)
{
	u8 *at = page[ROW];
	for (u32 i = 0; i < rows; i++) {
		tell(&row[i], at);
		at += row[i].len;
	}
	call(page[ROW], 0);
	print("audit: row done\n");
}

static void over_code(void)
{
	page[OVER][0] = 0xC3;
	call(page[OVER], 0);
	*put(page[OVER], &over) = 0xC3;
	tell(&over, page[OVER]);
	call(page[OVER], 1);
	u8 *at = page[ACROSS] + PAGE - 3;
	tell(&across, at);
	call(at, 0);
	print("audit: over done\n");
}

static void own_page(void)
{
	u32 *counter = (u32 *)(page[SELF] + COUNTER);
	*(volatile u32 *)counter = 0;
	call(page[SELF], 0);
	print("audit: %u writes\n", *(volatile u32 *)counter);
}

static void many_pages(void)
{
	u64 start = rdtsc();
	for (int i = 0; i < CALLED; i++) {
		*(volatile u8 *)&called[i][PAGE - 1] = i;
		call(called[i], i);
	}
	print("audit: %lu ticks\n", rdtsc() - start);
}

/* ---- the second CPU ---- */

static u8 stack[8192] __attribute__((aligned(16)));
static const void *volatile code;
static volatile u64 times, asked, done;

static void enable_sse(void)
{
	write_cr0((read_cr0() & ~(1ull << 2 | 1 << 3)) | 1 << 1); /* MP on; EM, TS off */
	write_cr4(read_cr4() | 1 << 9 | 1 << 10);                  /* OSFXSR, OSXMMEXCPT */
}

static void second(void *argument)
{
	(void)argument;
	enable_sse();
	for (u64 seen = 0;; done = seen) {
		while (asked == seen)
			relax();
		seen = asked;
		for (u64 i = 0; i < times; i++)
			call(code, i);
	}
}

/* It is to call `what` so often. */
static void have_called(const void *what, u64 often)
{
	code = what;
	times = often;
	asked++;
}

static void wait_for_it(void)
{
	while (done != asked)
		relax();
}

static void handed_over(void)
{
	for (u32 i = 0; i < rows; i++) {
		*put(shared[HANDED], &row[i]) = 0xC3;
		tell(&row[i], shared[HANDED]);
		have_called(shared[HANDED], 1);
		wait_for_it();
	}
	print("audit: handed done\n");
}

static void pages_handed_over(void)
{
	for (int i = 0; i < CALLED; i++) {
		*(volatile u8 *)&called[i][PAGE - 1] = i;
		have_called(called[i], 1);
		wait_for_it();
	}
	print("audit: %u pages\n", CALLED);
}

static void fought_for(void)
{
	volatile u32 *counted = (volatile u32 *)area;
	volatile u64 *written = (volatile u64 *)(shared[FOUGHT] + PAGE - sizeof(u64));
	u64 writes = 0;
	*counted = 0;
	have_called(shared[FOUGHT], calls);
	while (done != asked || writes < calls)
		*written = ++writes;
	print("audit: %u calls, %s writes\n", *counted, *written == writes ? "all" : "not all");
}

static void both_on_one(void)
{
	volatile u32 *first = (volatile u32 *)(page[SELF] + COUNTER), *other = (volatile u32 *)(page[SELF] + SECOND + COUNTER);
	*first = *other = 0;
	have_called(page[SELF] + SECOND, 1);
	call(page[SELF], 0);
	wait_for_it();
	print("audit: %u and %u writes\n", *first, *other);
}

/* ---- */

static u8 wait_byte(void)
{
	print("audit: ready\n");
	while (!(inb(COM1 + 5) & 1)) /* LSR.DR */
		asm volatile("pause");
	return inb(COM1);
}

int main(void)
{
	u32 ids[2];
	enable_sse();
	rows = option("row", sizeof row / sizeof *row);
	calls = option("calls", 1000);
	u8 *at = page[ROW];
	for (u32 i = 0; i < rows; i++)
		at = put(at, &row[i]);
	*at = 0xC3;
	*put(page[ACROSS] + PAGE - 3, &across) = 0xC3;
	for (u32 i = 0; i < sizeof loop; i++)
		page[SELF][i] = page[SELF][SECOND + i] = loop[i];
	memcpy(shared[FOUGHT], function, sizeof function);
	for (int i = 0; i < CALLED; i++)
		called[i][0] = 0xC3;
	if (acpi_cpus(ids, 2) == 2) {
		apic_enable();
		if (!start_cpu(ids[1], stack + sizeof stack, second, NULL))
			return 3;
	}
	for (;;) {
		switch (wait_byte()) {
		case 'x': in_a_row(); break;
		case 's': over_code(); break;
		case 'l': own_page(); break;
		case 'o':
			*put(page[SELF] + PATCH, &patch) = 0xC3;
			tell(&patch, page[SELF] + PATCH);
			break;
		case 'p': own_page(); break;
		case 't': many_pages(); break;
		case 'a': handed_over(); break;
		case 'm': pages_handed_over(); break;
		case 'f': fought_for(); break;
		case 'b': both_on_one(); break;
		case 'c':
			*put(shared[FOUGHT] + sizeof function - 1, &patch) = 0xC3;
			tell(&patch, shared[FOUGHT] + sizeof function - 1);
			break;
		case 'q': print("audit: done\n"); return 0;
		}
	}
}
