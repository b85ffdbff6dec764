/* Waits for the power button, a fixed-feature event of ACPI (6.5, 4.8.3.1), by its interrupt, and powers off; with
 * `listen=0` it does not listen. Says where its marks are, for whoever looks into it from outside: a string, and the
 * return addresses of three functions that keep their frame pointers. */
#include "guest.h"

enum { PWRBTN = 1 << 8, SLP_EN = 1 << 13, PIC_BASE = 0x20 };

static struct acpi acpi;
static volatile u32 pressed, stray;
static const char mark[] = "Flexvisor looks into a guest";

static void on_sci(struct frame *f)
{
	(void)f;
	u16 status = inw(acpi.pm1a_event);
	outw(acpi.pm1a_event, status & PWRBTN); /* write 1 to clear */
	if (status & PWRBTN)
		pressed++;
	else
		stray++;
	outb(0xA0, 0x20);
	outb(0x20, 0x20);
}

static void pic_setup(void)
{
	outb(0x20, 0x11); outb(0xA0, 0x11);
	outb(0x21, PIC_BASE); outb(0xA1, PIC_BASE + 8);
	outb(0x21, 4); outb(0xA1, 2);
	outb(0x21, 1); outb(0xA1, 1);
	outb(0x21, 0xFB); outb(0xA1, ~(1 << (acpi.sci - 8)));
	outb(0x4D1, inb(0x4D1) | 1 << (acpi.sci - 8)); /* the SCI is a level */
}

#define FRAMED __attribute__((noinline, optimize("no-omit-frame-pointer", "no-optimize-sibling-calls")))

static FRAMED void inner(void)
{
	print("power-button: frames %lx", (u64)__builtin_return_address(0));
	print(" mark %lx ready\n", (u64)mark);
	while (!pressed)
		asm volatile("sti; hlt; cli");
}

static FRAMED void middle(void)
{
	inner();
	asm volatile("");
}

static FRAMED void outer(void)
{
	middle();
	asm volatile("");
}

int main(void)
{
	acpi = acpi_find();
	if (!acpi.pm1a_event || acpi.s5_type < 0 || acpi.sci < 8 || acpi.sci > 15) {
		print("power-button: no ACPI\n");
		return 2;
	}
	on_vector(PIC_BASE + acpi.sci, on_sci);
	pic_setup();
	if (option("listen", 1))
		outw(acpi.pm1a_event + 2, PWRBTN);
	outer();
	print("power-button: pressed %u, stray %u\n", pressed, stray);
	outw(acpi.pm1a_control, SLP_EN | acpi.s5_type << 10);
	for (;;)
		asm volatile("pause");
}
