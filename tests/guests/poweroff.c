/* Powers the machine off by ACPI: SLP_TYP of \_S5 and SLP_EN into PM1a_CNT (ACPI 6.5, 4.8.3.2.1). */
#include "guest.h"

int main(void)
{
	struct acpi a = acpi_find();
	print("poweroff: PM1a_CNT 0x%x, S5 type %d\n", a.pm1a_control, a.s5_type);
	if (!a.pm1a_control || a.s5_type < 0) {
		print("poweroff: no ACPI\n");
		return 2;
	}
	outw(a.pm1a_control, 1 << 13 | a.s5_type << 10);
	for (int i = 0; i < 1000000; i++)
		asm volatile("pause");
	print("poweroff: still here\n");
	return 1;
}
