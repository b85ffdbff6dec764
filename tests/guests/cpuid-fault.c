/* CPUID faulting (MSR_PLATFORM_INFO bit 31, MSR_MISC_FEATURES_ENABLES bit 0): with it on, CPUID above CPL 0 raises #GP(0)
 * and changes nothing; at CPL 0 it answers as ever. Prints `round N ok` for each of `rounds=` (3; 0: until a byte comes
 * on COM1) rounds under faulting, `gap=` TSC ticks (0) apart. Where it is not enumerated, the switch must not be there
 * either. */
#include "guest.h"

enum { COM1_LSR = 0x3FD, PLATFORM_INFO = 0xCE, MISC_FEATURES_ENABLES = 0x140 };
enum { KERNEL_CS = 8, KERNEL_SS = 16, USER_SS = 24 | 3, USER_CS = 32 | 3, TSS = 40 };

static int bads;

static bool judge(bool good, const char *what)
{
	if (!good) {
		bads++;
		print("cpuid-fault: %s BAD\n", what);
	}
	return good;
}

/* Ring 3: a CPUID, then an interrupt through a gate that ring 3 may not use, which raises #GP with a selector. */
extern u8 user_code[], user_behind[];
asm(".pushsection .text\n"
    "user_code: cpuid\n"
    "user_behind: int $0x80\n"
    ".popsection");

static u8 user_stack[4096], entry_stack[4096];
static struct { u32 reserved0; u64 rsp[3]; u64 reserved1, ist[7], reserved2; u16 reserved3, io; } __attribute__((packed)) tss;
static u64 gdt[7] = {0, 0x00209A0000000000, 0x0000920000000000, 0x0000F20000000000, 0x0020FA0000000000};

static struct frame seen;
__attribute__((used)) static volatile u64 kernel_rsp;
extern u8 back_home[];

static void on_gp(struct frame *f)
{
	seen = *f;
	if ((f->cs & 3) != 3) {
		print("cpuid-fault: #GP in ring 0 at 0x%lx BAD\n", f->rip);
		quit(98);
	}
	f->cs = KERNEL_CS;
	f->ss = KERNEL_SS;
	f->rip = (u64)back_home;
	f->rsp = kernel_rsp;
}

/* Executes CPUID in ring 3; `seen` tells what came of it. */
__attribute__((noinline)) static void user_cpuid(u32 leaf, u32 subleaf)
{
	u64 a = leaf, c = subleaf, b = 0x5A5A5A5A5A5A5A5A, d = 0xA5A5A5A5A5A5A5A5;
	asm volatile("mov %%rsp, kernel_rsp\n\t"
		     "push %[ss]\n\tpush %[sp]\n\tpush $2\n\tpush %[cs]\n\tpush %[ip]\n\t"
		     "iretq\n"
		     "back_home:"
		     : "+a"(a), "+b"(b), "+c"(c), "+d"(d)
		     : [ss] "i"(USER_SS), [sp] "r"((u64)(user_stack + sizeof user_stack)), [cs] "i"(USER_CS),
		       [ip] "r"((u64)user_code)
		     : "memory", "cc");
}

/* Ring 3 gets segments, a stack to come back on, and the pages. */
static void allow_ring_3(void)
{
	u64 at = (u64)&tss;
	tss.rsp[0] = (u64)(entry_stack + sizeof entry_stack);
	tss.io = sizeof tss;
	gdt[5] = (sizeof tss - 1) | (at & 0xFFFFFF) << 16 | 0x89ull << 40 | (at >> 24 & 0xFF) << 56;
	gdt[6] = at >> 32;
	struct { u16 limit; u64 base; } __attribute__((packed)) pointer = {sizeof gdt - 1, (u64)gdt};
	asm volatile("lgdt %0\n\tltr %w1" : : "m"(pointer), "r"(TSS) : "memory");
	u64 cr3;
	asm volatile("mov %%cr3, %0" : "=r"(cr3));
	u64 *pml4 = (u64 *)(cr3 & ~4095ull), *pdpt = (u64 *)(pml4[0] & ~4095ull);
	pml4[0] |= 4;
	for (int i = 0; i < 512; i++) {
		if (!(pdpt[i] & 1))
			continue;
		pdpt[i] |= 4;
		for (int j = 0; j < 512; j++)
			((u64 *)(pdpt[i] & ~4095ull))[j] |= 4;
	}
	asm volatile("mov %0, %%cr3" : : "r"(cr3) : "memory");
}

/* A fixed leaf, leaves that depend on the vCPU's state, one that is not there, and some outside every range. */
static const u32 leaves[][2] = {
	{0, 0}, {1, 0}, {2, 0}, {7, 0}, {0xB, 0}, {0xD, 0}, {0xD, 1}, {0x1F, 3}, {0x40000000, 0}, {0x80000000, 0},
	{0x80000008, 0}, {0x12345678, 9}, {0xFFFFFFFF, 0xFFFFFFFF},
};
enum { LEAVES = sizeof leaves / sizeof *leaves };

static bool same(struct cpuid a, struct cpuid b)
{
	return a.eax == b.eax && a.ebx == b.ebx && a.ecx == b.ecx && a.edx == b.edx;
}

static void answers(struct cpuid *out)
{
	for (int i = 0; i < LEAVES; i++)
		out[i] = cpuid(leaves[i][0], leaves[i][1]);
}

static void ring_3_is_answered(const struct cpuid *expected)
{
	for (int i = 0; i < LEAVES; i++) {
		user_cpuid(leaves[i][0], leaves[i][1]);
		struct cpuid r = {seen.rax, seen.rbx, seen.rcx, seen.rdx};
		judge(seen.rip == (u64)user_behind && seen.error == 0x80 * 8 + 2 && same(r, expected[i]), "answer in ring 3");
	}
}

static void ring_3_faults(void)
{
	for (int i = 0; i < LEAVES; i++) {
		user_cpuid(leaves[i][0], leaves[i][1]);
		judge(seen.vector == GP && seen.error == 0 && seen.rip == (u64)user_code, "#GP(0) in ring 3");
		judge(seen.rax == leaves[i][0] && seen.rcx == leaves[i][1] && seen.rbx == 0x5A5A5A5A5A5A5A5A &&
		      seen.rdx == 0xA5A5A5A5A5A5A5A5, "registers after #GP");
	}
}

static void ring_0_is_answered(const struct cpuid *expected)
{
	struct cpuid now[LEAVES];
	answers(now);
	for (int i = 0; i < LEAVES; i++)
		judge(same(now[i], expected[i]), "answer in ring 0");
}

static void reserved_bits_are_refused(u64 held)
{
	u64 value;
	for (int bit = 1; bit < 64; bit++)
		judge(try_wrmsr(MISC_FEATURES_ENABLES, held | 1ull << bit) == GP, "reserved bit of MISC_FEATURES_ENABLES");
	judge(try_rdmsr(MISC_FEATURES_ENABLES, &value) < 0 && value == held, "MISC_FEATURES_ENABLES after a refusal");
}

int main(void)
{
	u64 info = 0, value = 0, rounds = option("rounds", 3), gap = option("gap", 0);
	int fault = try_rdmsr(PLATFORM_INFO, &info);
	bool there = fault < 0 && info >> 31 & 1;
	judge((try_rdmsr(MISC_FEATURES_ENABLES, &value) < 0) == there, "presence of MISC_FEATURES_ENABLES");
	on_vector(GP, on_gp);
	allow_ring_3();
	static struct cpuid expected[LEAVES];
	answers(expected);
	ring_3_is_answered(expected);
	if (!there) {
		judge(try_wrmsr(MISC_FEATURES_ENABLES, 0) == GP, "write to MISC_FEATURES_ENABLES that is not there");
		print("cpuid-fault: not enumerated, %d BAD\n", bads);
		return bads != 0;
	}
	judge(value == 0, "MISC_FEATURES_ENABLES at reset");
	judge(try_wrmsr(PLATFORM_INFO, info) == GP, "write to PLATFORM_INFO");
	reserved_bits_are_refused(0);
	wrmsr(MISC_FEATURES_ENABLES, 1);
	reserved_bits_are_refused(1);
	for (u64 round = 1; rounds ? round <= rounds : !(inb(COM1_LSR) & 1); round++) {
		u64 start = rdtsc();
		ring_3_faults();
		ring_0_is_answered(expected);
		judge(rdmsr(MISC_FEATURES_ENABLES) == 1 && rdmsr(PLATFORM_INFO) == info, "the MSRs");
		while (rdtsc() - start < gap)
			;
		print("round %lu %s\n", round, bads ? "BAD" : "ok");
	}
	wrmsr(MISC_FEATURES_ENABLES, 0);
	ring_3_is_answered(expected);
	judge(rdmsr(MISC_FEATURES_ENABLES) == 0, "MISC_FEATURES_ENABLES off");
	print("cpuid-fault: %d BAD\n", bads);
	return bads != 0;
}
