/* Just enough of ACPI 6.5 to find the ports of the fixed hardware and the CPUs: 5.2.5.1 RSDP, 5.2.9 FADT, 5.2.12 MADT, 7.4.2 \_S5. */
#include "guest.h"

static u32 get32(const u8 *at) { return at[0] | at[1] << 8 | at[2] << 16 | (u32)at[3] << 24; }

static bool is(const u8 *at, const char *signature)
{
	while (*signature)
		if (*at++ != (u8)*signature++)
			return false;
	return true;
}

static const u8 *find_rsdp(void)
{
	for (u64 at = 0x80000; at < 0x100000; at += 16) {
		const u8 *p = (const u8 *)at;
		u8 sum = 0;
		if (at == 0xA0000)
			at = 0xE0000, p = (const u8 *)at;
		if (!is(p, "RSD PTR "))
			continue;
		for (int i = 0; i < 20; i++)
			sum += p[i];
		if (!sum)
			return p;
	}
	return NULL;
}

static const u8 *find_table(const u8 *rsdp, const char *signature)
{
	/* The XSDT where there is one (revision 2), else the RSDT. */
	bool wide = rsdp[15] >= 2 && get32(rsdp + 24);
	const u8 *root = (const u8 *)(u64)get32(rsdp + (wide ? 24 : 16));
	u32 size = wide ? 8 : 4;
	for (u32 at = 36; at + size <= get32(root + 4); at += size) {
		const u8 *table = (const u8 *)(u64)get32(root + at);
		if (is(table, signature))
			return table;
	}
	return NULL;
}

static int s5_type(const u8 *dsdt)
{
	for (u32 at = 36; at + 8 < get32(dsdt + 4); at++) {
		if (!is(dsdt + at, "_S5_") || dsdt[at + 4] != 0x12) /* PackageOp */
			continue;
		const u8 *p = dsdt + at + 7; /* behind a length of one byte and the number of elements */
		return *p == 0x0A ? p[1] : *p;
	}
	return -1;
}

struct acpi acpi_find(void)
{
	struct acpi a = {.s5_type = -1};
	const u8 *rsdp = find_rsdp(), *fadt = rsdp ? find_table(rsdp, "FACP") : NULL;
	if (!fadt)
		return a;
	a.pm_timer = get32(fadt + 76);
	a.pm1a_event = get32(fadt + 56);
	a.sci = fadt[46] | fadt[47] << 8;
	a.pm1a_control = get32(fadt + 64);
	if (get32(fadt + 112) & 1 << 10 && fadt[116] == 1) { /* RESET_REG_SUP, system I/O space */
		a.reset_port = get32(fadt + 120);
		a.reset_value = fadt[128];
	}
	a.s5_type = s5_type((const u8 *)(u64)get32(fadt + 40));
	return a;
}

u32 acpi_cpus(u32 *ids, u32 max)
{
	const u8 *rsdp = find_rsdp(), *madt = rsdp ? find_table(rsdp, "APIC") : NULL;
	u32 count = 0;
	if (!madt)
		return 0;
	for (const u8 *at = madt + 44, *end = madt + get32(madt + 4); at + 2 <= end && at[1]; at += at[1]) {
		bool local = at[0] == 0, x2 = at[0] == 9; /* processor local APIC, local x2APIC */
		if ((local || x2) && get32(at + (x2 ? 8 : 4)) & 1 && count < max)
			ids[count++] = x2 ? get32(at + 4) : at[3];
	}
	return count;
}
