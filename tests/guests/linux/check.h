/* For programs that are process 1: what fails is said under the program's name, and the console keeps it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void check(long result, const char *what)
{
	if (result >= 0)
		return;
	printf("%s: %s: %s\n", NAME, what, strerror(errno));
	fflush(stdout);
	for (;;)
		pause(); /* process 1 does not end */
}
