/* stack_notes.h - what sanitizers and valgrind must be told of stacks that are not threads'.
 * All of it vanishes in a plain build, but for valgrind's few no-ops. */
#ifndef LOOP_STACK_NOTES_H
#define LOOP_STACK_NOTES_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define STACK_NOTES_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STACK_NOTES_ASAN 1
#endif
#endif

#if defined(__SANITIZE_THREAD__)
#define STACK_NOTES_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define STACK_NOTES_TSAN 1
#endif
#endif

#ifdef STACK_NOTES_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#ifdef STACK_NOTES_TSAN
#include <sanitizer/tsan_interface.h>
#include <sys/mman.h>
void __tsan_ignore_thread_begin(void);
void __tsan_ignore_thread_end(void);
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define STACK_NOTES_VALGRIND 1
#endif

/* Inlined whatever the optimisation: TSan counts calls and returns per stack, and a function that is
 * entered on one and left on another would upset that. */
#define STACK_NOTE __attribute__((always_inline))

/* A stack came into being; returns what stack_note_unmapped wants. */
static inline STACK_NOTE unsigned stack_note_mapped(void *base, size_t len_bytes)
{
#ifdef STACK_NOTES_ASAN
	__lsan_register_root_region(base, len_bytes);
#endif
#ifdef STACK_NOTES_VALGRIND
	return VALGRIND_STACK_REGISTER(base, (char *)base + len_bytes);
#else
	return 0;
#endif
}

static inline STACK_NOTE void stack_note_unmapped(void *base, size_t len_bytes, unsigned id)
{
#ifdef STACK_NOTES_ASAN
	__asan_unpoison_memory_region(base, len_bytes);
	__lsan_unregister_root_region(base, len_bytes);
#endif
#ifdef STACK_NOTES_VALGRIND
	VALGRIND_STACK_DEREGISTER(id);
#endif
}

/* The last coroutine left it without returning from its frames. */
static inline STACK_NOTE void stack_note_reused(void *base, size_t len_bytes)
{
#ifdef STACK_NOTES_ASAN
	__asan_unpoison_memory_region(base, len_bytes);
#endif
}

/* Right before a jump. fake: where ASan keeps what belongs to the stack that is left, NULL if it
 * is left for good. */
static inline STACK_NOTE void stack_note_leave(void **fake, const void *to_bottom, size_t to_bytes, void *to_fiber)
{
#ifdef STACK_NOTES_ASAN
	__sanitizer_start_switch_fiber(fake, to_bottom, to_bytes);
#endif
#ifdef STACK_NOTES_TSAN
	__tsan_switch_to_fiber(to_fiber, 0);
#endif
}

/* Right after one; fake: of the stack that goes on. */
static inline STACK_NOTE void stack_note_arrive(void *fake, const void **from_bottom, size_t *from_bytes)
{
#ifdef STACK_NOTES_ASAN
	__sanitizer_finish_switch_fiber(fake, from_bottom, from_bytes);
#endif
}

/* Mapped memory that liburing is about to unmap behind TSan's back: what stands at the same addresses
 * next has nothing to do with it. TSan forgets what happened there when it sees it mapped anew, by
 * a thread that it ignores; else it would take the mapping for a write. */
static inline void stack_note_forgotten(void *base, size_t len_bytes)
{
#ifdef STACK_NOTES_TSAN
	__tsan_ignore_thread_begin();
	mmap(base, len_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	__tsan_ignore_thread_end();
#endif
}

/* TSan's name for a stack. */
static inline STACK_NOTE void *stack_note_fiber_create(void)
{
#ifdef STACK_NOTES_TSAN
	return __tsan_create_fiber(0);
#else
	return NULL;
#endif
}

static inline STACK_NOTE void stack_note_fiber_destroy(void *fiber)
{
#ifdef STACK_NOTES_TSAN
	__tsan_destroy_fiber(fiber);
#endif
}

static inline STACK_NOTE void *stack_note_fiber_current(void)
{
#ifdef STACK_NOTES_TSAN
	return __tsan_get_current_fiber();
#else
	return NULL;
#endif
}

#endif
