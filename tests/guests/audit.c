/* Executes, when told to, instructions that a low level hides and no control can take away; prints where they stand.
 * A byte on COM1 says what to do: `x` all of them in a row, `s` one that is written over code that ran before, and one
 * that crosses a page, `l` a loop that writes to its own page, `o` patches that page while it may be both written and
 * executed, `p` runs it, `t` writes and calls many pages and prints the ticks, `q` ends. `row=` (5) of the instructions
 * are taken: older CPUs have the first only. */
#include "guest.h"

enum { COM1 = 0x3F8, PAGE = 4096, CALLED = 64 };

/* Every page is for one purpose, so that nothing but the code meant stands in it. */
static u8 page[6][PAGE] __attribute__((aligned(PAGE)));
static u8 called[CALLED][PAGE] __attribute__((aligned(PAGE)));
static u8 area[PAGE] __attribute__((aligned(PAGE)));
enum { ROW, OVER, ACROSS, ACROSS_NEXT, SELF };

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
enum { PATCH = sizeof loop - 1, COUNTER = 64 };

static void call(const void *code)
{
	asm volatile("call *%0" : : "r"(code), "D"(area) : "rax", "rcx", "rdx", "memory", "cc");
}

static u8 *put(u8 *at, const struct insn *insn)
{
	for (int i = 0; i < insn->len; i++)
		at[i] = insn->code[i];
	return at + insn->len;
}

static void tell(const struct insn *insn, const u8 *at) { print("audit: %s at 0x%lx\n", insn->feature, (u64)at); }

static u32 rows;

static void in_a_row(void)
{
	u8 *at = page[ROW];
	for (u32 i = 0; i < rows; i++) {
		tell(&row[i], at);
		at += row[i].len;
	}
	call(page[ROW]);
	print("audit: row done\n");
}

static void over_code(void)
{
	page[OVER][0] = 0xC3;
	call(page[OVER]);
	*put(page[OVER], &over) = 0xC3;
	tell(&over, page[OVER]);
	call(page[OVER]);
	u8 *at = page[ACROSS] + PAGE - 3;
	tell(&across, at);
	call(at);
	print("audit: over done\n");
}

static void own_page(void)
{
	u32 *counter = (u32 *)(page[SELF] + COUNTER);
	*(volatile u32 *)counter = 0;
	call(page[SELF]);
	print("audit: %u writes\n", *(volatile u32 *)counter);
}

static void many_pages(void)
{
	u64 start = rdtsc();
	for (int i = 0; i < CALLED; i++) {
		*(volatile u8 *)&called[i][PAGE - 1] = i;
		call(called[i]);
	}
	print("audit: %lu ticks\n", rdtsc() - start);
}

static u8 wait_byte(void)
{
	print("audit: ready\n");
	while (!(inb(COM1 + 5) & 1)) /* LSR.DR */
		asm volatile("pause");
	return inb(COM1);
}

int main(void)
{
	write_cr0((read_cr0() & ~(1ull << 2 | 1 << 3)) | 1 << 1); /* MP on; EM, TS off */
	write_cr4(read_cr4() | 1 << 9 | 1 << 10);                  /* OSFXSR, OSXMMEXCPT */
	rows = option("row", sizeof row / sizeof *row);
	u8 *at = page[ROW];
	for (u32 i = 0; i < rows; i++)
		at = put(at, &row[i]);
	*at = 0xC3;
	*put(page[ACROSS] + PAGE - 3, &across) = 0xC3;
	for (u32 i = 0; i < sizeof loop; i++)
		page[SELF][i] = loop[i];
	for (int i = 0; i < CALLED; i++)
		called[i][0] = 0xC3;
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
		case 'q': print("audit: done\n"); return 0;
		}
	}
}
