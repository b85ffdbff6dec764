/* Halts with interrupts off: nothing but an NMI or a reset wakes it. */
#include "guest.h"

int main(void)
{
	print("halted\n");
	for (;;)
		asm volatile("cli; hlt");
}
