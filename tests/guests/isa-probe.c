/* Runs one instruction of each feature and prints what came: `ok`, or the exception. Announced and #UD is `BAD`;
 * hidden and `ok` is only told: most instructions cannot be taken away from a guest (see docs/cpu-policy.md). */
#include "guest.h"

/* Everything XCR0 may hold is on, so that a vector instruction is not #UD for want of state. */
static void enable_state(void)
{
	write_cr0((read_cr0() & ~(1ull << 2 | 1 << 3)) | 1 << 1);       /* MP on; EM, TS off */
	u64 cr4 = read_cr4() | 1 << 9 | 1 << 10;                        /* OSFXSR, OSXMMEXCPT */
	if (cpuid(1, 0).ecx >> 26 & 1) {
		write_cr4(cr4 | 1 << 18);                               /* OSXSAVE */
		struct cpuid d = cpuid(0xD, 0);
		asm volatile("xsetbv" : : "c"(0), "a"(d.eax), "d"(d.edx));
	} else {
		write_cr4(cr4);
	}
	if (cpuid_checked(7, 0).ebx & 1)
		write_cr4(read_cr4() | 1 << 16);                        /* FSGSBASE */
	if (cpuid_checked(7, 0).ecx & 1 << 3)
		write_cr4(read_cr4() | 1 << 22);                        /* PKE */
}

static u8 area[4096] __attribute__((aligned(4096)));

enum { A, B, C, D };

/* RDI points to a page to work on; RAX, RCX, RDX are 0 unless the bytes set them. */
#define CODE(...) (const u8[]){__VA_ARGS__, 0xC3}
static const struct { const char *name; u32 leaf, sub; u8 reg, bit; const u8 *code; } probes[] = {
	{"sse3 lddqu", 1, 0, C, 0, CODE(0xF2, 0x0F, 0xF0, 0x07)},
	{"pclmulqdq", 1, 0, C, 1, CODE(0x66, 0x0F, 0x3A, 0x44, 0xC1, 0x00)},
	{"monitor", 1, 0, C, 3, CODE(0x48, 0x89, 0xF8, 0x0F, 0x01, 0xC8)},
	{"ssse3 pabsb", 1, 0, C, 9, CODE(0x66, 0x0F, 0x38, 0x1C, 0xC1)},
	{"fma", 1, 0, C, 12, CODE(0xC4, 0xE2, 0x71, 0xA8, 0xC2)},
	{"cmpxchg16b", 1, 0, C, 13, CODE(0x48, 0x0F, 0xC7, 0x0F)},
	{"sse4.1 pmulld", 1, 0, C, 19, CODE(0x66, 0x0F, 0x38, 0x40, 0xC1)},
	{"sse4.2 crc32", 1, 0, C, 20, CODE(0xF2, 0x0F, 0x38, 0xF1, 0xC0)},
	{"movbe", 1, 0, C, 22, CODE(0x0F, 0x38, 0xF0, 0x07)},
	{"popcnt", 1, 0, C, 23, CODE(0xF3, 0x0F, 0xB8, 0xC0)},
	{"aesenc", 1, 0, C, 25, CODE(0x66, 0x0F, 0x38, 0xDC, 0xC1)},
	{"xgetbv", 1, 0, C, 26, CODE(0x0F, 0x01, 0xD0)},
	{"avx vaddps", 1, 0, C, 28, CODE(0xC5, 0xF4, 0x58, 0xC2)},
	{"f16c", 1, 0, C, 29, CODE(0xC4, 0xE2, 0x79, 0x13, 0xC1)},
	{"rdrand", 1, 0, C, 30, CODE(0x0F, 0xC7, 0xF0)},
	{"fsgsbase rdfsbase", 7, 0, B, 0, CODE(0xF3, 0x48, 0x0F, 0xAE, 0xC0)},
	{"sgx encls", 7, 0, B, 2, CODE(0x0F, 0x01, 0xCF)},
	{"bmi1 andn", 7, 0, B, 3, CODE(0xC4, 0xE2, 0x78, 0xF2, 0xC1)},
	{"avx2 vpaddd", 7, 0, B, 5, CODE(0xC5, 0xF5, 0xFE, 0xC2)},
	{"bmi2 pdep", 7, 0, B, 8, CODE(0xC4, 0xE2, 0x7B, 0xF5, 0xC1)},
	{"invpcid", 7, 0, B, 10, CODE(0xB8, 2, 0, 0, 0, 0x66, 0x0F, 0x38, 0x82, 0x07)},
	{"rtm xtest", 7, 0, B, 11, CODE(0x0F, 0x01, 0xD6)},
	{"avx512f vpaddd", 7, 0, B, 16, CODE(0x62, 0xF1, 0x75, 0x48, 0xFE, 0xC2)},
	{"avx512dq vpmullq", 7, 0, B, 17, CODE(0x62, 0xF2, 0xF5, 0x48, 0x40, 0xC2)},
	{"rdseed", 7, 0, B, 18, CODE(0x0F, 0xC7, 0xF8)},
	{"adx adcx", 7, 0, B, 19, CODE(0x66, 0x0F, 0x38, 0xF6, 0xC1)},
	{"smap clac", 7, 0, B, 20, CODE(0x0F, 0x01, 0xCA)},
	{"clflushopt", 7, 0, B, 23, CODE(0x66, 0x0F, 0xAE, 0x3F)},
	{"clwb", 7, 0, B, 24, CODE(0x66, 0x0F, 0xAE, 0x37)},
	{"sha1msg1", 7, 0, B, 29, CODE(0x0F, 0x38, 0xC9, 0xC1)},
	{"pku rdpkru", 7, 0, C, 3, CODE(0x0F, 0x01, 0xEE)},
	{"waitpkg tpause", 7, 0, C, 5, CODE(0x66, 0x0F, 0xAE, 0xF0)},
	{"gfni", 7, 0, C, 8, CODE(0x66, 0x0F, 0x38, 0xCF, 0xC1)},
	{"vaes", 7, 0, C, 9, CODE(0xC4, 0xE2, 0x75, 0xDC, 0xC2)},
	{"rdpid", 7, 0, C, 22, CODE(0xF3, 0x0F, 0xC7, 0xF8)},
	{"movdiri", 7, 0, C, 27, CODE(0x0F, 0x38, 0xF9, 0x07)},
	{"serialize", 7, 0, D, 14, CODE(0x0F, 0x01, 0xE8)},
	{"pconfig", 7, 0, D, 18, CODE(0x0F, 0x01, 0xC5)},
	{"xsaveopt", 0xD, 1, A, 0, CODE(0x0F, 0xAE, 0x37)},
	{"xsavec", 0xD, 1, A, 1, CODE(0x0F, 0xC7, 0x27)},
	{"xsaves", 0xD, 1, A, 3, CODE(0x0F, 0xC7, 0x2F)},
	{"rdtscp", 0x80000001, 0, D, 27, CODE(0x0F, 0x01, 0xF9)},
};

/* #UD whatever is announced: CR4.VMXE and CR4.SMXE are off. RDI points to a page of zeros or what probes left there. */
static const struct { const char *name; const u8 *code; } closed[] = {
	{"vmcall", CODE(0x0F, 0x01, 0xC1)},
	{"vmlaunch", CODE(0x0F, 0x01, 0xC2)},
	{"vmxoff", CODE(0x0F, 0x01, 0xC4)},
	{"vmxon", CODE(0xF3, 0x0F, 0xC7, 0x37)},
	{"vmread", CODE(0x0F, 0x78, 0xC0)},
	{"vmfunc", CODE(0x0F, 0x01, 0xD4)},
	{"invept", CODE(0x66, 0x0F, 0x38, 0x80, 0x07)},
	{"invvpid", CODE(0x66, 0x0F, 0x38, 0x81, 0x07)},
	{"getsec", CODE(0x0F, 0x37)},
};

static int execute(const u8 *code)
{
	u64 rsp;
	/* An exception leaves the return address on the stack: RSP is put back. */
	asm volatile("mov %%rsp, %0\n\t" GUARD("call *%1") "mov %0, %%rsp"
		     : "=&r"(rsp) : "r"(code), "a"(0), "b"(0), "c"(0), "d"(0), "D"(area) : "memory", "cc", "rsi", "r8", "r9");
	return fault_vector;
}

int main(void)
{
	int bad = 0;
	enable_state();
	for (u32 i = 0; i < sizeof probes / sizeof *probes; i++) {
		struct cpuid r = cpuid_checked(probes[i].leaf, probes[i].sub);
		u32 regs[] = {r.eax, r.ebx, r.ecx, r.edx};
		bool announced = regs[probes[i].reg] >> probes[i].bit & 1;
		int fault = execute(probes[i].code);
		/* #GP and the like mean that the instruction is there and wanted other operands. */
		bool is_bad = announced && fault == UD;
		bad += is_bad;
		print("isa %s: %s, %s%s\n", probes[i].name, announced ? "announced" : "hidden",
		      fault < 0 ? "ok" : fault_name(fault), is_bad ? " BAD" : "");
	}
	for (u32 i = 0; i < sizeof closed / sizeof *closed; i++) {
		int fault = execute(closed[i].code);
		bad += fault != UD;
		print("isa %s: closed, %s%s\n", closed[i].name, fault_name(fault), fault != UD ? " BAD" : "");
	}
	print("isa-probe: %d BAD\n", bad);
	return bad != 0;
}
