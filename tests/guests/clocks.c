/* Four clocks side by side: TSC, PM timer, PIT channel 2 and RTC. Their rates are taken once; then each tick says how
 * far each is from where the TSC puts it since, in us, and the longest time between two looks at the TSC. Prints
 * `tick N errors E`, and `clocks N pm P pit Q rtc R worst W gap G`. A clock that is more than `slack=` us (2000) off is
 * an error. The PM timer is compared within its 4.69 s, PIT channel 2 within its 55 ms, so that no pause hides in them;
 * the RTC in whole seconds at the moments where one begins. `gap=` is the time of a tick, in TSC ticks (1000000). */
#include "guest.h"

enum { PIT_HZ = 1193182, PM_HZ = 3579545, RTC_A = 0x0A, RTC_B = 0x0B, UPDATING = 0x80 };

static struct acpi acpi;
static u64 tsc_hz;

/* All that can be read in one go; `tsc` is the middle of the time that a reading took. */
struct reading { u64 tsc; u32 value, took; };

static u32 pm_timer(void) { return inl(acpi.pm_timer) & 0xFFFFFF; }

static u32 pit(void)
{
	outb(0x43, 0x80); /* latch channel 2 */
	u8 low = inb(0x42);
	return 0xFFFF & ~(low | (u32)inb(0x42) << 8); /* counts down from 0 */
}

/* The quickest of some readings: what stands between its two ends is not a host that does something else. */
static struct reading read_clock(u32 (*clock)(void))
{
	struct reading best = {0, 0, ~0u};
	for (int i = 0; i < 8; i++) {
		u64 from = rdtsc();
		u32 value = clock();
		u64 took = rdtsc() - from;
		if (took < best.took)
			best = (struct reading){from + took / 2, value, took};
	}
	return best;
}

/* How far `now` is from where the TSC puts it, in us; `modulus` a power of two. */
static int off(struct reading from, struct reading now, u64 hz, u32 modulus)
{
	u64 ticks = now.tsc - from.tsc;
	u64 want = ticks / tsc_hz * hz + ticks % tsc_hz * hz / tsc_hz;
	u32 ahead = (now.value - from.value - (u32)want) & (modulus - 1);
	long signed_ahead = ahead < modulus / 2 ? (long)ahead : (long)ahead - (long)modulus;
	return (int)(signed_ahead * 1000000 / (long)hz);
}

static u8 cmos(u8 index) { outb(0x70, index); return inb(0x71); }
static u32 number(u8 v) { return cmos(RTC_B) & 4 ? v : (v >> 4) * 10u + (v & 15); }
static u32 rtc_seconds(void) { return number(cmos(4) & 0x7F) * 3600 + number(cmos(2)) * 60 + number(cmos(0)); }

static u32 magnitude(int v) { return v < 0 ? -(u32)v : (u32)v; }

int main(void)
{
	u64 gap = option("gap", 1000000), slack = option("slack", 2000), errors = 0;
	acpi = acpi_find();
	if (!acpi.pm_timer) {
		print("clocks: no PM timer\n");
		return 1;
	}
	outb(0x61, (inb(0x61) & ~2) | 1); /* gate of channel 2 on, speaker off */
	outb(0x43, 0xB4);                 /* mode 2, low and high byte */
	outb(0x42, 0);
	outb(0x42, 0);

	/* The rate, over two seconds of the PM timer. */
	struct reading pm0 = read_clock(pm_timer), pm1 = pm0;
	while (((pm1.value - pm0.value) & 0xFFFFFF) < 2 * PM_HZ)
		pm1 = read_clock(pm_timer);
	u64 by_pm = (pm1.value - pm0.value) & 0xFFFFFF;
	tsc_hz = (pm1.tsc - pm0.tsc) / by_pm * PM_HZ + (pm1.tsc - pm0.tsc) % by_pm * PM_HZ / by_pm;
	struct reading pit0 = read_clock(pit);
	print("clocks: tsc %lu Hz, a look takes %u ticks\n", tsc_hz, pm0.took);

	/* A second of the RTC begins: when, and which. */
	u64 edge_tsc = 0, look = rdtsc(), last_edge = look;
	u32 edge_second = 0, last_second = rtc_seconds();
	int rtc_off = 0;
	for (u64 tick = 1;; tick++) {
		u64 start = rdtsc(), longest = 0;
		u64 worst = 0;
		do {
			u64 before = look;
			look = rdtsc();
			if (look - before > longest)
				longest = look - before;
			u32 second = cmos(RTC_A) & UPDATING ? last_second : number(cmos(0));
			u64 after = rdtsc();
			if (second % 60 == last_second % 60)
				continue;
			last_edge = after;
			last_second = rtc_seconds();
			/* An edge that was met late says nothing. */
			if (after - before > tsc_hz / 1000)
				continue;
			if (!edge_tsc) {
				edge_tsc = after;
				edge_second = last_second;
				continue;
			}
			u64 want = (after - edge_tsc) / tsc_hz * 1000000 + (after - edge_tsc) % tsc_hz * 1000000 / tsc_hz;
			u32 seconds = (last_second + 86400 - edge_second) % 86400;
			rtc_off = (int)((long)seconds * 1000000 - (long)want);
			if (magnitude(rtc_off) > worst)
				worst = magnitude(rtc_off);
		} while (look - start < gap);
		int pm_off = off(pm0, read_clock(pm_timer), PM_HZ, 1 << 24), pit_off = off(pit0, read_clock(pit), PIT_HZ, 1 << 16);
		if (magnitude(pm_off) > worst)
			worst = magnitude(pm_off);
		if (magnitude(pit_off) > worst)
			worst = magnitude(pit_off);
		/* One that stands still has no edges. */
		bool stands = rdtsc() - last_edge > 2 * tsc_hz + longest;
		errors += worst > slack || stands;
		print("clocks %lu pm %d pit %d rtc %d worst %lu gap %lu%s\n", tick, pm_off, pit_off, rtc_off, worst,
		      longest / (tsc_hz / 1000) * 1000 + longest % (tsc_hz / 1000) * 1000 / (tsc_hz / 1000), stands ? " RTC STANDS" : "");
		print("tick %lu errors %lu\n", tick, errors);
	}
}
