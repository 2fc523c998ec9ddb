/* fcontext.h - boost's context switch, whose symbols are plain C. It keeps the callee-saved
 * registers and the floating-point control words; nothing of signals. */
#ifndef LOOP_FCONTEXT_H
#define LOOP_FCONTEXT_H

#include <stddef.h>

struct fcontext_transfer {
	void *context; /* of who jumped here */
	void *data;
};

struct fcontext_transfer jump_fcontext(void *to, void *data);
void *make_fcontext(void *stack_top, size_t stack_bytes, void (*fn)(struct fcontext_transfer));

#endif
