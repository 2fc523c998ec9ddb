/* fcontext.h - boost's context switch, whose symbols are plain C. It keeps the callee-saved
 * registers and, on x86-64 alone, the floating-point control words; nothing of signals. */
#ifndef LOOP_FCONTEXT_H
#define LOOP_FCONTEXT_H

#include <stddef.h>
#include <stdint.h>

struct fcontext_transfer {
	void *context; /* of who jumped here */
	void *data;
};

struct fcontext_transfer jump_fcontext(void *to, void *data);
void *make_fcontext(void *stack_top, size_t stack_bytes, void (*fn)(struct fcontext_transfer));

/* The jump, with the floating-point control word kept everywhere. */
static inline struct fcontext_transfer fcontext_switch(void *to, void *data)
{
#if defined(__aarch64__)
	uint64_t ours, theirs;
	__asm__ volatile("mrs %0, fpcr" : "=r"(ours));
	struct fcontext_transfer from = jump_fcontext(to, data);
	__asm__ volatile("mrs %0, fpcr" : "=r"(theirs));
	if (theirs != ours) /* writing it is slow */
		__asm__ volatile("msr fpcr, %0" : : "r"(ours));
	return from;
#else
	return jump_fcontext(to, data);
#endif
}

#endif
