/* Interrupts and clocks: PIT by PIC, by IO-APIC; local APIC timer periodic, one-shot and TSC-deadline, in xAPIC and
 * x2APIC mode; PIT channel 2 and RTC by polling; HLT woken by a tick. Each is held against the PM timer (where there
 * is none: against PIT channel 2) and the TSC, to one part in ten, 2 ms, and half a ms a tick. Every polled wait ends
 * after 5 s at the latest. */
#include "guest.h"

enum { PIT_HZ = 1193182, PM_HZ = 3579545, PIC_BASE = 0x20, IOAPIC_VECTOR = 0x50, APIC_VECTOR = 0x60 };
enum { ID = 0x20, TPR = 0x80, EOI = 0xB0, SVR = 0xF0, LVT_TIMER = 0x320, INITIAL = 0x380, CURRENT = 0x390, DIVIDE = 0x3E0 };

static struct acpi acpi;
static u64 tsc_hz, apic_base;
static bool x2apic;
static volatile u32 ticks, stray;
static int bad;

/* ---- clocks ---- */

static u64 pm_last, pm_sum;

/* The PM timer widened to 64 bits; it has 24 and must be read every 4 s. */
static u64 pm_ticks(void)
{
	if (!acpi.pm_timer)
		return 0;
	u64 now = inl(acpi.pm_timer) & 0xFFFFFF;
	pm_sum += (now - pm_last) & 0xFFFFFF;
	pm_last = now;
	return pm_sum;
}

static u64 us_of_tsc(u64 t) { return t / (tsc_hz / 1000000); }

struct instant { u64 tsc, pm; };
static struct instant now(void) { return (struct instant){rdtsc(), pm_ticks()}; }

static void judge(const char *name, u64 count, u64 want_us, struct instant from, struct instant to)
{
	u64 by_tsc = us_of_tsc(to.tsc - from.tsc), by_pm = acpi.pm_timer ? (to.pm - from.pm) * 1000000 / PM_HZ : by_tsc;
	u64 slack = want_us / 10 + 2000 + count * 500; /* latency, which one-shot timers add up */
	bool good = count && by_tsc + slack > want_us && by_tsc < want_us + slack && by_pm + slack > want_us && by_pm < want_us + slack;
	bad += !good;
	print("timer %s: %s, %lu ticks, %lu us wanted, %lu by TSC, %lu by PM timer\n", name, good ? "ok" : "BAD", count, want_us, by_tsc, by_pm);
}

/* ---- the local APIC, by MMIO or MSR ---- */

static u32 apic_read(u32 reg) { return x2apic ? (u32)rdmsr(0x800 + (reg >> 4)) : read32(apic_base + reg); }
static void apic_write(u32 reg, u32 v)
{
	if (x2apic)
		wrmsr(0x800 + (reg >> 4), v);
	else
		write32(apic_base + reg, v);
}

static void on_pic(struct frame *f) { (void)f; ticks++; outb(0x20, 0x20); }
static void on_apic(struct frame *f) { (void)f; ticks++; apic_write(EOI, 0); }
static void on_spurious(struct frame *f) { (void)f; stray++; }

/* Waits for `count` ticks with interrupts on; false after 5 s. */
static bool wait(u32 count)
{
	u64 end = rdtsc() + 5 * tsc_hz, next = 0;
	asm volatile("sti");
	while (ticks < count && rdtsc() < end)
		if (rdtsc() > next)
			pm_ticks(), next = rdtsc() + tsc_hz;
	asm volatile("cli");
	return ticks >= count;
}

/* Lets an interrupt of an earlier mode in, then forgets it. */
static void settle(void)
{
	asm volatile("sti; nop; nop; cli");
	ticks = 0;
}

/* Times `count` ticks of `us` each, from the first tick on. */
static void time_ticks(const char *name, u32 count, u64 us)
{
	ticks = 0;
	wait(1);
	struct instant from = now();
	u32 first = ticks;
	bool came = first && wait(first + count);
	judge(name, came ? count : 0, count * us, from, now());
}

/* ---- PIT and PIC ---- */

static void pit_channel0(u32 hz)
{
	u16 divisor = hz ? PIT_HZ / hz : 0;
	outb(0x43, hz ? 0x34 : 0x30); /* mode 2; or mode 0 without a count: silent */
	if (hz) {
		outb(0x40, divisor);
		outb(0x40, divisor >> 8);
	}
}

/* 50 ms on channel 2, as operating systems do to find the TSC's rate. */
static u64 pit_channel2(void)
{
	u16 count = PIT_HZ / 20;
	outb(0x61, (inb(0x61) & ~2) | 1); /* gate on, speaker off */
	outb(0x43, 0xB0);                 /* mode 0 */
	outb(0x42, count);
	outb(0x42, count >> 8);
	u64 start = rdtsc(), polls = 0;
	while (!(inb(0x61) & 0x20))
		if (++polls > 100000000) {
			print("timer pit2: BAD, never ends\n");
			quit(1);
		}
	return (rdtsc() - start) * 20;
}

static void pic_setup(u8 mask)
{
	outb(0x20, 0x11); outb(0xA0, 0x11);
	outb(0x21, PIC_BASE); outb(0xA1, PIC_BASE + 8);
	outb(0x21, 4); outb(0xA1, 2);
	outb(0x21, 1); outb(0xA1, 1);
	outb(0x21, mask); outb(0xA1, 0xFF);
}

static void by_pic(void)
{
	pic_setup(0xFE);
	pit_channel0(100);
	time_ticks("pit by pic", 20, 10000);

	/* HLT: the tick is what wakes it. */
	ticks = 0;
	wait(1);
	struct instant from = now();
	u32 end = ticks + 10;
	while (ticks < end)
		asm volatile("sti; hlt; cli");
	judge("hlt woken by pit", 10, 100000, from, now());

	/* Masked: nothing comes; unmasked, the edge that was latched comes. */
	outb(0x21, 0xFF);
	ticks = 0;
	u64 until = rdtsc() + tsc_hz / 20;
	asm volatile("sti");
	while (rdtsc() < until)
		;
	asm volatile("cli");
	print("timer pic mask: %s, %u ticks\n", ticks ? "BAD" : "ok", ticks);
	bad += ticks != 0;
}

static void by_ioapic(void)
{
	const u64 ioapic = 0xFEC00000;
	pic_setup(0xFF);
	write32(ioapic, 1);
	u32 version = read32(ioapic + 16);
	print("timer ioapic: version %02x, %u inputs\n", version & 0xFF, (version >> 16 & 0xFF) + 1);
	/* Input 2 carries IRQ 0 on every PC (MADT override). Edge, active high, fixed, to APIC id 0. */
	write32(ioapic, 0x10 + 2 * 2 + 1);
	write32(ioapic + 16, (apic_read(ID) >> (x2apic ? 0 : 24)) << 24);
	write32(ioapic, 0x10 + 2 * 2);
	write32(ioapic + 16, IOAPIC_VECTOR);
	time_ticks("pit by ioapic", 20, 10000);
	write32(ioapic, 0x10 + 2 * 2);
	write32(ioapic + 16, 1 << 16);
	pit_channel0(0);
}

/* ---- local APIC timer ---- */

static void by_local_apic(const char *periodic, const char *oneshot, const char *deadline)
{
	apic_write(SVR, 0x1FF);
	apic_write(TPR, 0);
	apic_write(DIVIDE, 3); /* by 16 */
	apic_write(LVT_TIMER, 1 << 16 | APIC_VECTOR);
	apic_write(INITIAL, 0xFFFFFFFF);
	u64 until = rdtsc() + tsc_hz / 50;
	while (rdtsc() < until)
		;
	u32 per_20ms = 0xFFFFFFFF - apic_read(CURRENT);
	apic_write(INITIAL, 0);
	print("timer lapic: %u Hz behind the divider, id 0x%x\n", per_20ms * 50, apic_read(ID));

	apic_write(LVT_TIMER, 1 << 17 | APIC_VECTOR);
	apic_write(INITIAL, per_20ms / 4);
	time_ticks(periodic, 20, 5000);

	/* One-shot: each tick starts the next. */
	apic_write(INITIAL, 0);
	apic_write(LVT_TIMER, APIC_VECTOR);
	settle();
	struct instant from = now();
	u32 came = 0;
	for (; came < 10; came++) {
		apic_write(INITIAL, per_20ms / 4);
		if (!wait(came + 1))
			break;
	}
	judge(oneshot, came == 10 ? came : 0, 50000, from, now());

	if (!(cpuid(1, 0).ecx >> 24 & 1))
		goto masked;
	apic_write(LVT_TIMER, 2 << 17 | APIC_VECTOR);
	asm volatile("mfence");
	settle();
	from = now();
	u64 at = rdtsc();
	for (came = 0; came < 20; came++) {
		at += tsc_hz / 200;
		wrmsr(0x6E0, at);
		if (!wait(came + 1))
			break;
	}
	judge(deadline, came == 20 ? came : 0, 100000, from, now());
	/* A deadline that has passed fires at once; 0 disarms. */
	ticks = 0;
	wrmsr(0x6E0, 1);
	bool now_fired = wait(1);
	wrmsr(0x6E0, rdtsc() + tsc_hz / 100);
	wrmsr(0x6E0, 0);
	until = rdtsc() + tsc_hz / 50;
	asm volatile("sti");
	while (rdtsc() < until)
		;
	asm volatile("cli");
	bool good = now_fired && ticks == 1;
	bad += !good;
	print("timer deadline past and 0: %s, %u ticks\n", good ? "ok" : "BAD", ticks);
masked:
	apic_write(LVT_TIMER, 1 << 16 | APIC_VECTOR);
}

/* ---- RTC ---- */

static u8 cmos(u8 index) { outb(0x70, index); return inb(0x71); }

static void rtc_second(void)
{
	struct instant at[2] = {{0, 0}, {0, 0}};
	u64 end = rdtsc() + 5 * tsc_hz, next = 0;
	u8 last = cmos(0);
	for (int i = 0; i < 2 && rdtsc() < end;) {
		u8 second = cmos(0x0A) & 0x80 ? last : cmos(0);
		if (second != last) {
			last = second;
			at[i++] = now();
		} else if (rdtsc() > next) {
			pm_ticks();
			next = rdtsc() + tsc_hz / 10;
		}
	}
	judge("rtc second", at[1].tsc ? 1 : 0, 1000000, at[0], at[1]);
}

int main(void)
{
	acpi = acpi_find();
	pm_ticks();
	pm_sum = 0;
	pic_setup(0xFF);
	for (int v = 0; v < 16; v++)
		on_vector(PIC_BASE + v, on_pic);
	on_vector(IOAPIC_VECTOR, on_apic);
	on_vector(APIC_VECTOR, on_apic);
	on_vector(0xFF, on_spurious);

	tsc_hz = pit_channel2();
	struct instant from = now();
	u64 again = pit_channel2();
	struct instant to = now();
	print("timer tsc: %lu Hz, then %lu Hz; PM timer at 0x%x\n", tsc_hz, again, acpi.pm_timer);
	judge("pit2", 1, 50000, from, to);

	by_pic();
	apic_base = rdmsr(0x1B) & 0xFFFFFF000;
	apic_write(SVR, 0x1FF);
	pit_channel0(100);
	by_ioapic();
	by_local_apic("lapic periodic", "lapic one-shot", "lapic tsc-deadline");
	rtc_second();
	if (cpuid(1, 0).ecx >> 21 & 1) {
		wrmsr(0x1B, rdmsr(0x1B) | 1 << 10);
		x2apic = true;
		by_local_apic("x2apic periodic", "x2apic one-shot", "x2apic tsc-deadline");
	}
	print("timer: %u spurious, %d BAD\n", stray, bad);
	return bad != 0;
}
