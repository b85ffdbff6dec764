/* The run-time of the test payloads: serial output, debug exit, guarded instructions, interrupts, ACPI. */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

/* A payload: its result is the code of the debug exit. */
int main(void);

/* Prints to COM1. Knows %s %c %d %u %x with width, leading 0, and l for 64 bits. LF is sent as CR LF. */
__attribute__((format(printf, 1, 2))) void print(const char *format, ...);

/* Where not NULL, `print` gives its characters to this function instead. */
extern void (*print_to)(char);

/* Ends the guest by debug exit; where there is none, stops it. */
__attribute__((noreturn)) void quit(u8 code);

/* Multiboot: command line, memory above 1 MiB in KiB, modules. */
struct module { u32 start, end, string, reserved; };
const char *command_line(void);
u32 mem_upper(void);
const struct module *modules(u32 *count);
/* The value of `name=` in the command line (decimal or 0x), else `preset`. */
u64 option(const char *name, u64 preset);
/* As in any C library. */
void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);
/* First byte behind the payload and everything the loader handed over, on a page boundary. */
u64 free_memory(void);

/* Interrupts. An exception without handler prints its registers and ends the guest with code 99. */
struct frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};
void on_vector(u8 vector, void (*handler)(struct frame *));
/* The handlers are those of all CPUs; each has to load the table for itself. */
void use_idt(void);

/* An exception in `insn` resumes behind it; `fault_vector` is then its vector, else -1. */
extern volatile int fault_vector;
extern volatile u64 fault_error, recover;
#define GUARD(insn) "movl $-1, fault_vector\n\tmovq $77f, recover\n\t" insn "\n77:\tmovq $0, recover\n\t"
/* `#GP`, `#UD` ... for a vector. */
const char *fault_name(int vector);

enum { DE = 0, UD = 6, NM = 7, GP = 13, PF = 14 };

static inline u8 inb(u16 port) { u8 v; asm volatile("inb %w1, %b0" : "=a"(v) : "Nd"(port)); return v; }
static inline u16 inw(u16 port) { u16 v; asm volatile("inw %w1, %w0" : "=a"(v) : "Nd"(port)); return v; }
static inline u32 inl(u16 port) { u32 v; asm volatile("inl %w1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline void outb(u16 port, u8 v) { asm volatile("outb %b0, %w1" : : "a"(v), "Nd"(port)); }
static inline void outw(u16 port, u16 v) { asm volatile("outw %w0, %w1" : : "a"(v), "Nd"(port)); }
static inline void outl(u16 port, u32 v) { asm volatile("outl %0, %w1" : : "a"(v), "Nd"(port)); }

static inline u64 rdtsc(void)
{
	u32 low, high;
	asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (u64)high << 32 | low;
}

struct cpuid { u32 eax, ebx, ecx, edx; };
static inline struct cpuid cpuid(u32 leaf, u32 subleaf)
{
	struct cpuid r;
	asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
	return r;
}
/* As `cpuid`, but zero for a leaf beyond the last of its range. */
struct cpuid cpuid_checked(u32 leaf, u32 subleaf);

static inline u64 rdmsr(u32 msr)
{
	u32 low, high;
	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (u64)high << 32 | low;
}
static inline void wrmsr(u32 msr, u64 v) { asm volatile("wrmsr" : : "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory"); }
/* Both return -1, or the vector of the exception. */
int try_rdmsr(u32 msr, u64 *value);
int try_wrmsr(u32 msr, u64 value);

static inline u64 read_cr0(void) { u64 v; asm volatile("mov %%cr0, %0" : "=r"(v)); return v; }
static inline u64 read_cr4(void) { u64 v; asm volatile("mov %%cr4, %0" : "=r"(v)); return v; }
static inline void write_cr0(u64 v) { asm volatile("mov %0, %%cr0" : : "r"(v) : "memory"); }
static inline void write_cr4(u64 v) { asm volatile("mov %0, %%cr4" : : "r"(v) : "memory"); }

static inline u32 read32(u64 at) { u32 v; asm volatile("movl (%1), %0" : "=r"(v) : "r"(at) : "memory"); return v; }
static inline void write32(u64 at, u32 v) { asm volatile("movl %0, (%1)" : : "r"(v), "r"(at) : "memory"); }

/* What the FADT says; a port is 0 where there are no tables. */
struct acpi {
	u16 pm_timer, pm1a_event, pm1a_control, sci;
	u16 reset_port;
	u8 reset_value;
	int s5_type; /* SLP_TYP of \_S5, -1 where unknown */
};
struct acpi acpi_find(void);
/* The APIC ids of the CPUs that the MADT calls usable, `max` at most; gives back how many. */
u32 acpi_cpus(u32 *ids, u32 max);

#endif
