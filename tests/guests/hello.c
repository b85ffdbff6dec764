/* Prints what the loader handed over, and ends with the code `exit=` (0). */
#include "guest.h"

int main(void)
{
	u32 count;
	const struct module *m = modules(&count);
	print("hello: command line '%s'\n", command_line());
	print("hello: mem_upper %u KiB\n", mem_upper());
	for (u32 i = 0; i < count; i++) {
		u32 sum = 0;
		for (u32 at = m[i].start; at < m[i].end; at++)
			sum = sum * 31 + *(const u8 *)(u64)at;
		print("hello: module %u '%s' %u bytes, sum 0x%08x%s\n", i, (const char *)(u64)m[i].string,
		      m[i].end - m[i].start, sum, m[i].start & 4095 ? ", NOT on a page boundary" : "");
	}
	print("hello: done\n");
	return option("exit", 0);
}
