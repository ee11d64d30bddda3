/*
 * shmhot.h: all of shmhot.
 *
 * Generated from tests/headers.rs by `make headers`.
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef SHMHOT_H
#define SHMHOT_H

#include "shmhot/status.h"
#include "shmhot/circbuf.h"
#include "shmhot/hotpath.h"
#include "shmhot/observer.h"
#include "shmhot/vmclock.h"

#endif  /* SHMHOT_H */
