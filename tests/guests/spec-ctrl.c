/* IA32_SPEC_CTRL, IA32_PRED_CMD and IA32_FLUSH_CMD: what CPUID announces works, any other bit and what it hides raises
 * #GP. Then, with `ticks=` (0: without end) other than 1, holds `value=` in IA32_SPEC_CTRL and prints `tick N errors E`
 * every `gap=` TSC ticks (1000000), E being how often the register did not hold it. `expect=` (1): whether there must
 * be an IA32_SPEC_CTRL. */
#include "guest.h"

enum { SPEC_CTRL = 0x48, PRED_CMD = 0x49, FLUSH_CMD = 0x10B };

static int oks, bads;

static void judge(bool good, const char *what, u64 value)
{
	good ? oks++ : bads++;
	if (!good)
		print("%s 0x%lx: BAD\n", what, value);
}

static void absent(u32 msr, const char *name)
{
	u64 value;
	judge(try_rdmsr(msr, &value) == GP, name, msr);
	judge(try_wrmsr(msr, 0) == GP, name, msr);
	judge(try_wrmsr(msr, 1) == GP, name, msr);
}

static void command(u32 msr, const char *name)
{
	u64 value;
	judge(try_rdmsr(msr, &value) == GP, name, msr);
	judge(try_wrmsr(msr, 1) == -1, name, 1);
	judge(try_wrmsr(msr, 0) == -1, name, 0);
	for (int bit = 1; bit < 64; bit++)
		judge(try_wrmsr(msr, 1ul << bit) == GP, name, 1ul << bit);
}

/* The register holds `value`, and still does after an exit. */
static bool holds(u64 value)
{
	u64 before = rdmsr(SPEC_CTRL);
	cpuid(0, 0);
	return before == value && rdmsr(SPEC_CTRL) == value;
}

static void spec_ctrl(u64 allowed)
{
	judge(holds(0), "SPEC_CTRL at start", rdmsr(SPEC_CTRL));
	for (u64 value = 0; value < 8; value++) {
		bool legal = !(value & ~allowed);
		u64 held = rdmsr(SPEC_CTRL);
		judge(try_wrmsr(SPEC_CTRL, value) == (legal ? -1 : GP), "SPEC_CTRL write", value);
		judge(holds(legal ? value : held), "SPEC_CTRL read", value);
	}
	wrmsr(SPEC_CTRL, allowed);
	for (int bit = 3; bit < 64; bit++)
		judge(try_wrmsr(SPEC_CTRL, allowed | 1ul << bit) == GP && holds(allowed), "SPEC_CTRL reserved", 1ul << bit);
}

int main(void)
{
	struct cpuid seven = cpuid_checked(7, 0);
	/* IBRS_IBPB, STIBP, SSBD to bits 0, 1, 2. */
	u64 allowed = (seven.edx >> 26 & 3) | (seven.edx >> 31 & 1) << 2;
	bool there = allowed & 1;
	judge(there == option("expect", 1), "SPEC_CTRL announced", allowed);
	print("spec-ctrl: bits 0x%lx, L1D_FLUSH %d\n", allowed, seven.edx >> 28 & 1);
	if (there) {
		spec_ctrl(allowed);
		command(PRED_CMD, "PRED_CMD");
	} else {
		absent(SPEC_CTRL, "SPEC_CTRL");
		absent(PRED_CMD, "PRED_CMD");
	}
	if (seven.edx >> 28 & 1)
		command(FLUSH_CMD, "FLUSH_CMD");
	else
		absent(FLUSH_CMD, "FLUSH_CMD");
	print("spec-ctrl: %d ok, %d BAD\n", oks, bads);

	u64 ticks = option("ticks", 1), gap = option("gap", 1000000), value = option("value", allowed), errors = 0;
	if (there)
		wrmsr(SPEC_CTRL, value);
	for (u64 tick = 1; ticks != 1 && (!ticks || tick <= ticks); tick++) {
		u64 start = rdtsc();
		do
			errors += there && rdmsr(SPEC_CTRL) != value;
		while (rdtsc() - start < gap);
		print("tick %lu errors %lu\n", tick, errors);
	}
	return bads || errors;
}
