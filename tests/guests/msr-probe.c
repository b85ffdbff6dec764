/* Which MSRs answer, and whether what CPUID hides is really closed: MSRs, EFER, CR0, CR4, XCR0.
 * `ok` where the SDM's rule for the announced features holds, `BAD` where not. */
#include "guest.h"

static int oks, bads;

static void judge(bool good)
{
	good ? oks++ : bads++;
	print(" %s\n", good ? "ok" : "BAD");
}

enum { A, B, C, D };
/* A register bit of CPUID; leaf ANY: judged by no feature, ALWAYS: must answer, NEVER: must not. */
enum { ANY = 0xF0000000, ALWAYS, NEVER };
struct bit { u32 leaf, sub; u8 reg, bit; };

static bool announced(struct bit b)
{
	struct cpuid r = cpuid_checked(b.leaf, b.sub);
	u32 v[] = {r.eax, r.ebx, r.ecx, r.edx};
	return v[b.reg] >> b.bit & 1;
}

static const struct { u32 msr; const char *name; struct bit by; bool write_only; } msrs[] = {
	{0x00000010, "TSC", {ALWAYS, 0, 0, 0}, 0},
	{0x00000017, "PLATFORM_ID", {ANY, 0, 0, 0}, 0},
	{0x0000001B, "APIC_BASE", {ALWAYS, 0, 0, 0}, 0},
	{0x00000034, "SMI_COUNT", {ANY, 0, 0, 0}, 0},
	{0x0000003A, "FEATURE_CONTROL", {ANY, 0, 0, 0}, 0},
	{0x0000003B, "TSC_ADJUST", {7, 0, B, 1}, 0},
	{0x00000048, "SPEC_CTRL", {7, 0, D, 26}, 0},
	{0x00000049, "PRED_CMD", {7, 0, D, 26}, 1},
	{0x0000008B, "BIOS_SIGN_ID", {ANY, 0, 0, 0}, 0},
	{0x000000CE, "PLATFORM_INFO", {ANY, 0, 0, 0}, 0},
	{0x000000CF, "CORE_CAPABILITIES", {7, 0, D, 30}, 0},
	{0x000000E7, "MPERF", {6, 0, C, 0}, 0},
	{0x000000E8, "APERF", {6, 0, C, 0}, 0},
	{0x000000FE, "MTRRCAP", {1, 0, D, 12}, 0},
	{0x0000010A, "ARCH_CAPABILITIES", {7, 0, D, 29}, 0},
	{0x0000010B, "FLUSH_CMD", {7, 0, D, 28}, 1},
	{0x00000140, "MISC_FEATURES_ENABLES", {ANY, 0, 0, 0}, 0},
	{0x00000174, "SYSENTER_CS", {1, 0, D, 11}, 0},
	{0x00000179, "MCG_CAP", {1, 0, D, 14}, 0},
	{0x00000186, "PERFEVTSEL0", {ANY, 0, 0, 0}, 0},
	{0x00000198, "PERF_STATUS", {ANY, 0, 0, 0}, 0},
	{0x0000019C, "THERM_STATUS", {ANY, 0, 0, 0}, 0},
	{0x000001A0, "MISC_ENABLE", {ANY, 0, 0, 0}, 0},
	{0x000001C9, "LASTBRANCH_TOS", {ANY, 0, 0, 0}, 0},
	{0x000001D9, "DEBUGCTL", {ANY, 0, 0, 0}, 0},
	{0x00000277, "PAT", {1, 0, D, 16}, 0},
	{0x000002FF, "MTRR_DEF_TYPE", {1, 0, D, 12}, 0},
	{0x00000345, "PERF_CAPABILITIES", {1, 0, C, 15}, 0},
	{0x0000038F, "PERF_GLOBAL_CTRL", {ANY, 0, 0, 0}, 0},
	{0x00000480, "VMX_BASIC", {1, 0, C, 5}, 0},
	{0x0000048B, "VMX_PROCBASED_CTLS2", {1, 0, C, 5}, 0},
	{0x00000491, "VMX_VMFUNC", {ANY, 0, 0, 0}, 0},
	{0x00000570, "RTIT_CTL", {7, 0, B, 25}, 0},
	{0x00000606, "RAPL_POWER_UNIT", {ANY, 0, 0, 0}, 0},
	{0x000006A0, "U_CET", {7, 0, C, 7}, 0},
	{0x000006E0, "TSC_DEADLINE", {1, 0, C, 24}, 0},
	{0x00000802, "X2APIC_APICID, in xAPIC mode", {NEVER, 0, 0, 0}, 0},
	{0x00000D90, "BNDCFGS", {7, 0, B, 14}, 0},
	{0x00000DA0, "XSS", {0xD, 1, A, 3}, 0},
	{0x40000000, "HYPERVISOR", {ANY, 0, 0, 0}, 0},
	{0xC0000080, "EFER", {ALWAYS, 0, 0, 0}, 0},
	{0xC0000081, "STAR", {ALWAYS, 0, 0, 0}, 0},
	{0xC0000082, "LSTAR", {ALWAYS, 0, 0, 0}, 0},
	{0xC0000084, "FMASK", {ALWAYS, 0, 0, 0}, 0},
	{0xC0000100, "FS_BASE", {ALWAYS, 0, 0, 0}, 0},
	{0xC0000101, "GS_BASE", {ALWAYS, 0, 0, 0}, 0},
	{0xC0000102, "KERNEL_GS_BASE", {ALWAYS, 0, 0, 0}, 0},
	{0xC0000103, "TSC_AUX", {0x80000001, 0, D, 27}, 0},
	{0xDEADBEEF, "none of that number", {NEVER, 0, 0, 0}, 0},
};

static void probe_msrs(void)
{
	for (u32 i = 0; i < sizeof msrs / sizeof *msrs; i++) {
		u64 value = 0;
		u32 leaf = msrs[i].by.leaf;
		bool there = leaf == ALWAYS || (leaf < ANY && announced(msrs[i].by));
		int fault = msrs[i].write_only ? try_wrmsr(msrs[i].msr, 0) : try_rdmsr(msrs[i].msr, &value);
		print("msr %08x %s: ", msrs[i].msr, msrs[i].name);
		if (fault < 0 && !msrs[i].write_only)
			print("%016lx", value);
		else
			print("%s", fault < 0 ? "takes 0" : fault_name(fault));
		if (leaf == ANY)
			print("\n");
		else
			judge((fault < 0) == there && (fault < 0 || fault == GP));
	}
}

/* A write that must give #GP; what it replaced is put back where it does not. */
static void refuse_msr(u32 msr, u64 value, const char *why)
{
	u64 old;
	if (try_rdmsr(msr, &old) >= 0)
		return;
	int fault = try_wrmsr(msr, value);
	if (fault < 0)
		try_wrmsr(msr, old);
	print("wrmsr %08x %016lx, %s: %s", msr, value, why, fault_name(fault));
	judge(fault == GP);
}

static void probe_writes(void)
{
	static const u32 addresses[] = {0x175, 0x176, 0xC0000082, 0xC0000100, 0xC0000101, 0xC0000102};
	for (u32 i = 0; i < sizeof addresses / sizeof *addresses; i++)
		refuse_msr(addresses[i], 1ull << 63, "not canonical");
	u64 apic;
	if (try_rdmsr(0x1B, &apic) < 0) {
		refuse_msr(0x1B, apic | 1, "APIC_BASE reserved bit 0");
		refuse_msr(0x1B, apic | 1ull << 62, "APIC_BASE above the physical address width");
		refuse_msr(0x1B, (apic & ~0x800ull) | 0x400, "APIC_BASE x2APIC without enable");
	}
	refuse_msr(0x277, 0x0007040600070402, "PAT type 2");
	refuse_msr(0x277, 0x0807040600070406, "PAT type 8");
	refuse_msr(0x2FF, 0xC02, "MTRR_DEF_TYPE type 2");
	refuse_msr(0x10A, ~0ull, "ARCH_CAPABILITIES is read-only");
	refuse_msr(0x48, 1ull << 63, "SPEC_CTRL reserved bit");
	refuse_msr(0xC0000103, 1ull << 32, "TSC_AUX reserved bit");
	refuse_msr(0xDA0, 1ull << 62, "XSS bit that no CPU has");
	refuse_msr(0x1D9, 1ull << 63, "DEBUGCTL reserved bit");
	u64 efer = rdmsr(0xC0000080);
	refuse_msr(0xC0000080, efer & ~0x100ull, "EFER.LME off while paging");
	bool intel = cpuid(0, 0).ebx == 0x756E6547;
	for (int bit = 0; bit < 64; bit++) {
		bool known = bit == 0 || bit == 8 || bit == 10 || (bit == 11 && announced((struct bit){0x80000001, 0, D, 20}));
		if (!known && (intel || bit < 12 || bit > 21))
			refuse_msr(0xC0000080, efer | 1ull << bit, "EFER bit that is not announced");
	}
}

static void try_cr4(int bit, const char *name, bool there)
{
	u64 old = read_cr4();
	asm volatile(GUARD("mov %0, %%cr4") : : "r"(old | 1ull << bit) : "memory");
	int fault = fault_vector;
	if (fault < 0)
		write_cr4(old);
	print("cr4 %d %s, %s: %s", bit, name, there ? "announced" : "hidden", fault_name(fault));
	judge(there ? fault < 0 : fault == GP);
}

static void probe_cr(void)
{
	static const struct { u8 bit; const char *name; struct bit by; } bits[] = {
		{0, "VME", {1, 0, D, 1}}, {1, "PVI", {1, 0, D, 1}}, {2, "TSD", {1, 0, D, 4}}, {3, "DE", {1, 0, D, 2}},
		{6, "MCE", {1, 0, D, 7}}, {7, "PGE", {1, 0, D, 13}}, {9, "OSFXSR", {1, 0, D, 24}}, {10, "OSXMMEXCPT", {1, 0, D, 25}},
		{11, "UMIP", {7, 0, C, 2}}, {13, "VMXE", {1, 0, C, 5}}, {14, "SMXE", {1, 0, C, 6}}, {16, "FSGSBASE", {7, 0, B, 0}},
		{17, "PCIDE", {1, 0, C, 17}}, {18, "OSXSAVE", {1, 0, C, 26}}, {19, "KL", {7, 0, C, 23}}, {20, "SMEP", {7, 0, B, 7}},
		{21, "SMAP", {7, 0, B, 20}}, {22, "PKE", {7, 0, C, 3}}, {24, "PKS", {7, 0, C, 31}}, {25, "UINTR", {7, 0, D, 5}},
	};
	for (u32 i = 0; i < sizeof bits / sizeof *bits; i++)
		try_cr4(bits[i].bit, bits[i].name, announced(bits[i].by));
	try_cr4(12, "LA57, in 64-bit mode", false);
	if (!announced((struct bit){7, 0, C, 7}) && !announced((struct bit){7, 0, D, 20}))
		try_cr4(23, "CET", false);
	for (int bit = 33; bit < 64; bit += 10)
		try_cr4(bit, "reserved", false);
	try_cr4(15, "reserved", false);

	u64 cr4 = read_cr4(), cr0 = read_cr0();
	asm volatile(GUARD("mov %0, %%cr4") : : "r"(cr4 & ~0x20ull) : "memory");
	print("cr4 5 PAE off in 64-bit mode: %s", fault_name(fault_vector));
	judge(fault_vector == GP);
	const u64 illegal[] = {cr0 & ~1ull, (cr0 & ~(1ull << 30)) | 1 << 29, cr0 | 1ull << 40, cr0 & ~(1ull << 31)};
	const char *const why[] = {"PG without PE", "NW without CD", "bit 40", "PG off with CS.L"};
	for (int i = 0; i < 4; i++) {
		asm volatile(GUARD("mov %0, %%cr0") : : "r"(illegal[i]) : "memory");
		print("cr0 %s: %s", why[i], fault_name(fault_vector));
		judge(fault_vector == GP);
	}
	/* TS and WP belong to the guest. */
	write_cr0(cr0 | 1 << 3 | 1 << 16);
	print("cr0 TS, WP: read back");
	judge((read_cr0() & 0x10008) == 0x10008);
	write_cr0(cr0);
}

static int xsetbv(u32 reg, u64 value)
{
	asm volatile(GUARD("xsetbv") : : "c"(reg), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
	return fault_vector;
}

static void try_xcr0(u64 value, bool legal)
{
	int fault = xsetbv(0, value);
	print("xcr0 %lx: %s", value, fault_name(fault));
	judge(legal ? fault < 0 : fault == GP);
}

static void probe_xcr0(void)
{
	if (!announced((struct bit){1, 0, C, 26})) {
		print("xsetbv without XSAVE: %s", fault_name(xsetbv(0, 1)));
		judge(fault_vector == UD);
		return;
	}
	write_cr4(read_cr4() | 1 << 18);
	struct cpuid d = cpuid(0xD, 0);
	u64 mask = (u64)d.edx << 32 | d.eax;
	print("xcr0 mask of leaf 0xd: %lx\n", mask);
	try_xcr0(0, false);
	try_xcr0(2, false);
	try_xcr0(1, true);
	try_xcr0(3, true);
	try_xcr0(5, false); /* AVX without SSE */
	try_xcr0(mask, true);
	for (int bit = 2; bit < 64; bit++)
		if (!(mask >> bit & 1))
			try_xcr0(3 | 1ull << bit, false);
	if (mask & 0xE0) {
		try_xcr0(7 | 0x20, false); /* the three of AVX-512 go together */
		try_xcr0(3 | 0xE0, false); /* and need AVX */
	}
	try_xcr0(3, true);
	int fault = xsetbv(1, 3);
	print("xcr1: %s", fault_name(fault));
	judge(fault == GP);
}

int main(void)
{
	probe_msrs();
	probe_writes();
	probe_cr();
	probe_xcr0();
	print("msr-probe: %d ok, %d BAD\n", oks, bads);
	return bads != 0;
}
