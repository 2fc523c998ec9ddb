/* fuzz_main.c - a harness for which any bytes will do, as a program: `PROGRAM DIRECTORY|INPUT`. */
#include "fuzz.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	if (argc != 2)
		(void)fprintf(stderr, "usage: %s DIRECTORY|INPUT\n", argv[0]);
	return argc == 2 ? fuzz_play(argv[1], NULL) : 2;
}
