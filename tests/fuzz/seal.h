/* seal.h - the checksums of a store's image are made right again, so that what is behind them is reached. */
#ifndef TESTS_FUZZ_SEAL_H
#define TESTS_FUZZ_SEAL_H

#include "image.h"

/* Of superblocks, headers of segments and their records, and, of sealed segments of logs of FORMAT_LOG_MIN_SEGMENT_BYTES, pages,
 * marks, keys and footers: wherever a magic says that there is one. What is in objects is left as it is. */
void fuzz_seal_store(struct fuzz_image *image);

#endif
