/* Reads and writes ports that nothing answers, in every width: they float high. String I/O goes to COM1. (QEMU answers some of it with zeros.) */
#include "guest.h"

static int bad;

static void expect(const char *what, u16 port, u32 got, u32 want)
{
	if (got != want)
		bad++;
	print("io %s 0x%x: %08x %s\n", what, port, got, got == want ? "ok" : "BAD");
}

int main(void)
{
	static const u16 ports[] = {0x99, 0x150, 0x2C0, 0x510 - 0x10, 0x1234, 0xC123, 0xFFF0};
	for (u32 i = 0; i < sizeof ports / sizeof *ports; i++) {
		outb(ports[i], 0x5A);
		outw(ports[i], 0xA55A);
		outl(ports[i], 0xDEADBEEF);
		expect("inb", ports[i], inb(ports[i]), 0xFF);
		expect("inw", ports[i], inw(ports[i]), 0xFFFF);
		expect("inl", ports[i], inl(ports[i]), 0xFFFFFFFF);
	}
	/* Across the last port. */
	outl(0xFFFE, 0);
	expect("inl", 0xFFFE, inl(0xFFFE), 0xFFFFFFFF);

	/* IN keeps the upper half of RAX in 8 and 16 bits, clears it in 32 (SDM 1, 3.4.1.1). */
	u64 rax = 0x1122334455667788;
	asm volatile("inb $0x99, %%al" : "+a"(rax));
	expect("inb, rest of RAX", 0x99, rax >> 8 == 0x11223344556677, 1);
	rax = 0x1122334455667788;
	asm volatile("inl $0x99, %%eax" : "+a"(rax));
	expect("inl, rest of RAX", 0x99, rax == 0xFFFFFFFF, 1);

	static char text[] = "io string\r\n";
	const char *from = text;
	u64 n = sizeof text - 1;
	asm volatile("rep outsb" : "+S"(from), "+c"(n) : "d"(0x3F8) : "memory");
	expect("rep outsb, RCX", 0x3F8, n, 0);
	expect("rep outsb, RSI", 0x3F8, from == text + sizeof text - 1, 1);
	u8 into[9] = {0};
	u8 *to = into + 8;
	n = 8;
	asm volatile("std; rep insb; cld" : "+D"(to), "+c"(n) : "d"(0x99) : "memory");
	expect("rep insb down, RDI", 0x99, to == into, 1);
	expect("rep insb down, first", 0x99, into[1], 0xFF);
	print("io-probe: %d BAD\n", bad);
	return bad != 0;
}
