/* restricted - sees to it that a restriction reached the library, so that a run under a mask
 * or a filter does not pass because nothing was restricted.
 *
 * QUIRE_EXPECT (set by the setups of tests/meson.build): features, in the words of
 * quire_mask, that this process may not have.
 */
#include <quire/quire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct answer {
	const char *word;
	bool have;
};

int main(void)
{
	struct quire_capabilities caps;
	int rc = quire_capabilities(&caps);
	if (rc < 0) {
		printf("quire_capabilities: %s\n", strerror(-rc));
		return 1;
	}

	const struct answer features[] = {
		{"userfaultfd", caps.grade > QUIRE_GRADE_NONE},
		{"uffd_kernel_faults", caps.grade > QUIRE_GRADE_USER_MODE},
		{"io_uring", caps.io_uring},
		{"process_madvise", caps.batched_eviction},
		{"uffd_move", caps.move},
		{"uffd_poison", caps.poison},
		{"cachestat", caps.cachestat},
		{"pt_reclaim", caps.page_tables_reclaimed},
		{"defer_taskrun", caps.defer_taskrun},
	};
	const size_t n_features = sizeof(features) / sizeof(features[0]);
	for (size_t i = 0; i < n_features; i++)
		printf("%s: %s\n", features[i].word, features[i].have ? "yes" : "no");

	const char *expected = getenv("QUIRE_EXPECT");
	char *words = strdup(expected != NULL ? expected : "");
	char *rest = words;
	int status = words != NULL ? 0 : 1;
	for (char *word; (word = strsep(&rest, ",")) != NULL && *word != '\0';) {
		size_t i = 0;
		while (i < n_features && strcmp(features[i].word, word) != 0)
			i++;
		if (i == n_features || features[i].have) {
			printf("%s: %s\n", word, i == n_features ? "unknown word" : "should not be had here");
			status = 1;
		}
	}
	free(words);
	return status;
}
