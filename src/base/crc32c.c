/* crc32c.c - CRC-32C by the CPU's instruction, four streams at a time; by a table where it has none.
 *
 * The instruction takes 8 bytes, has a latency of three cycles or so, and can be started at least
 * once a cycle: one stream uses a third of it. So a block is cut in four, and the four sums are
 * joined. To join is to multiply in GF(2)[x] mod P: the sum of a stream followed by n bytes of
 * others is its own sum times x^(8n). Sums are bit-reversed polynomials; the carry-less product of
 * two, taken as 64 bits, is reversed again and has one factor x too many, and the CRC instruction,
 * applied to it, multiplies by x^32 and reduces. Hence the constants: x^(8n - 33) mod P, reversed.
 * All three products go into one reduction. Joining sums of pages is the same.
 *
 * Four streams in one page are too many for the processor to see what comes next, and memory that is in no cache (a disk has written it, or another
 * processor) comes at a third of the speed. So the next page is asked for line by line while this one is summed up.
 *
 * Both instructions are probed for, always together (no CPU that matters has just one).
 * The table is for the others, and for the tests to compare with.
 */
#include "crc32c.h"
#include "crc32c_internal.h"
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>
#define CRC_TARGET __attribute__((target("sse4.2,pclmul")))
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#include <arm_neon.h>
#include <sys/auxv.h>
#define CRC_TARGET /* the instructions stand in assembly, which no compiler flag forbids */
#ifndef HWCAP_PMULL
#define HWCAP_PMULL (1 << 4)
#endif
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#endif

/* ---- by table ---- */

/* table[b] is the sum of the one byte b, without the inversions. */
static const uint32_t table[256] = {
	0x00000000, 0xf26b8303, 0xe13b70f7, 0x1350f3f4, 0xc79a971f, 0x35f1141c, 0x26a1e7e8, 0xd4ca64eb,
	0x8ad958cf, 0x78b2dbcc, 0x6be22838, 0x9989ab3b, 0x4d43cfd0, 0xbf284cd3, 0xac78bf27, 0x5e133c24,
	0x105ec76f, 0xe235446c, 0xf165b798, 0x030e349b, 0xd7c45070, 0x25afd373, 0x36ff2087, 0xc494a384,
	0x9a879fa0, 0x68ec1ca3, 0x7bbcef57, 0x89d76c54, 0x5d1d08bf, 0xaf768bbc, 0xbc267848, 0x4e4dfb4b,
	0x20bd8ede, 0xd2d60ddd, 0xc186fe29, 0x33ed7d2a, 0xe72719c1, 0x154c9ac2, 0x061c6936, 0xf477ea35,
	0xaa64d611, 0x580f5512, 0x4b5fa6e6, 0xb93425e5, 0x6dfe410e, 0x9f95c20d, 0x8cc531f9, 0x7eaeb2fa,
	0x30e349b1, 0xc288cab2, 0xd1d83946, 0x23b3ba45, 0xf779deae, 0x05125dad, 0x1642ae59, 0xe4292d5a,
	0xba3a117e, 0x4851927d, 0x5b016189, 0xa96ae28a, 0x7da08661, 0x8fcb0562, 0x9c9bf696, 0x6ef07595,
	0x417b1dbc, 0xb3109ebf, 0xa0406d4b, 0x522bee48, 0x86e18aa3, 0x748a09a0, 0x67dafa54, 0x95b17957,
	0xcba24573, 0x39c9c670, 0x2a993584, 0xd8f2b687, 0x0c38d26c, 0xfe53516f, 0xed03a29b, 0x1f682198,
	0x5125dad3, 0xa34e59d0, 0xb01eaa24, 0x42752927, 0x96bf4dcc, 0x64d4cecf, 0x77843d3b, 0x85efbe38,
	0xdbfc821c, 0x2997011f, 0x3ac7f2eb, 0xc8ac71e8, 0x1c661503, 0xee0d9600, 0xfd5d65f4, 0x0f36e6f7,
	0x61c69362, 0x93ad1061, 0x80fde395, 0x72966096, 0xa65c047d, 0x5437877e, 0x4767748a, 0xb50cf789,
	0xeb1fcbad, 0x197448ae, 0x0a24bb5a, 0xf84f3859, 0x2c855cb2, 0xdeeedfb1, 0xcdbe2c45, 0x3fd5af46,
	0x7198540d, 0x83f3d70e, 0x90a324fa, 0x62c8a7f9, 0xb602c312, 0x44694011, 0x5739b3e5, 0xa55230e6,
	0xfb410cc2, 0x092a8fc1, 0x1a7a7c35, 0xe811ff36, 0x3cdb9bdd, 0xceb018de, 0xdde0eb2a, 0x2f8b6829,
	0x82f63b78, 0x709db87b, 0x63cd4b8f, 0x91a6c88c, 0x456cac67, 0xb7072f64, 0xa457dc90, 0x563c5f93,
	0x082f63b7, 0xfa44e0b4, 0xe9141340, 0x1b7f9043, 0xcfb5f4a8, 0x3dde77ab, 0x2e8e845f, 0xdce5075c,
	0x92a8fc17, 0x60c37f14, 0x73938ce0, 0x81f80fe3, 0x55326b08, 0xa759e80b, 0xb4091bff, 0x466298fc,
	0x1871a4d8, 0xea1a27db, 0xf94ad42f, 0x0b21572c, 0xdfeb33c7, 0x2d80b0c4, 0x3ed04330, 0xccbbc033,
	0xa24bb5a6, 0x502036a5, 0x4370c551, 0xb11b4652, 0x65d122b9, 0x97baa1ba, 0x84ea524e, 0x7681d14d,
	0x2892ed69, 0xdaf96e6a, 0xc9a99d9e, 0x3bc21e9d, 0xef087a76, 0x1d63f975, 0x0e330a81, 0xfc588982,
	0xb21572c9, 0x407ef1ca, 0x532e023e, 0xa145813d, 0x758fe5d6, 0x87e466d5, 0x94b49521, 0x66df1622,
	0x38cc2a06, 0xcaa7a905, 0xd9f75af1, 0x2b9cd9f2, 0xff56bd19, 0x0d3d3e1a, 0x1e6dcdee, 0xec064eed,
	0xc38d26c4, 0x31e6a5c7, 0x22b65633, 0xd0ddd530, 0x0417b1db, 0xf67c32d8, 0xe52cc12c, 0x1747422f,
	0x49547e0b, 0xbb3ffd08, 0xa86f0efc, 0x5a048dff, 0x8ecee914, 0x7ca56a17, 0x6ff599e3, 0x9d9e1ae0,
	0xd3d3e1ab, 0x21b862a8, 0x32e8915c, 0xc083125f, 0x144976b4, 0xe622f5b7, 0xf5720643, 0x07198540,
	0x590ab964, 0xab613a67, 0xb831c993, 0x4a5a4a90, 0x9e902e7b, 0x6cfbad78, 0x7fab5e8c, 0x8dc0dd8f,
	0xe330a81a, 0x115b2b19, 0x020bd8ed, 0xf0605bee, 0x24aa3f05, 0xd6c1bc06, 0xc5914ff2, 0x37faccf1,
	0x69e9f0d5, 0x9b8273d6, 0x88d28022, 0x7ab90321, 0xae7367ca, 0x5c18e4c9, 0x4f48173d, 0xbd23943e,
	0xf36e6f75, 0x0105ec76, 0x12551f82, 0xe03e9c81, 0x34f4f86a, 0xc69f7b69, 0xd5cf889d, 0x27a40b9e,
	0x79b737ba, 0x8bdcb4b9, 0x988c474d, 0x6ae7c44e, 0xbe2da0a5, 0x4c4623a6, 0x5f16d052, 0xad7d5351,
};

uint32_t crc32c_by_table(uint32_t crc, const void *data, size_t len_bytes)
{
	const unsigned char *p = data;

	crc = ~crc;
	for (size_t i = 0; i < len_bytes; i++)
		crc = table[(crc ^ p[i]) & 0xff] ^ (crc >> 8);
	return ~crc;
}

/* ---- by instruction ---- */

#ifdef CRC_TARGET

#if defined(__x86_64__)

static bool has_instruction(void)
{
	return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}

CRC_TARGET static inline uint32_t step1(uint32_t crc, unsigned char byte)
{
	return _mm_crc32_u8(crc, byte);
}

CRC_TARGET static inline uint32_t step8(uint32_t crc, uint64_t word)
{
	return (uint32_t)_mm_crc32_u64(crc, word);
}

CRC_TARGET static inline uint64_t multiply(uint32_t a, uint32_t b)
{
	__m128i product = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)a), _mm_cvtsi32_si128((int)b), 0);
	return (uint64_t)_mm_cvtsi128_si64(product);
}

#else

static bool has_instruction(void)
{
	const unsigned long needed = HWCAP_CRC32 | HWCAP_PMULL;
	return (getauxval(AT_HWCAP) & needed) == needed;
}

CRC_TARGET static inline uint32_t step1(uint32_t crc, unsigned char byte)
{
	__asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"(byte));
	return crc;
}

CRC_TARGET static inline uint32_t step8(uint32_t crc, uint64_t word)
{
	__asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(word));
	return crc;
}

CRC_TARGET static inline uint64_t multiply(uint32_t a, uint32_t b)
{
	uint64x1_t sum = vcreate_u64(a), factor = vcreate_u64(b);
	uint64x2_t product;
	__asm__(".arch_extension aes\n\tpmull %0.1q, %1.1d, %2.1d" : "=w"(product) : "w"(sum), "w"(factor));
	return vgetq_lane_u64(product, 0);
}

#endif

static inline uint64_t load8(const unsigned char *p)
{
	uint64_t word;
	memcpy(&word, p, sizeof(word));
	return word;
}

struct quarters {
	size_t len_bytes;       /* of each; a multiple of 8 */
	uint32_t past3, past2, past1; /* factors for a sum that three, two, one of them follow */
};

static const struct quarters of_page = {1024, 0x359674f7, 0xa51b6135, 0x170076fa};
static const struct quarters of_sector = {128, 0xd270f1a2, 0xb9e02b86, 0x0d3b6092};

#define PAST_PAGE 0x82f89c77u /* factor for a sum that a page follows */
#define LINE_BYTES 64u

/* Four quarters from p on, joined. */
CRC_TARGET static inline __attribute__((always_inline)) uint32_t four(uint32_t crc, const unsigned char *p, const struct quarters *q,
                                                                      const unsigned char *ahead)
{
	const size_t n = q->len_bytes;
	uint32_t a = crc, b = 0, c = 0, d = 0;

#pragma GCC unroll 8
	for (size_t i = 0; i < n; i += 8) {
		if (ahead != NULL && i % LINE_BYTES == 0) {
			__builtin_prefetch(ahead + i);
			__builtin_prefetch(ahead + n + i);
			__builtin_prefetch(ahead + 2 * n + i);
			__builtin_prefetch(ahead + 3 * n + i);
		}
		a = step8(a, load8(p + i));
		b = step8(b, load8(p + n + i));
		c = step8(c, load8(p + 2 * n + i));
		d = step8(d, load8(p + 3 * n + i));
	}
	return d ^ step8(0, multiply(a, q->past3) ^ multiply(b, q->past2) ^ multiply(c, q->past1));
}

CRC_TARGET static uint32_t by_instruction(uint32_t crc, const unsigned char *p, size_t len_bytes)
{
	crc = ~crc;
	for (; len_bytes >= 2 * CRC32C_PAGE_BYTES; p += CRC32C_PAGE_BYTES, len_bytes -= CRC32C_PAGE_BYTES)
		crc = four(crc, p, &of_page, p + CRC32C_PAGE_BYTES);
	for (; len_bytes >= CRC32C_PAGE_BYTES; p += CRC32C_PAGE_BYTES, len_bytes -= CRC32C_PAGE_BYTES)
		crc = four(crc, p, &of_page, NULL);
	for (; len_bytes >= 4 * 128; p += 4 * 128, len_bytes -= 4 * 128)
		crc = four(crc, p, &of_sector, NULL);
	for (; len_bytes >= 8; p += 8, len_bytes -= 8)
		crc = step8(crc, load8(p));
	for (; len_bytes > 0; p++, len_bytes--)
		crc = step1(crc, *p);
	return ~crc;
}

CRC_TARGET static uint32_t page_by_instruction(uint32_t crc, const unsigned char *page, const unsigned char *ahead)
{
	return ~four(~crc, page, &of_page, ahead);
}

/* The inversions of both sums undo each other. */
CRC_TARGET static uint32_t join_by_instruction(uint32_t crc, uint32_t page_crc)
{
	return step8(0, multiply(crc, PAST_PAGE)) ^ page_crc;
}

#endif

uint32_t crc32c_join_page_by_table(uint32_t crc, uint32_t page_crc)
{
	for (unsigned i = 0; i < CRC32C_PAGE_BYTES; i++)
		crc = table[crc & 0xff] ^ (crc >> 8);
	return crc ^ page_crc;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len_bytes)
{
#ifdef CRC_TARGET
	if (has_instruction())
		return by_instruction(crc, data, len_bytes);
#endif
	return crc32c_by_table(crc, data, len_bytes);
}

uint32_t crc32c_page(uint32_t crc, const void *page, const void *ahead)
{
#ifdef CRC_TARGET
	if (has_instruction() && ahead != NULL)
		return page_by_instruction(crc, page, ahead);
#endif
	(void)ahead;
	return crc32c(crc, page, CRC32C_PAGE_BYTES);
}

uint32_t crc32c_join_page(uint32_t crc, uint32_t page_crc)
{
#ifdef CRC_TARGET
	if (has_instruction())
		return join_by_instruction(crc, page_crc);
#endif
	return crc32c_join_page_by_table(crc, page_crc);
}
