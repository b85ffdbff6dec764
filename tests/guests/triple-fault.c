/* An exception with an empty IDT: the CPU shuts down. */
#include "guest.h"

int main(void)
{
	struct { u16 limit; u64 base; } __attribute__((packed)) empty = {0, 0};
	print("triple-fault: now\n");
	asm volatile("lidt %0; ud2" : : "m"(empty));
	print("triple-fault: still here\n");
	return 1;
}
