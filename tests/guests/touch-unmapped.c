/* Reads and writes where there is no RAM, and goes on. A read gives all ones where nothing answers; what it gives
 * in a device's window is printed, not judged. Ones are no code: a jump there gives #UD. */
#include "guest.h"

static int bad;

static void touch(const char *what, u64 at, bool judge)
{
	u8 v8 = 0;
	u16 v16 = 0;
	u32 v32 = 0;
	u64 v64 = 0;
	asm volatile(GUARD("movb (%1), %0") : "+q"(v8) : "r"(at) : "memory");
	int fault = fault_vector;
	asm volatile("movw (%1), %0" : "=r"(v16) : "r"(at) : "memory");
	asm volatile("movl (%1), %0" : "=r"(v32) : "r"(at) : "memory");
	asm volatile("movq (%1), %0" : "=r"(v64) : "r"(at) : "memory");
	bool ones = v8 == 0xFF && v16 == 0xFFFF && v32 == 0xFFFFFFFF && v64 == ~0ull && fault < 0;
	bool is_bad = judge && !ones;
	bad += is_bad;
	print("touch %s 0x%lx: %02x %04x %08x %016lx%s\n", what, at, v8, v16, v32, v64, !judge ? "" : is_bad ? " BAD" : " ok");
}

static void scribble(u64 at)
{
	asm volatile("movb $0x5a, (%0)" : : "r"(at) : "memory");
	asm volatile("movw $0x5aa5, (%0)" : : "r"(at) : "memory");
	asm volatile("movl $0x12345678, (%0)" : : "r"(at) : "memory");
	asm volatile("movq %1, (%0)" : : "r"(at), "r"(0x1122334455667788) : "memory");
	asm volatile("orl $1, (%0)" : : "r"(at) : "memory");
}

int main(void)
{
	u64 top = 0x100000 + ((u64)mem_upper() << 10);
	/* Firmware of a PC keeps a little below what it calls the top: step over it. */
	u64 beyond = (top + 0x3FFFFF) & ~0x1FFFFFull;
	print("touch-unmapped: RAM up to 0x%lx\n", top);
	const u64 holes[] = {beyond, beyond + 0xFFF, 0xD0000000, 0xFEB00000, 0xFED80000, 0xFEF00000, 0x1F0000000};
	for (u32 i = 0; i < sizeof holes / sizeof *holes; i++) {
		touch("hole", holes[i], true);
		scribble(holes[i]);
		touch("hole", holes[i], true);
	}
	touch("VGA", 0xA0000, false);
	touch("ROM", 0xFFFFFFF0 - 8, false);
	touch("IO-APIC", 0xFEC00000, false);
	touch("HPET", 0xFED00000, false);
	touch("local APIC", 0xFEE00020, false);

	/* Half in RAM, half out of it. */
	print("touch across 0x%lx: %08x\n", beyond - 2, read32(beyond - 2));
	asm volatile(GUARD("jmp *%0") : : "r"(0xD0000000ull) : "memory");
	bad += fault_vector != UD;
	print("touch, jump: %s%s\n", fault_name(fault_vector), fault_vector == UD ? " ok" : " BAD");
	print("touch-unmapped: %d BAD\n", bad);
	return bad != 0;
}
