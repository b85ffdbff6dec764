/* Upper halves of YMM registers while XCR0 leaves them out. Each turn sets all YMM registers to a pattern, or (every
 * second turn) clears their upper halves; lowers XCR0 to x87|SSE; counts ticks, rewriting the XMM registers, until a key
 * comes on COM1; raises XCR0 again and looks. XCR0 does not change the registers (SDM vol. 1, 13.2 and 13.3), and
 * legacy SSE leaves the upper halves as they are: what was there has to be there, and nothing else. Prints `tick N
 * errors E` and `raised N: kept K, foreign F` for each turn. `gap=` is the least time of a tick, in TSC ticks. */
#include "guest.h"

enum { COM1_LSR = 0x3FD, COM1 = 0x3F8, OSFXSR = 1 << 9, OSXSAVE = 1 << 18, X87_SSE = 3, X87_SSE_AVX = 7 };

static u64 room[16][4] __attribute__((aligned(64)));

static void xsetbv(u32 low) { asm volatile("xsetbv" : : "c"(0), "a"(low), "d"(0)); }
static u64 pattern(u64 turn, u64 word) { return (turn << 16 | word) * 0x9E3779B97F4A7C15; }

#define EACH16(do) do(0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11) do(12) do(13) do(14) do(15)
#define LOAD_XMM(n) asm volatile("movups %0, %%xmm" #n : : "m"(room[n]));
#define LOAD_YMM(n) asm volatile("vmovups %0, %%ymm" #n : : "m"(room[n]));
#define STORE_YMM(n) asm volatile("vmovups %%ymm" #n ", %0" : "=m"(room[n]));

static void fill(u64 turn)
{
	for (u64 n = 0; n < 16; n++)
		for (u64 w = 0; w < 4; w++)
			room[n][w] = pattern(turn, n * 4 + w);
}

int main(void)
{
	u64 gap = option("gap", 1000000), errors = 0, tick = 1;
	if (!(cpuid(1, 0).ecx >> 28 & 1)) {
		print("xcr0-holder: no AVX\n");
		return 1;
	}
	write_cr0((read_cr0() & ~(u64)0xC) | 2); /* EM and TS off, MP on */
	write_cr4(read_cr4() | OSFXSR | OSXSAVE);
	for (u64 turn = 1;; turn++) {
		xsetbv(X87_SSE_AVX);
		fill(turn);
		EACH16(LOAD_YMM)
		if (turn % 2 == 0)
			asm volatile("vzeroupper");
		xsetbv(X87_SSE);
		print("lowered %lu\n", turn);
		for (; !(inb(COM1_LSR) & 1); tick++) {
			u64 start = rdtsc();
			fill(turn + tick);
			EACH16(LOAD_XMM)
			while (rdtsc() - start < gap)
				;
			print("tick %lu errors %lu\n", tick, errors);
		}
		inb(COM1);
		fill(turn + tick);
		EACH16(LOAD_XMM)
		xsetbv(X87_SSE_AVX);
		EACH16(STORE_YMM)
		u64 kept = 0, foreign = 0;
		for (u64 n = 0; n < 16; n++)
			for (u64 w = 0; w < 4; w++) {
				u64 upper = turn % 2 ? pattern(turn, n * 4 + w) : 0, want = w < 2 ? pattern(turn + tick, n * 4 + w) : upper;
				if (room[n][w] == want)
					kept++;
				else if (foreign++ < 4)
					print("register %lu word %lu: %lx for %lx\n", n, w, room[n][w], want);
			}
		errors += foreign;
		print("raised %lu: kept %lu, foreign %lu\n", turn, kept, foreign);
	}
}
