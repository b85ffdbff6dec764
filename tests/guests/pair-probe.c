/* What must stay the same wherever the guest runs, again and again: the cells of level-probe.c, every CPUID leaf as
 * cpuid-dump.c prints it, and the MSRs that do not change, as `msr INDEX VALUE` or the exception. The first round is
 * printed whole, between `round 1 begin` and `round 1 end LINES`; of later ones only `changed NUMBER LINE`, for lines
 * that differ from the first round's (numbered from 0). `gap=` is the time between rounds in TSC ticks (0). */
#include "guest.h"

#define main probe_cells
#include "level-probe.c"
#undef main
#define main dump_cpuid
#include "cpuid-dump.c"
#undef main

static const u32 constant[] = {
	0x17, 0x3A, 0x8B, 0xCE, 0xCF, 0xFE, 0x10A, 0x140, 0x179, 0x17A, 0x1A0, 0x1D9, 0x480, 0xDA0, 0x40000000,
};

enum { LINES = 512, WIDTH = 96 };
/* The first round, and the line that is being printed. */
static char first[LINES][WIDTH], current[WIDTH];
static u32 lines, column;
static u64 round;

static bool same_line(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static void end_line(void)
{
	current[column] = 0;
	if (lines == LINES) {
		print_to = NULL;
		print("pair-probe: more than %u lines\n", LINES);
		quit(97);
	}
	char *at = first[lines];
	if (round == 1)
		for (u32 i = 0; i <= column; i++)
			at[i] = current[i];
	void (*sink)(char) = print_to;
	print_to = NULL;
	if (round == 1)
		print("%s\n", current);
	else if (!same_line(at, current))
		print("changed %u %s\n", lines, current);
	print_to = sink;
	lines++;
	column = 0;
}

static void collect(char c)
{
	if (c == '\n')
		end_line();
	else if (c != '\r' && column < WIDTH - 1)
		current[column++] = c;
}

static void print_msrs(void)
{
	for (u32 i = 0; i < sizeof constant / sizeof *constant; i++) {
		u64 value;
		int fault = try_rdmsr(constant[i], &value);
		if (fault < 0)
			print("msr %08x %016lx\n", constant[i], value);
		else
			print("msr %08x %s\n", constant[i], fault_name(fault));
	}
}

int main(void)
{
	u64 gap = option("gap", 0);
	for (round = 1;; round++) {
		u64 start = rdtsc();
		print("round %lu begin\n", round);
		lines = 0;
		print_to = collect;
		probe_cells();
		dump_cpuid();
		print_msrs();
		print_to = NULL;
		print("round %lu end %u\n", round, lines);
		while (rdtsc() - start < gap)
			;
	}
}
