/* Prints every CPUID leaf and sub-leaf as raw lines `cpuid LEAF SUBLEAF: EAX EBX ECX EDX`, in hexadecimal. */
#include "guest.h"

static void line(u32 leaf, u32 sub, struct cpuid r)
{
	print("cpuid %08x %08x: %08x %08x %08x %08x\n", leaf, sub, r.eax, r.ebx, r.ecx, r.edx);
}

/* Whether sub-leaf `sub` (from 1 on) is there; `first` is sub-leaf 0, `r` the one in question. SDM 2A CPUID. */
static bool more(u32 leaf, u32 sub, struct cpuid first, struct cpuid r)
{
	switch (leaf) {
	case 0x4: return r.eax & 0x1F;
	case 0x7: case 0x14: case 0x17: case 0x18: case 0x1D: case 0x20: case 0x24: return sub <= first.eax && sub < 64;
	case 0xB: case 0x1F: return r.ecx >> 8 & 0xFF;
	case 0xD: case 0xF: case 0x10: case 0x12: return sub < 64;
	default: return false;
	}
}

static void leaf(u32 leaf)
{
	struct cpuid first = cpuid(leaf, 0);
	line(leaf, 0, first);
	for (u32 sub = 1;; sub++) {
		struct cpuid r = cpuid(leaf, sub);
		if (!more(leaf, sub, first, r))
			return;
		/* These have gaps: only what is not zero is worth a line. */
		if (leaf < 0xD || leaf > 0x12 || r.eax | r.ebx | r.ecx | r.edx)
			line(leaf, sub, r);
	}
}

static void range(u32 base, u32 most)
{
	u32 last = cpuid(base, 0).eax;
	if (last < base || last > base + most)
		last = base;
	for (u32 l = base; l <= last; l++)
		leaf(l);
	/* One behind the end, to show what is answered there. */
	line(last + 1, 0, cpuid(last + 1, 0));
}

int main(void)
{
	range(0, 0x3F);
	range(0x40000000, 0xFF);
	range(0x80000000, 0x3F);
	print("cpuid-dump: done\n");
	return 0;
}
