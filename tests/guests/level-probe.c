/* Tries everything that a CPU level can hide, whatever CPUID says: one line a cell,
 *
 *     cell FEATURE KIND announced|hidden works|old|#UD|#GP
 *
 * KIND is insn (an instruction), cr4, xcr0, efer (a bit that the feature brings) or msr. `old` says that the code ran
 * as the older instruction that it encodes. The judge is not here: see tests/src/suite/levels.rs. */
#include "guest.h"

enum { A, B, C, D };
/* RDI points to a page to work on, whose first 1 KiB is 0; RAX, RCX, RDX are 0 unless the bytes set them. The code
 * leaves in RAX what `old` can be told by: 1, where the code ran as the older instruction. */
#define CODE(...) (const u8[]){__VA_ARGS__, 0xC3}
struct probe { const char *name; u32 leaf, sub; u8 reg, bit; const u8 *code; bool by_result; };
static const struct probe probes[] = {
	{"SSE3", 1, 0, C, 0, CODE(0xF2, 0x0F, 0xF0, 0x07), 0},
	{"PCLMULQDQ", 1, 0, C, 1, CODE(0x66, 0x0F, 0x3A, 0x44, 0xC1, 0x00), 0},
	{"MONITOR", 1, 0, C, 3, CODE(0x48, 0x89, 0xF8, 0x0F, 0x01, 0xC8), 0},
	{"MONITOR", 1, 0, C, 3, CODE(0x0F, 0x01, 0xC9), 0},                      /* MWAIT */
	{"VMX", 1, 0, C, 5, CODE(0xF3, 0x0F, 0xC7, 0x37), 0},                    /* VMXON */
	{"VMX", 1, 0, C, 5, CODE(0x0F, 0x78, 0xC0), 0},                          /* VMREAD */
	{"SMX", 1, 0, C, 6, CODE(0x0F, 0x37), 0},
	{"SSSE3", 1, 0, C, 9, CODE(0x66, 0x0F, 0x38, 0x1C, 0xC1), 0},
	{"FMA", 1, 0, C, 12, CODE(0xC4, 0xE2, 0x71, 0xA8, 0xC2), 0},
	{"CMPXCHG16B", 1, 0, C, 13, CODE(0x48, 0x0F, 0xC7, 0x0F), 0},
	{"SSE4.1", 1, 0, C, 19, CODE(0x66, 0x0F, 0x38, 0x40, 0xC1), 0},
	{"SSE4.2", 1, 0, C, 20, CODE(0xF2, 0x0F, 0x38, 0xF1, 0xC0), 0},
	{"MOVBE", 1, 0, C, 22, CODE(0x0F, 0x38, 0xF0, 0x07), 0},
	{"POPCNT", 1, 0, C, 23, CODE(0xF3, 0x0F, 0xB8, 0xC0), 0},
	{"AESNI", 1, 0, C, 25, CODE(0x66, 0x0F, 0x38, 0xDC, 0xC1), 0},
	{"XSAVE", 1, 0, C, 26, CODE(0x0F, 0xAE, 0x27), 0},
	{"XSAVE", 1, 0, C, 26, CODE(0x0F, 0x01, 0xD0), 0},                       /* XGETBV */
	{"AVX", 1, 0, C, 28, CODE(0xC5, 0xF4, 0x58, 0xC2), 0},
	{"F16C", 1, 0, C, 29, CODE(0xC4, 0xE2, 0x79, 0x13, 0xC1), 0},
	{"RDRAND", 1, 0, C, 30, CODE(0x0F, 0xC7, 0xF0), 0},
	{"FSGSBASE", 7, 0, B, 0, CODE(0xF3, 0x48, 0x0F, 0xAE, 0xC0), 0},
	{"SGX", 7, 0, B, 2, CODE(0x0F, 0x01, 0xCF), 0},                          /* ENCLS */
	{"BMI1", 7, 0, B, 3, CODE(0xC4, 0xE2, 0x78, 0xF2, 0xC1), 0},
	/* TZCNT of 0 is the operand size; BSF leaves the destination alone. EAX = 1, TZCNT EAX, ECX */
	{"BMI1", 7, 0, B, 3, CODE(0xB8, 1, 0, 0, 0, 0xF3, 0x0F, 0xBC, 0xC1), 1},
	{"AVX2", 7, 0, B, 5, CODE(0xC5, 0xF5, 0xFE, 0xC2), 0},
	{"BMI2", 7, 0, B, 8, CODE(0xC4, 0xE2, 0x7B, 0xF5, 0xC1), 0},
	{"INVPCID", 7, 0, B, 10, CODE(0xB8, 2, 0, 0, 0, 0x66, 0x0F, 0x38, 0x82, 0x07), 0},
	/* XBEGIN +0; XTEST; JZ +3; XEND */
	{"RTM", 7, 0, B, 11, CODE(0xC7, 0xF8, 0, 0, 0, 0, 0x0F, 0x01, 0xD6, 0x74, 0x03, 0x0F, 0x01, 0xD5), 0},
	{"AVX512F", 7, 0, B, 16, CODE(0x62, 0xF1, 0x75, 0x48, 0xFE, 0xC2), 0},
	{"AVX512DQ", 7, 0, B, 17, CODE(0x62, 0xF2, 0xF5, 0x48, 0x40, 0xC2), 0},
	{"RDSEED", 7, 0, B, 18, CODE(0x0F, 0xC7, 0xF8), 0},
	{"ADX", 7, 0, B, 19, CODE(0x66, 0x0F, 0x38, 0xF6, 0xC1), 0},
	{"SMAP", 7, 0, B, 20, CODE(0x0F, 0x01, 0xCA), 0},                        /* CLAC */
	{"AVX512_IFMA", 7, 0, B, 21, CODE(0x62, 0xF2, 0xF5, 0x48, 0xB4, 0xC2), 0},
	{"CLFLUSHOPT", 7, 0, B, 23, CODE(0x66, 0x0F, 0xAE, 0x3F), 0},
	{"CLWB", 7, 0, B, 24, CODE(0x66, 0x0F, 0xAE, 0x37), 0},
	{"AVX512CD", 7, 0, B, 28, CODE(0x62, 0xF2, 0x7D, 0x48, 0xC4, 0xC1), 0},
	{"SHA", 7, 0, B, 29, CODE(0x0F, 0x38, 0xC9, 0xC1), 0},
	{"AVX512BW", 7, 0, B, 30, CODE(0x62, 0xF1, 0x75, 0x48, 0xFC, 0xC2), 0},
	{"AVX512VL", 7, 0, B, 31, CODE(0x62, 0xF1, 0x75, 0x28, 0xFE, 0xC2), 0},
	{"AVX512_VBMI", 7, 0, C, 1, CODE(0x62, 0xF2, 0x75, 0x48, 0x8D, 0xC2), 0},
	{"PKU", 7, 0, C, 3, CODE(0x0F, 0x01, 0xEE), 0},                          /* RDPKRU */
	{"PKU", 7, 0, C, 3, CODE(0x0F, 0x01, 0xEF), 0},                          /* WRPKRU */
	{"WAITPKG", 7, 0, C, 5, CODE(0x66, 0x0F, 0xAE, 0xF1), 0},                /* TPAUSE */
	{"WAITPKG", 7, 0, C, 5, CODE(0xF3, 0x0F, 0xAE, 0xF7), 0},                /* UMONITOR */
	{"WAITPKG", 7, 0, C, 5, CODE(0xF2, 0x0F, 0xAE, 0xF1), 0},                /* UMWAIT */
	{"AVX512_VBMI2", 7, 0, C, 6, CODE(0x62, 0xF2, 0x7D, 0x48, 0x63, 0xC1), 0},
	{"CET_SS", 7, 0, C, 7, CODE(0xF3, 0x48, 0x0F, 0xAE, 0xE9), 0},           /* INCSSPQ */
	{"GFNI", 7, 0, C, 8, CODE(0x66, 0x0F, 0x38, 0xCF, 0xC1), 0},
	{"VAES", 7, 0, C, 9, CODE(0xC4, 0xE2, 0x75, 0xDC, 0xC2), 0},
	{"VPCLMULQDQ", 7, 0, C, 10, CODE(0xC4, 0xE3, 0x75, 0x44, 0xC2, 0x00), 0},
	{"AVX512_VNNI", 7, 0, C, 11, CODE(0x62, 0xF2, 0x75, 0x48, 0x50, 0xC2), 0},
	{"AVX512_BITALG", 7, 0, C, 12, CODE(0x62, 0xF2, 0x7D, 0x48, 0x54, 0xC1), 0},
	{"AVX512_VPOPCNTDQ", 7, 0, C, 14, CODE(0x62, 0xF2, 0x7D, 0x48, 0x55, 0xC1), 0},
	{"RDPID", 7, 0, C, 22, CODE(0xF3, 0x0F, 0xC7, 0xF8), 0},
	{"KL", 7, 0, C, 23, CODE(0xF3, 0x0F, 0x38, 0xDC, 0xC1), 0},              /* LOADIWKEY */
	{"MOVDIRI", 7, 0, C, 27, CODE(0x0F, 0x38, 0xF9, 0x07), 0},
	{"MOVDIR64B", 7, 0, C, 28, CODE(0x66, 0x0F, 0x38, 0xF8, 0x3F), 0},
	{"ENQCMD", 7, 0, C, 29, CODE(0xF2, 0x0F, 0x38, 0xF8, 0x3F), 0},
	{"UINTR", 7, 0, D, 5, CODE(0xF3, 0x0F, 0x01, 0xEE), 0},                  /* CLUI */
	{"AVX512_VP2INTERSECT", 7, 0, D, 8, CODE(0x62, 0xF2, 0x77, 0x48, 0x68, 0xC2), 0},
	{"SERIALIZE", 7, 0, D, 14, CODE(0x0F, 0x01, 0xE8), 0},
	{"TSXLDTRK", 7, 0, D, 16, CODE(0xF2, 0x0F, 0x01, 0xE8), 0},
	{"PCONFIG", 7, 0, D, 18, CODE(0x0F, 0x01, 0xC5), 0},
	{"AVX512_FP16", 7, 0, D, 23, CODE(0x62, 0xF5, 0x74, 0x48, 0x58, 0xC2), 0},
	{"AMX-TILE", 7, 0, D, 24, CODE(0xC4, 0xE2, 0x78, 0x49, 0xC0), 0},        /* TILERELEASE */
	{"SHA512", 7, 1, A, 0, CODE(0xC4, 0xE2, 0x7F, 0xCC, 0xC1), 0},
	{"SM3", 7, 1, A, 1, CODE(0xC4, 0xE2, 0x70, 0xDA, 0xC2), 0},
	{"SM4", 7, 1, A, 2, CODE(0xC4, 0xE2, 0x72, 0xDA, 0xC2), 0},
	{"RAO-INT", 7, 1, A, 3, CODE(0x0F, 0x38, 0xFC, 0x07), 0},
	{"AVX-VNNI", 7, 1, A, 4, CODE(0xC4, 0xE2, 0x71, 0x50, 0xC2), 0},
	{"AVX512_BF16", 7, 1, A, 5, CODE(0x62, 0xF2, 0x76, 0x48, 0x52, 0xC2), 0},
	{"CMPCCXADD", 7, 1, A, 7, CODE(0xC4, 0xE2, 0x79, 0xE0, 0x07), 0},
	{"LKGS", 7, 1, A, 18, CODE(0xF2, 0x0F, 0x00, 0xF0), 0},
	{"WRMSRNS", 7, 1, A, 19, CODE(0x0F, 0x01, 0xC6), 0},
	{"HRESET", 7, 1, A, 22, CODE(0xF3, 0x0F, 0x3A, 0xF0, 0xC0, 0x00), 0},
	{"AVX-IFMA", 7, 1, A, 23, CODE(0xC4, 0xE2, 0xF1, 0xB4, 0xC2), 0},
	{"MSRLIST", 7, 1, A, 27, CODE(0xF2, 0x0F, 0x01, 0xC6), 0},
	{"AVX-VNNI-INT8", 7, 1, D, 4, CODE(0xC4, 0xE2, 0x73, 0x50, 0xC2), 0},
	{"AVX-NE-CONVERT", 7, 1, D, 5, CODE(0xC4, 0xE2, 0x7A, 0x72, 0xC1), 0},
	{"XSAVEOPT", 0xD, 1, A, 0, CODE(0x0F, 0xAE, 0x37), 0},
	{"XSAVEC", 0xD, 1, A, 1, CODE(0x0F, 0xC7, 0x27), 0},
	{"XGETBV_ECX_1", 0xD, 1, A, 2, CODE(0xB9, 1, 0, 0, 0, 0x0F, 0x01, 0xD0), 0},
	{"XSAVES", 0xD, 1, A, 3, CODE(0x0F, 0xC7, 0x2F), 0},
	{"LAHF_LM", 0x80000001, 0, C, 0, CODE(0x9F), 0},
	/* LZCNT of 1 is 31, BSR of 1 is 0: MOV ECX, 1; LZCNT EAX, ECX; CMP EAX, 0; SETE AL; MOVZX EAX, AL */
	{"LZCNT", 0x80000001, 0, C, 5,
	 CODE(0xB9, 1, 0, 0, 0, 0xF3, 0x0F, 0xBD, 0xC1, 0x83, 0xF8, 0, 0x0F, 0x94, 0xC0, 0x0F, 0xB6, 0xC0), 1},
	{"RDTSCP", 0x80000001, 0, D, 27, CODE(0x0F, 0x01, 0xF9), 0},
};

/* Bits of CR4, by the feature that each comes with. */
static const struct { const char *name; u32 leaf, sub; u8 reg, bit, at; } cr4_bits[] = {
	{"VME", 1, 0, D, 1, 0}, {"DE", 1, 0, D, 2, 3}, {"PSE", 1, 0, D, 3, 4}, {"MCE", 1, 0, D, 7, 6},
	{"PGE", 1, 0, D, 13, 7}, {"FXSR", 1, 0, D, 24, 9}, {"VMX", 1, 0, C, 5, 13}, {"SMX", 1, 0, C, 6, 14},
	{"PCID", 1, 0, C, 17, 17}, {"XSAVE", 1, 0, C, 26, 18}, {"FSGSBASE", 7, 0, B, 0, 16}, {"SMEP", 7, 0, B, 7, 20},
	{"SMAP", 7, 0, B, 20, 21}, {"UMIP", 7, 0, C, 2, 11}, {"PKU", 7, 0, C, 3, 22}, {"CET_SS", 7, 0, C, 7, 23},
	{"KL", 7, 0, C, 23, 19}, {"PKS", 7, 0, C, 31, 24}, {"UINTR", 7, 0, D, 5, 25}, {"LASS", 7, 1, A, 6, 27},
	{"FRED", 7, 1, A, 17, 32},
};

/* Values of XCR0, each the smallest legal one with the feature's state. */
static const struct { const char *name; u32 leaf, sub; u8 reg, bit; u32 value; } xcr0_values[] = {
	{"XSAVE", 1, 0, C, 26, 0x3}, {"AVX", 1, 0, C, 28, 0x7}, {"MPX", 7, 0, B, 14, 0x1B}, {"AVX512F", 7, 0, B, 16, 0xE7},
	{"PKU", 7, 0, C, 3, 0x203}, {"AMX-TILE", 7, 0, D, 24, 0x60003},
};

static const struct { const char *name; u32 leaf, sub; u8 reg, bit, at; } efer_bits[] = {
	{"SYSCALL", 0x80000001, 0, D, 11, 0}, {"NX", 0x80000001, 0, D, 20, 11},
};

/* MSRs that a feature brings and that can be read. */
static const struct { const char *name; u32 leaf, sub; u8 reg, bit; u32 msr; } msrs[] = {
	{"SEP", 1, 0, D, 11, 0x174}, {"MTRR", 1, 0, D, 12, 0xFE}, {"MCA", 1, 0, D, 14, 0x179}, {"PAT", 1, 0, D, 16, 0x277},
	{"DS", 1, 0, D, 21, 0x600}, {"ACPI", 1, 0, D, 22, 0x19A}, {"VMX", 1, 0, C, 5, 0x480}, {"EIST", 1, 0, C, 7, 0x199},
	{"PDCM", 1, 0, C, 15, 0x345}, {"DCA", 1, 0, C, 18, 0x1F8}, {"TSC-Deadline", 1, 0, C, 24, 0x6E0},
	{"SDBG", 1, 0, C, 11, 0xC80}, {"HWP", 6, 0, A, 7, 0x770}, {"APERF_MPERF", 6, 0, C, 0, 0xE7},
	{"ENERGY_PERF_BIAS", 6, 0, C, 3, 0x1B0}, {"TSC_ADJUST", 7, 0, B, 1, 0x3B}, {"RDT-M", 7, 0, B, 12, 0xC8D},
	{"RDT-A", 7, 0, B, 15, 0xC8F}, {"PT", 7, 0, B, 25, 0x570}, {"MPX", 7, 0, B, 14, 0xD90}, {"CET_SS", 7, 0, C, 7, 0x6A2},
	{"TME_EN", 7, 0, C, 13, 0x982}, {"ENQCMD", 7, 0, C, 29, 0xD93}, {"SGX_LC", 7, 0, C, 30, 0x8C},
	{"PKS", 7, 0, C, 31, 0x6E1}, {"UINTR", 7, 0, D, 5, 0x985}, {"ARCH_LBR", 7, 0, D, 19, 0x14CE},
	{"IBRS_IBPB", 7, 0, D, 26, 0x48}, {"ARCH_CAPABILITIES", 7, 0, D, 29, 0x10A},
	{"CORE_CAPABILITIES", 7, 0, D, 30, 0xCF}, {"HRESET", 7, 1, A, 22, 0x17DA}, {"XSAVES", 0xD, 1, A, 3, 0xDA0},
	{"XFD", 0xD, 1, A, 4, 0x1C4}, {"SYSCALL", 0x80000001, 0, D, 11, 0xC0000082},
	{"RDTSCP", 0x80000001, 0, D, 27, 0xC0000103},
};

static u8 area[8192] __attribute__((aligned(4096)));

static bool announced(u32 leaf, u32 sub, u8 reg, u8 bit)
{
	if (leaf == 7 && sub > cpuid_checked(7, 0).eax)
		return false;
	struct cpuid r = cpuid_checked(leaf, sub);
	u32 regs[] = {r.eax, r.ebx, r.ecx, r.edx};
	return regs[reg] >> bit & 1;
}

static void cell(const char *name, const char *kind, bool told, const char *finding)
{
	print("cell %s %s %s %s\n", name, kind, told ? "announced" : "hidden", finding);
}

static int set_xcr0(u64 value)
{
	asm volatile(GUARD("xsetbv") : : "c"(0), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
	return fault_vector;
}

static int set_cr4(u64 value)
{
	asm volatile(GUARD("mov %0, %%cr4") : : "r"(value) : "memory");
	return fault_vector;
}

static const char *finding(int fault)
{
	return fault < 0 ? "works" : fault_name(fault);
}

/* Everything that the level has is on, so that an instruction is not #UD for want of state. */
static void enable_state(void)
{
	write_cr0((read_cr0() & ~(1ull << 2 | 1 << 3)) | 1 << 1 | 1 << 16); /* MP, WP on; EM, TS off */
	u64 cr4 = read_cr4() | 1 << 9 | 1 << 10;                            /* OSFXSR, OSXMMEXCPT */
	if (announced(1, 0, C, 26))
		cr4 |= 1 << 18;                                              /* OSXSAVE */
	if (announced(7, 0, B, 0))
		cr4 |= 1 << 16;                                              /* FSGSBASE */
	if (announced(7, 0, C, 3))
		cr4 |= 1 << 22;                                              /* PKE */
	write_cr4(cr4);
	if (announced(1, 0, C, 26)) {
		struct cpuid d = cpuid(0xD, 0);
		set_xcr0((u64)d.edx << 32 | d.eax);
	}
}

static void instructions(void)
{
	for (u32 i = 0; i < sizeof probes / sizeof *probes; i++) {
		const struct probe *p = &probes[i];
		for (u32 at = 0; at < 1024; at++)
			area[at] = 0;
		u64 rsp, result = 0;
		/* An exception leaves the return address on the stack: RSP is put back. */
		asm volatile("mov %%rsp, %0\n\t" GUARD("call *%2") "mov %0, %%rsp"
			     : "=&r"(rsp), "+a"(result) : "r"(p->code), "b"(0), "c"(0), "d"(0), "D"(area)
			     : "memory", "cc", "rsi", "r8", "r9");
		int fault = fault_vector;
		bool old = fault < 0 && p->by_result && result == 1;
		cell(p->name, "insn", announced(p->leaf, p->sub, p->reg, p->bit), old ? "old" : finding(fault));
	}
}

static void registers(void)
{
	u64 cr4 = read_cr4(), bits = 0;
	for (u32 i = 0; i < sizeof cr4_bits / sizeof *cr4_bits; i++) {
		int fault = set_cr4(cr4 | 1ull << cr4_bits[i].at);
		set_cr4(cr4);
		cell(cr4_bits[i].name, "cr4", announced(cr4_bits[i].leaf, cr4_bits[i].sub, cr4_bits[i].reg, cr4_bits[i].bit),
		     finding(fault));
	}
	for (u32 at = 0; at < 64; at++) {
		if (set_cr4(cr4 | 1ull << at) < 0)
			bits |= 1ull << at;
		set_cr4(cr4);
	}
	print("limit cr4 %lx\n", bits);
	u64 saved = 1;
	if (cr4 >> 18 & 1) {
		u32 low, high;
		asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
		saved = (u64)high << 32 | low;
	}
	for (u32 i = 0; i < sizeof xcr0_values / sizeof *xcr0_values; i++) {
		int fault = set_xcr0(xcr0_values[i].value);
		set_xcr0(saved);
		cell(xcr0_values[i].name, "xcr0",
		     announced(xcr0_values[i].leaf, xcr0_values[i].sub, xcr0_values[i].reg, xcr0_values[i].bit), finding(fault));
	}
	struct cpuid d = announced(1, 0, C, 26) ? cpuid(0xD, 0) : (struct cpuid){0, 0, 0, 0};
	print("limit xcr0 %lx\n", (u64)d.edx << 32 | d.eax);
	u64 efer = rdmsr(0xC0000080);
	for (u32 i = 0; i < sizeof efer_bits / sizeof *efer_bits; i++) {
		int fault = try_wrmsr(0xC0000080, efer | 1ull << efer_bits[i].at);
		try_wrmsr(0xC0000080, efer);
		cell(efer_bits[i].name, "efer",
		     announced(efer_bits[i].leaf, efer_bits[i].sub, efer_bits[i].reg, efer_bits[i].bit), finding(fault));
	}
	bits = 0;
	for (u32 at = 0; at < 64; at++) {
		if (try_wrmsr(0xC0000080, efer | 1ull << at) < 0)
			bits |= 1ull << at;
		try_wrmsr(0xC0000080, efer);
	}
	print("limit efer %lx\n", bits);
}

int main(void)
{
	enable_state();
	instructions();
	registers();
	for (u32 i = 0; i < sizeof msrs / sizeof *msrs; i++) {
		u64 value;
		int fault = try_rdmsr(msrs[i].msr, &value);
		cell(msrs[i].name, "msr", announced(msrs[i].leaf, msrs[i].sub, msrs[i].reg, msrs[i].bit), finding(fault));
	}
	print("level-probe: done\n");
	return 0;
}
