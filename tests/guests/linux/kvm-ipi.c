/* Process 1 of a Linux that is the peer of `ipi_halted`: loads KVM, makes a VM with two vCPUs whose threads share the one
 * CPU, and has them wake each other by the instructions of ping.S. KVM polls for no interrupt before it takes a halted
 * vCPU off the CPU (halt_poll_ns=0). Prints `bench ipi_halted TICKS`, least of many runs, then `kvm-ipi: done`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAME "kvm-ipi"
#include "check.h"

#include "../rt/ping.h"

/* The guest's memory: page tables, descriptor tables, stacks and the code. */
enum { MEMORY = 1 << 20, PML4 = 0x1000, PDPT = 0x2000, GDT = 0x3000, IDT = 0x4000, STACKS = 0x8000, CODE = 0x10000 };
/* SVR's offset, and what it holds once the APIC is enabled. */
enum { SVR = 0xF0, ENABLED = 0x1FF };
/* The code leaves off here once it has made a run: the port is nobody's. */
enum { PORT = 0x10 };
#define APIC_BASE 0xFEE00000ul

/* What vCPU 0 does: runs without end, the ticks of each in RAX at an exit for the port. */
extern const uint8_t run_begin[], run_end[];
asm(".pushsection .data\n"
    "run_begin:\n\t"
    "mov %r12d, %edi\n\tmov $1, %esi\n\tcall *%r13\n\t"
    "outb %al, $0x10\n\tjmp run_begin\n"
    "run_end:\n"
    ".popsection\n");

static uint8_t *memory;
static int kvm, vm;
static size_t state_size;

static void load(const char *module, const char *options)
{
	int file = open(module, O_RDONLY | O_CLOEXEC);
	check(file, module);
	check(syscall(SYS_finit_module, file, options, 0), module);
	close(file);
}

static uint64_t at(const void *symbol) { return CODE + ((const uint8_t *)symbol - ping_begin); }

static void gate(uint8_t vector, void (*to)(void))
{
	uint64_t address = at((const void *)to), gate[2] = {(address & 0xFFFF) | 8 << 16 | 0x8E00ull << 32 | (address & 0xFFFF0000) << 32, 0};
	memcpy(memory + IDT + 16 * vector, gate, sizeof gate);
}

static void fill_memory(void)
{
	const uint64_t table = PDPT | 3, page = 0x83, descriptors[] = {0, 0x00209A0000000000, 0x0000920000000000};
	memcpy(memory + PML4, &table, sizeof table);
	memcpy(memory + PDPT, &page, sizeof page); /* the first GiB, writable */
	memcpy(memory + GDT, descriptors, sizeof descriptors);
	memcpy(memory + CODE, ping_begin, ping_end - ping_begin);
	memcpy(memory + CODE / 2, run_begin, run_end - run_begin);
	gate(PING_ASK, ping_asked);
	gate(PING_ANSWER, ping_answered);
}

/* 64-bit mode with the APIC in x2APIC mode, as firmware and a kernel would leave it. */
static int make_vcpu(uint32_t id, uint64_t rip)
{
	static struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entries[100]; } cpuid;
	int vcpu = ioctl(vm, KVM_CREATE_VCPU, id);
	check(vcpu, "KVM_CREATE_VCPU");
	cpuid.head.nent = 100;
	check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), "KVM_GET_SUPPORTED_CPUID");
	check(ioctl(vcpu, KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
	struct kvm_sregs s;
	check(ioctl(vcpu, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
	struct kvm_segment code = {.selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1, .limit = ~0u};
	struct kvm_segment data = {.selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1, .limit = ~0u};
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.gdt.base = GDT, s.gdt.limit = 23;
	s.idt.base = IDT, s.idt.limit = 0xFFF;
	s.cr0 = 0x80000033, s.cr3 = PML4, s.cr4 = 0x20, s.efer = 0x500;
	s.apic_base = APIC_BASE | 1 << 11 | 1 << 10 | (id ? 0 : 1 << 8);
	check(ioctl(vcpu, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
	struct kvm_lapic_state apic;
	check(ioctl(vcpu, KVM_GET_LAPIC, &apic), "KVM_GET_LAPIC");
	const uint32_t svr = ENABLED;
	memcpy(apic.regs + SVR, &svr, sizeof svr);
	check(ioctl(vcpu, KVM_SET_LAPIC, &apic), "KVM_SET_LAPIC");
	struct kvm_regs r = {.rip = rip, .rsp = STACKS - 0x1000 * id, .rflags = 2, .r12 = PING_TRIPS, .r13 = at((const void *)ping_ask)};
	check(ioctl(vcpu, KVM_SET_REGS, &r), "KVM_SET_REGS");
	struct kvm_mp_state runnable = {KVM_MP_STATE_RUNNABLE};
	check(ioctl(vcpu, KVM_SET_MP_STATE, &runnable), "KVM_SET_MP_STATE");
	return vcpu;
}

static struct kvm_run *state_of(int vcpu)
{
	struct kvm_run *run = mmap(NULL, state_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	check(run == MAP_FAILED ? -1 : 0, "mmap of a vCPU");
	return run;
}

/* Returns where the guest wants its user space. */
static void enter(int vcpu, const struct kvm_run *run)
{
	check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT) {
		printf("kvm-ipi: exit %u\n", run->exit_reason);
		errno = EIO;
		check(-1, "KVM_RUN");
	}
}

static void *answer(void *vcpu)
{
	enter(*(int *)vcpu, state_of(*(int *)vcpu));
	return NULL;
}

int main(void)
{
	check(mount("dev", "/dev", "devtmpfs", 0, NULL), "/dev");
	load("/irqbypass.ko", "");
	load("/kvm.ko", "halt_poll_ns=0");
	load("/kvm-intel.ko", "");
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	check(kvm, "/dev/kvm");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	check(vm, "KVM_CREATE_VM");
	state_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	check(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	check(memory == MAP_FAILED ? -1 : 0, "the guest's memory");
	fill_memory();
	struct kvm_userspace_memory_region region = {.memory_size = MEMORY, .userspace_addr = (uint64_t)memory};
	check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
	int asks = make_vcpu(0, CODE / 2), answers = make_vcpu(1, at((const void *)ping_answer));
	cpu_set_t first;
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	check(sched_setaffinity(0, sizeof first, &first), "sched_setaffinity"); /* the other thread takes it over */
	pthread_t thread;
	errno = pthread_create(&thread, NULL, answer, &answers);
	check(errno ? -1 : 0, "pthread_create");
	const struct kvm_run *run = state_of(asks);
	uint64_t least = ~0ull;
	for (int i = 0; i < PING_RUNS; i++) {
		struct kvm_regs r;
		enter(asks, run);
		check(ioctl(asks, KVM_GET_REGS, &r), "KVM_GET_REGS");
		least = r.rax < least ? r.rax : least;
	}
	printf("bench ipi_halted %llu.%02llu\n", (unsigned long long)least / PING_TRIPS, (unsigned long long)least * 100 / PING_TRIPS % 100);
	printf("kvm-ipi: done\n");
	fflush(stdout);
	for (;;)
		pause();
}
