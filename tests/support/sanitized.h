/* sanitized.h - whether this is built with a sanitizer, as gcc and as clang tell it: some things are slower then, some can't be. */
#ifndef TESTS_SUPPORT_SANITIZED_H
#define TESTS_SUPPORT_SANITIZED_H

#if defined(__has_feature)
#define HAS_FEATURE(feature) __has_feature(feature)
#else
#define HAS_FEATURE(feature) 0
#endif

#if defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
#define SANITIZED_THREADS 1
#else
#define SANITIZED_THREADS 0
#endif

/* By either. */
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer) || SANITIZED_THREADS
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#endif
