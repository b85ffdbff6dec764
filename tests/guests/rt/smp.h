/* Several CPUs: the local APIC of the CPU that asks, and the start of the others. */
#ifndef SMP_H
#define SMP_H

#include "guest.h"

/* Registers, by their offsets in xAPIC mode. */
enum { APIC_ID = 0x20, APIC_TPR = 0x80, APIC_EOI = 0xB0, APIC_SVR = 0xF0, APIC_ICR = 0x300, APIC_ICR_HIGH = 0x310 };
/* What the ICR's low half says besides a vector (SDM 3A 11.6.1): delivery mode, and assert. */
enum { IPI_FIXED = 0x4000, IPI_NMI = 0x4400, IPI_INIT = 0x4500, IPI_STARTUP = 0x4600 };

/* Which mode `apic_enable` chooses; the same on all CPUs. */
extern bool apic_x2;

u32 apic_read(u32 reg);
void apic_write(u32 reg, u32 value);
/* This CPU's APIC takes interrupts from here on; spurious ones come by vector 0xFF. */
void apic_enable(void);
u32 apic_id(void);
/* Sends an IPI to the CPU with that APIC id. What was written before is seen by who takes it. */
void apic_send(u32 id, u32 command);

/* INIT and two start-up IPIs, as the SDM wants it; the second has to be without effect. The CPU runs `job` on that
 * stack, with the interrupt handlers of the others and interrupts off. False: it does not come. */
bool start_cpu(u32 id, void *stack_top, void (*job)(void *), void *argument);

static inline u64 lock_xadd(volatile u64 *at, u64 v) { asm volatile("lock xaddq %0, %1" : "+r"(v), "+m"(*at) : : "memory", "cc"); return v; }
static inline u64 atomic_swap(volatile u64 *at, u64 v) { asm volatile("xchgq %0, %1" : "+r"(v), "+m"(*at) : : "memory"); return v; }
/* True where `*expected` was there; else that is what is. */
static inline bool lock_cmpxchg(volatile u64 *at, u64 *expected, u64 v)
{
	bool same;
	asm volatile("lock cmpxchgq %3, %1" : "=@ccz"(same), "+m"(*at), "+a"(*expected) : "r"(v) : "memory");
	return same;
}
static inline void relax(void) { asm volatile("pause" : : : "memory"); }

#endif
