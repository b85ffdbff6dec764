#include <stdarg.h>

#include "guest.h"

enum { COM1 = 0x3F8, DEBUG_EXIT = 0xF4, MULTIBOOT_MAGIC = 0x2BADB002 };

struct multiboot_info {
	u32 flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr;
};

extern u32 boot_magic, boot_info;
extern u8 vector_stubs[], end_of_image[];

volatile int fault_vector;
volatile u64 fault_error, recover;
static void (*handlers[256])(struct frame *);
static struct { u16 low, selector, flags, middle; u32 high, zero; } idt[256];

static const struct multiboot_info *info(u32 flag)
{
	const struct multiboot_info *i = (const void *)(u64)boot_info;
	return boot_magic == MULTIBOOT_MAGIC && i->flags & flag ? i : NULL;
}

void (*print_to)(char);

static void put(char c)
{
	if (print_to) {
		print_to(c);
		return;
	}
	if (c == '\n')
		put('\r');
	while (!(inb(COM1 + 5) & 0x20)) /* LSR.THRE */
		asm volatile("pause");
	outb(COM1, c);
}

static void put_number(u64 value, u32 base, int width, char fill, bool negative)
{
	char digits[24];
	int n = 0;
	do
		digits[n++] = "0123456789abcdef"[value % base];
	while (value /= base);
	if (negative)
		digits[n++] = '-';
	for (int i = n; i < width; i++)
		put(fill);
	while (n)
		put(digits[--n]);
}

void print(const char *f, ...)
{
	va_list args;
	va_start(args, f);
	for (; *f; f++) {
		if (*f != '%') {
			put(*f);
			continue;
		}
		char fill = ' ';
		int width = 0;
		bool wide = false;
		for (f++; (*f >= '0' && *f <= '9') || *f == 'l'; f++) {
			if (*f == 'l')
				wide = true;
			else if (*f == '0' && !width)
				fill = '0';
			else
				width = width * 10 + *f - '0';
		}
		if (*f == 's') {
			for (const char *s = va_arg(args, const char *); *s || width > 0; width--)
				put(*s ? *s++ : ' ');
		} else if (*f == 'c') {
			put(va_arg(args, int));
		} else if (*f == 'd') {
			int64_t v = wide ? va_arg(args, int64_t) : va_arg(args, int);
			put_number(v < 0 ? -(u64)v : (u64)v, 10, width, fill, v < 0);
		} else {
			u64 v = wide ? va_arg(args, u64) : va_arg(args, u32);
			put_number(v, *f == 'x' ? 16 : 10, width, fill, false);
		}
	}
	va_end(args);
}

void quit(u8 code)
{
	while (!(inb(COM1 + 5) & 0x40)) /* LSR.TEMT: the last character is out */
		asm volatile("pause");
	outb(DEBUG_EXIT, code);
	print("no debug exit: result %u\n", code);
	for (;;)
		asm volatile("cli; hlt");
}

const char *command_line(void)
{
	const struct multiboot_info *i = info(1 << 2);
	return i ? (const char *)(u64)i->cmdline : "";
}

u32 mem_upper(void)
{
	const struct multiboot_info *i = info(1 << 0);
	return i ? i->mem_upper : 0;
}

const struct module *modules(u32 *count)
{
	const struct multiboot_info *i = info(1 << 3);
	*count = i ? i->mods_count : 0;
	return i ? (const struct module *)(u64)i->mods_addr : NULL;
}

u64 free_memory(void)
{
	u64 end = (u64)end_of_image;
	u32 count;
	const struct module *m = modules(&count);
	for (; count; count--, m++)
		end = m->end > end ? m->end : end;
	/* The loader may have put its own tables right behind; leave them room. */
	return (end + 0x10000 + 4095) & ~4095ull;
}

static u64 number(const char *s)
{
	u64 base = 10, v = 0;
	if (s[0] == '0' && s[1] == 'x') {
		base = 16;
		s += 2;
	}
	for (;; s++) {
		u64 digit = *s >= '0' && *s <= '9' ? *s - '0' : (*s | 32) >= 'a' && (*s | 32) <= 'f' ? (*s | 32) - 'a' + 10 : 99;
		if (digit >= base)
			return v;
		v = v * base + digit;
	}
}

u64 option(const char *name, u64 preset)
{
	const char *s = command_line();
	for (bool start = true; *s; start = *s++ == ' ') {
		const char *n = name, *at = s;
		while (*n && *n == *at)
			n++, at++;
		if (start && !*n && *at == '=')
			return number(at + 1);
	}
	return preset;
}

const char *fault_name(int vector)
{
	static const char *const names[] = {
		[0] = "#DE", [1] = "#DB", [2] = "NMI", [3] = "#BP", [4] = "#OF", [5] = "#BR", [6] = "#UD", [7] = "#NM",
		[8] = "#DF", [10] = "#TS", [11] = "#NP", [12] = "#SS", [13] = "#GP", [14] = "#PF", [16] = "#MF", [17] = "#AC",
		[18] = "#MC", [19] = "#XM", [20] = "#VE", [21] = "#CP",
	};
	const char *name = vector >= 0 && vector < 22 ? names[vector] : NULL;
	return vector < 0 ? "none" : name ? name : "#??";
}

void on_vector(u8 vector, void (*handler)(struct frame *)) { handlers[vector] = handler; }

void interrupt(struct frame *f)
{
	if (f->vector < 32 && recover) {
		fault_vector = f->vector;
		fault_error = f->error;
		f->rip = recover;
		recover = 0;
	} else if (handlers[f->vector]) {
		handlers[f->vector](f);
	} else {
		u64 cr2;
		asm volatile("mov %%cr2, %0" : "=r"(cr2));
		print("unexpected vector %lu %s error 0x%lx rip 0x%lx rsp 0x%lx cr2 0x%lx\n", f->vector, fault_name(f->vector),
		      f->error, f->rip, f->rsp, cr2);
		quit(99);
	}
}

int try_rdmsr(u32 msr, u64 *value)
{
	u32 low = 0, high = 0;
	asm volatile(GUARD("rdmsr") : "+a"(low), "+d"(high) : "c"(msr) : "memory");
	*value = (u64)high << 32 | low;
	return fault_vector;
}

int try_wrmsr(u32 msr, u64 value)
{
	asm volatile(GUARD("wrmsr") : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
	return fault_vector;
}

struct cpuid cpuid_checked(u32 leaf, u32 subleaf)
{
	if (leaf > cpuid(leaf & 0x80000000, 0).eax)
		return (struct cpuid){0};
	return cpuid(leaf, subleaf);
}

void use_idt(void)
{
	struct { u16 limit; u64 base; } __attribute__((packed)) pointer = {sizeof idt - 1, (u64)idt};
	asm volatile("lidt %0" : : "m"(pointer));
}

static void load_idt(void)
{
	for (int i = 0; i < 256; i++) {
		u64 at = (u64)vector_stubs + 16 * i;
		idt[i].low = at;
		idt[i].selector = 8;
		idt[i].flags = 0x8E00; /* present interrupt gate */
		idt[i].middle = at >> 16;
		idt[i].high = at >> 32;
	}
	use_idt();
}

/* Called by boot.S. */
void run(void)
{
	load_idt();
	outb(COM1 + 1, 0);    /* no interrupts */
	outb(COM1 + 3, 0x80); /* DLAB */
	outb(COM1, 1);        /* 115200 */
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 3);    /* 8N1 */
	outb(COM1 + 2, 7);    /* FIFOs on and empty */
	outb(COM1 + 4, 3);    /* DTR, RTS */
	quit(main());
}

/* The compiler may call these. */
void *memset(void *to, int c, size_t n)
{
	void *at = to;
	asm volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(c) : "memory");
	return to;
}
void *memcpy(void *to, const void *from, size_t n)
{
	void *at = to;
	asm volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(n) : : "memory");
	return to;
}
