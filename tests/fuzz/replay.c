/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* replay.c: feeds every file of the given directories to a fuzz target, whole and cut short at every length: so that what a
 * fuzzer once found stays found with any compiler. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT_MAX = 1 << 20, CUTS_MAX = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of exactly that length, so that a read past its end is seen. */
static void feed(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		abort();
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static int replay(const char *directory)
{
	static uint8_t input[INPUT_MAX];
	DIR *dir = opendir(directory);
	int fed = 0;

	if (!dir) {
		perror(directory);
		return -1;
	}
	for (struct dirent *entry; (entry = readdir(dir));) {
		char path[4096];
		FILE *file;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		file = fopen(path, "rb");
		if (!file) {
			perror(path);
			closedir(dir);
			return -1;
		}
		size_t size = fread(input, 1, sizeof(input), file);
		fclose(file);
		feed(input, size);
		for (size_t cut = 0; cut < size && cut < CUTS_MAX; cut++)
			feed(input, cut);
		fed++;
	}
	closedir(dir);
	return fed;
}

int main(int argc, char **argv)
{
	int fed = 0;

	for (int i = 1; i < argc; i++) {
		int n = replay(argv[i]);

		if (n < 0)
			return 1;
		fed += n;
	}
	printf("%d inputs\n", fed);
	return fed ? 0 : 1;
}
