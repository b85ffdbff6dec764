/* Loops with interrupts off, without an exit of its own accord. */
#include "guest.h"

int main(void)
{
	print("spinning\n");
	asm volatile("cli");
	for (;;)
		asm volatile("" : : : "memory");
}
