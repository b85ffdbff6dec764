/* Prints numbered lines on COM1 as fast as it takes them, `lines=` of them (0: without end), each with a character that
 * was typed meanwhile or `-`: `00000042 x`. The line with a typed `.` is the last one. As Linux does it: THRE is waited
 * for, then a whole FIFO is written. */
#include "guest.h"

enum { COM1 = 0x3F8, FIFO = 16, DATA_READY = 1, THRE = 0x20 };

static void send(char c)
{
	static u32 room;
	while (!room)
		room = inb(COM1 + 5) & THRE ? FIFO : 0;
	outb(COM1, c);
	room--;
}

int main(void)
{
	u64 lines = option("lines", 0);
	char typed = '-';
	outb(COM1 + 2, 1); /* FCR: FIFOs on */
	for (u64 number = 1; typed != '.' && (!lines || number <= lines); number++) {
		typed = inb(COM1 + 5) & DATA_READY ? inb(COM1) : '-';
		for (u64 unit = 10000000; unit; unit /= 10)
			send('0' + number / unit % 10);
		send(' ');
		send(typed);
		send('\r');
		send('\n');
	}
	return 0;
}
