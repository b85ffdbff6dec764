/* Process 1 of a Linux that starts another by kexec: puts the kernel and the initramfs of its own root into place with
 * kexec_load, and jumps there. The second kernel gets this one's zero page, with a command line and an initramfs of its
 * own. Prints a line for each segment and `kexec: loaded`; then it is the second kernel's turn. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAME "kexec"
#include "check.h"

enum { PAGE = 4096, SEGMENTS = 16 };
/* Where the second kernel's zero page, its command line and the code before it lie, a page each; its initramfs. */
enum { ZERO_PAGE = 0x90000, CMDLINE = ZERO_PAGE + PAGE, CODE = CMDLINE + PAGE, INITRD = 0x8000000 };
/* In the zero page (Linux: Documentation/arch/x86/zero-page.rst, boot.rst). */
enum { RAMDISK_IMAGE = 0x218, RAMDISK_SIZE = 0x21C, CMD_LINE_PTR = 0x228 };

static struct kexec_segment segments[SEGMENTS];
static int count;

/* The bytes of a file. */
static uint8_t *contents(const char *path, size_t *size)
{
	struct stat stat;
	int file = open(path, O_RDONLY);
	check(file, path);
	check(fstat(file, &stat), path);
	uint8_t *bytes = malloc(stat.st_size);
	*size = 0;
	for (ssize_t got; (got = read(file, bytes + *size, stat.st_size - *size)) != 0; *size += got)
		check(got, path);
	close(file);
	return bytes;
}

static void segment(uintptr_t at, const void *bytes, size_t size, size_t room)
{
	if (count == SEGMENTS) {
		errno = E2BIG;
		check(-1, "segments");
	}
	room = (room + PAGE - 1) & -(size_t)PAGE;
	segments[count++] = (struct kexec_segment){ bytes, size, (void *)at, room };
}

/* The kernel's segments; where it is entered. */
static uint64_t kernel(const uint8_t *elf)
{
	const Elf64_Ehdr *header = (const void *)elf;
	const Elf64_Phdr *part = (const void *)(elf + header->e_phoff);
	for (int i = 0; i < header->e_phnum; i++)
		if (part[i].p_type == PT_LOAD)
			segment(part[i].p_paddr, elf + part[i].p_offset, part[i].p_filesz, part[i].p_memsz);
	return header->e_entry;
}

static void put(uint8_t *page, size_t at, uint32_t value)
{
	memcpy(page + at, &value, sizeof value);
}

int main(void)
{
	static const char cmdline[] = "console=ttyS0 quiet panic=-1 cryptomgr.notests pti=off guest=shell after=kexec";
	/* mov $ZERO_PAGE, %esi; mov $ENTRY, %eax; jmp *%rax */
	static uint8_t code[] = { 0xBE, 0, 0, 0, 0, 0xB8, 0, 0, 0, 0, 0xFF, 0xE0 };
	size_t size, initrd_size;

	check(mount("sysfs", "/sys", "sysfs", 0, NULL), "sysfs");
	uint8_t *zero_page = contents("/sys/kernel/boot_params/data", &size);
	uint8_t *initrd = contents("/next.cpio", &initrd_size);
	uint64_t entry = kernel(contents("/next.elf", &size));
	put(zero_page, RAMDISK_IMAGE, INITRD);
	put(zero_page, RAMDISK_SIZE, initrd_size);
	put(zero_page, CMD_LINE_PTR, CMDLINE);
	put(code, 1, ZERO_PAGE);
	put(code, 6, entry);
	segment(ZERO_PAGE, zero_page, PAGE, PAGE);
	segment(CMDLINE, cmdline, sizeof cmdline, PAGE);
	segment(CODE, code, sizeof code, PAGE);
	segment(INITRD, initrd, initrd_size, initrd_size);
	for (int i = 0; i < count; i++)
		printf("kexec: %p %zu of %zu\n", segments[i].mem, segments[i].bufsz, segments[i].memsz);
	printf("kexec: %d segments, %#lx\n", count, (long)entry);
	fflush(stdout);
	check(syscall(SYS_kexec_load, CODE, count, segments, KEXEC_ARCH_X86_64), "kexec_load");
	puts("kexec: loaded");
	fflush(stdout);
	check(syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL), "reboot");
}
