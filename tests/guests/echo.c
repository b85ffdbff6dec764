/* Says each line that is typed on COM1 back, with its number: `NAME 3: text`. The command line is the name. */
#include "guest.h"

enum { COM1 = 0x3F8, MOST = 200 };

int main(void)
{
	static char line[MOST + 1];
	u32 length = 0, number = 0;
	print("%s: type a line\n", command_line());
	for (;;) {
		if (!(inb(COM1 + 5) & 1)) /* LSR.DR */
			continue;
		char c = inb(COM1);
		if (c != '\r' && c != '\n') {
			if (length < MOST)
				line[length++] = c;
			continue;
		}
		line[length] = 0;
		print("%s %u: %s\n", command_line(), ++number, line);
		length = 0;
	}
}
