/* Resets the machine: by the FADT's reset register, `by=8042` (0x64: also where there is none), or `by=0xcf9`. */
#include "guest.h"

int main(void)
{
	struct acpi a = acpi_find();
	u64 by = option("by", 0);
	if (by == 8042 || (!by && !a.reset_port))
		a.reset_port = 0x64, a.reset_value = 0xFE;
	else if (by)
		a.reset_port = by, a.reset_value = 6;
	print("reset: port 0x%x, value 0x%x\n", a.reset_port, a.reset_value);
	outb(a.reset_port, a.reset_value);
	for (int i = 0; i < 1000000; i++)
		asm volatile("pause");
	print("reset: still here\n");
	return 1;
}
