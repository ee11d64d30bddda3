/*
 * shmhot/status.h: what all systems of shmhot share.
 *
 * Calls return int32_t: 0 and above is success or a count, -1 to -4095 is -errno, and below lie the codes of
 * this header. Each thread keeps a sentence about its last failure: shmhot_last_error().
 *
 * Generated from src/status.rs, src/abi/status.rs by `make headers`.
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef SHMHOT_STATUS_H
#define SHMHOT_STATUS_H

#include <stddef.h>
#include <stdint.h>

/** A panic was caught at the ABI: a bug in this library. */
#define SHMHOT_EPANIC (-4096)

/** The handle belongs to another thread. */
#define SHMHOT_ETHREAD (-4097)

/** The handle was made before a fork, and this is the child. */
#define SHMHOT_EFORK (-4098)

/** The handle met a failure it cannot recover from, or was given up by its user. */
#define SHMHOT_EUNHEALTHY (-4099)

/** Version of the ABI that this header describes. A library of another version must not be used. */
#define SHMHOT_ABI_VERSION 0

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The ABI version of the library, to be compared with SHMHOT_ABI_VERSION.
 *
 * Threads: any.
 */
uint32_t shmhot_abi_version(void);

/**
 * The release of the library, such as "0.1.0". Static text.
 *
 * Threads: any.
 */
const char *shmhot_version(void);

/**
 * What a status means, in a few words.
 *
 * Parameters: any status that a call of this library has returned.
 *
 * Returns: static text, never NULL, also for numbers that no call returns.
 *
 * Threads: any.
 */
const char *shmhot_strerror(int32_t status);

/**
 * The sentence that belongs to the calling thread's last failed call: what was wrong, and what to do about it.
 *
 * Parameters: buf receives at most cap - 1 bytes of UTF-8 and a NUL; it may be NULL when cap is 0.
 *
 * Returns: the length of the whole sentence without the NUL, 0 when no call of this thread has failed, -EINVAL when
 * buf is NULL and cap is not 0.
 *
 * Threads: any; each has its own. A call that succeeds leaves it alone.
 *
 * Safety: buf is valid for writes of cap bytes.
 */
int32_t shmhot_last_error(char *buf, size_t cap);

/**
 * The status of the calling thread's last failed call, 0 when none has failed. For calls that return a pointer.
 *
 * Threads: any; each has its own. A call that succeeds leaves it alone.
 */
int32_t shmhot_last_status(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SHMHOT_STATUS_H */
