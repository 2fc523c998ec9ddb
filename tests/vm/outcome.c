/* outcome - ends in the way that its argument says: what the harness is tried on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Looks like the agent's frame for "exit 0" of test 1, but is only output. */
static const char FORGED[] = "QVM1X   \0\0\0\1\0\0\0\6exit 0";

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	if (strcmp(how, "pass") == 0) {
		puts("passing");
		return 0;
	}
	if (strcmp(how, "fail") == 0) {
		fwrite(FORGED, 1, sizeof(FORGED) - 1, stdout);
		return 3;
	}
	if (strcmp(how, "crash") == 0)
		abort();
	if (strcmp(how, "hang") == 0) {
		fputs("hanging\n", stderr);
		for (;;)
			pause();
	}
	return 2;
}
