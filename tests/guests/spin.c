/* Spins with interrupts on, without an exit of its own accord, and prints `lap N ticks N` after each `rounds=` (1000000)
 * rounds. With `count=`, its local APIC's timer ticks meanwhile, each so many counts. */
#include "guest.h"

#define APIC 0xFEE00000ul
enum { VECTOR = 0x40, EOI = 0xB0, SVR = 0xF0, LVT_TIMER = 0x320, PERIODIC = 1 << 17, INITIAL = 0x380, DIVIDE = 0x3E0 };

static volatile u32 ticks;

static void on_timer(struct frame *f)
{
	(void)f;
	ticks++;
	write32(APIC + EOI, 0);
}

int main(void)
{
	u64 rounds = option("rounds", 1000000), count = option("count", 0);
	outb(0x21, 0xFF);
	outb(0xA1, 0xFF);
	if (count) {
		on_vector(VECTOR, on_timer);
		write32(APIC + SVR, 0x1FF);
		write32(APIC + DIVIDE, 0xB);
		write32(APIC + LVT_TIMER, PERIODIC | VECTOR);
		write32(APIC + INITIAL, (u32)count);
	}
	asm volatile("sti");
	for (u32 lap = 1;; lap++) {
		for (u64 round = 0; round < rounds; round++)
			asm volatile("" : : : "memory");
		print("lap %u ticks %u\n", lap, ticks);
	}
}
