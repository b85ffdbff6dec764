/* Keeps a pattern in every vector register that its CPU has - XMM, YMM, ZMM and opmasks - and looks each tick whether
 * all of it is still there; then it takes another. Every second tick it waits with all but x87 off in XCR0, which leaves
 * the registers as they are. Prints `tick N errors E`. `mib=` MiB (4) of memory get a word in each of `pages=` (16)
 * pages a tick, so that there is something to migrate; `gap=` is the least time of a tick, in TSC ticks (1000000). */
#include "guest.h"

enum { OSFXSR = 1 << 9, OSXSAVE = 1 << 18 };
enum { X87 = 1, SSE = 2, AVX = 4, AVX512 = 0xE0 };

static u8 room[32 * 64] __attribute__((aligned(64)));

static u64 pattern(u64 generation, u64 word) { return (generation << 16 | word) * 0x9E3779B97F4A7C15; }

static void xsetbv(u32 low) { asm volatile("xsetbv" : : "c"(0), "a"(low), "d"(0)); }

#define EACH16(do, at) do(0, at) do(1, at) do(2, at) do(3, at) do(4, at) do(5, at) do(6, at) do(7, at) \
	do(8, at) do(9, at) do(10, at) do(11, at) do(12, at) do(13, at) do(14, at) do(15, at)
#define HIGH16(do, at) do(16, at) do(17, at) do(18, at) do(19, at) do(20, at) do(21, at) do(22, at) do(23, at) \
	do(24, at) do(25, at) do(26, at) do(27, at) do(28, at) do(29, at) do(30, at) do(31, at)
#define LOAD(mnemonic, r, n, at) asm volatile(mnemonic " %0, %%" r #n : : "m"(at[64 * n]));
#define STORE(mnemonic, r, n, at) asm volatile(mnemonic " %%" r #n ", %0" : "=m"(at[64 * n]));
#define LOAD_XMM(n, at) LOAD("movups", "xmm", n, at)
#define LOAD_YMM(n, at) LOAD("vmovups", "ymm", n, at)
#define LOAD_ZMM(n, at) LOAD("vmovups", "zmm", n, at)
#define STORE_XMM(n, at) STORE("movups", "xmm", n, at)
#define STORE_YMM(n, at) STORE("vmovups", "ymm", n, at)
#define STORE_ZMM(n, at) STORE("vmovups", "zmm", n, at)

static void load(int bytes)
{
	if (bytes == 64) {
		EACH16(LOAD_ZMM, room)
		HIGH16(LOAD_ZMM, room)
		asm volatile("kmovw %0, %%k1" : : "r"((u32)room[1] << 8 | room[0]));
	} else if (bytes == 32) {
		EACH16(LOAD_YMM, room)
	} else {
		EACH16(LOAD_XMM, room)
	}
}

/* The opmask is written over what it is checked with by the caller. */
static u32 store(int bytes)
{
	u32 mask = 0;
	if (bytes == 64) {
		EACH16(STORE_ZMM, room)
		HIGH16(STORE_ZMM, room)
		asm volatile("kmovw %%k1, %0" : "=r"(mask));
	} else if (bytes == 32) {
		EACH16(STORE_YMM, room)
	} else {
		EACH16(STORE_XMM, room)
	}
	return mask;
}

int main(void)
{
	u64 pages = option("mib", 4) * 256, batch = option("pages", 16), gap = option("gap", 1000000), errors = 0, done = 0;
	u64 base = free_memory();
	u32 xcr0 = 0;
	int bytes = 16, count = 16;
	write_cr0((read_cr0() & ~(u64)0xC) | 2); /* EM and TS off, MP on */
	write_cr4(read_cr4() | OSFXSR);
	if (cpuid(1, 0).ecx >> 26 & 1) {
		write_cr4(read_cr4() | OSXSAVE);
		xcr0 = cpuid(0xD, 0).eax & (X87 | SSE | AVX | AVX512);
		xsetbv(xcr0);
	}
	if (xcr0 & AVX)
		bytes = 32;
	if ((xcr0 & AVX512) == AVX512)
		bytes = 64, count = 32;
	print("vector-holder: %d registers of %d bytes\n", count, bytes);
	for (u64 tick = 1;; tick++) {
		u64 start = rdtsc();
		for (int n = 0; n < count; n++)
			for (int w = 0; w < bytes / 8; w++)
				((u64 *)(room + 64 * n))[w] = pattern(tick, n * 8 + w);
		load(bytes);
		if (xcr0 && tick % 2)
			xsetbv(X87);
		for (u64 i = 0; i < batch; i++, done++)
			*(volatile u64 *)(base + done % pages * 4096) = tick;
		while (rdtsc() - start < gap)
			;
		if (xcr0)
			xsetbv(xcr0);
		for (u64 i = 0; i < sizeof room; i++)
			room[i] = 0;
		u32 mask = store(bytes);
		for (int n = 0; n < count; n++)
			for (int w = 0; w < bytes / 8; w++) {
				u64 found = ((u64 *)(room + 64 * n))[w];
				if (found != pattern(tick, n * 8 + w) && errors++ < 10)
					print("register %d word %d: %lx for %lx\n", n, w, found, pattern(tick, n * 8 + w));
			}
		if (bytes == 64 && mask != (pattern(tick, 0) & 0xFFFF) && errors++ < 10)
			print("k1: %x\n", mask);
		print("tick %lu errors %lu\n", tick, errors);
	}
}
