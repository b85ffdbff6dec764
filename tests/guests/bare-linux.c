/* Starts Linux on a machine of its own, without a hypervisor: the first module is an ELF vmlinux, the second its initrd, the
 * command line is the kernel's. For figures of what Linux does on an emulated host; a bzImage would spend 5 G
 * instructions there on unpacking itself. Linux: Documentation/arch/x86/boot.rst, "64-bit Boot Protocol". */
#include "guest.h"

struct segment { u32 kind, flags; u64 offset, virtual, physical, in_file, in_memory, align; };
struct range { u64 start, length; u32 kind; } __attribute__((packed));
enum { PT_LOAD = 1, MIB_2 = 1 << 21, RANGES = 128 };
/* Offsets in the zero page. */
enum {
	E820_ENTRIES = 0x1E8, BOOT_FLAG = 0x1FE, HEADER = 0x202, VERSION = 0x206, LOADER = 0x210, LOAD_FLAGS = 0x211,
	RAMDISK = 0x218, RAMDISK_SIZE = 0x21C, COMMAND_LINE = 0x228, E820_TABLE = 0x2D0,
};

extern u32 boot_info;
static u8 zero_page[4096] __attribute__((aligned(4096)));
static char line[1024];

static void put16(u32 at, u16 value) { memcpy(zero_page + at, &value, sizeof value); }
static void put32(u32 at, u32 value) { memcpy(zero_page + at, &value, sizeof value); }

/* Multiboot 0.6.96, 3.3: each entry begins with its own size, which does not count. */
static bool put_memory_map(void)
{
	const u32 *info = (const u32 *)(u64)boot_info;
	u8 count = 0;
	if (!(info[0] & 1 << 6))
		return false;
	for (u64 at = info[12], end = at + info[11]; at < end && count < RANGES; at += *(const u32 *)at + 4)
		memcpy(zero_page + E820_TABLE + count++ * sizeof(struct range), (const void *)(at + 4), sizeof(struct range));
	zero_page[E820_ENTRIES] = count;
	return true;
}

static u64 highest(u64 a, u64 b) { return a > b ? a : b; }

int main(void)
{
	u32 count;
	const struct module *m = modules(&count);
	if (count != 2 || !put_memory_map()) {
		print("bare-linux: a kernel, an initrd and a memory map are wanted\n");
		return 2;
	}
	for (u32 i = 0; i + 1 < sizeof line && command_line()[i]; i++)
		line[i] = command_line()[i];
	/* The loader has put the modules where the kernel goes: both are moved above it first. */
	const u8 *elf = (const u8 *)(u64)m[0].start;
	const struct segment *s = (const struct segment *)(elf + *(const u64 *)(elf + 32));
	u16 segments = *(const u16 *)(elf + 56);
	u64 end = highest(m[0].end, m[1].end);
	for (u16 i = 0; i < segments; i++)
		if (s[i].kind == PT_LOAD)
			end = highest(end, s[i].physical + s[i].in_memory);
	u64 initrd = (end + MIB_2 - 1) & -(u64)MIB_2, size = m[1].end - m[1].start;
	u8 *kernel = (u8 *)((initrd + size + MIB_2 - 1) & -(u64)MIB_2);
	memcpy((void *)initrd, (const void *)(u64)m[1].start, size);
	memcpy(kernel, elf, m[0].end - m[0].start);
	s = (const struct segment *)(kernel + *(const u64 *)(kernel + 32));
	for (u16 i = 0; i < segments; i++)
		if (s[i].kind == PT_LOAD) {
			memcpy((void *)s[i].physical, kernel + s[i].offset, s[i].in_file);
			memset((void *)(s[i].physical + s[i].in_file), 0, s[i].in_memory - s[i].in_file);
		}
	put16(BOOT_FLAG, 0xAA55);
	put32(HEADER, 0x53726448); /* HdrS */
	put16(VERSION, 0x20F);
	zero_page[LOADER] = 0xFF;
	zero_page[LOAD_FLAGS] = 1;
	put32(RAMDISK, initrd);
	put32(RAMDISK_SIZE, size);
	put32(COMMAND_LINE, (u32)(u64)line);
	asm volatile("cli; jmp *%0" : : "r"(*(const u64 *)(kernel + 24)), "S"(zero_page) : "memory");
	__builtin_unreachable();
}
