/*
 * shmhot/hotpath.h: a socket ring on io_uring.
 *
 * Operations are queued; hotpath_wait() hands all of them to the kernel in one system call and brings back
 * completions. docs/hotpath.md is the guide, this header the contract.
 *
 * Generated from src/abi/hotpath.rs, src/hotpath/completion.rs by `make headers`.
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef SHMHOT_HOTPATH_H
#define SHMHOT_HOTPATH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include "status.h"

/** op_kind: a connection came. fd is the listener, result the new socket (close-on-exec) or -errno. */
#define HOTPATH_OP_ACCEPT 1

/** op_kind: result bytes are in buf_id; 0 is the end of the stream; or -errno. -ETIMEDOUT is an idle timeout. */
#define HOTPATH_OP_RECV 2

/** op_kind: a send is finished. result is all of its bytes, or -errno. */
#define HOTPATH_OP_SEND 3

/** op_kind: fd is closed, and its number may come back. result is 0, -ETIMEDOUT if something was not sent in time, or -errno. */
#define HOTPATH_OP_CLOSE 4

/** op_kind: result is 0 when connected, or -errno. */
#define HOTPATH_OP_CONNECT 5

/** op_kind: a timeout is over. fd is -1, result its id. */
#define HOTPATH_OP_TIMEOUT 6

/** op_kind: hotpath_wake was called. fd is -1. */
#define HOTPATH_OP_WAKE 7

/** op_kind: what was queued and the end of the stream are sent. result is 0 or -errno. */
#define HOTPATH_OP_SHUTDOWN 8

/** op_kind: draining is over. fd is -1, result the number of connections that are still open. */
#define HOTPATH_OP_DRAIN 9

/** Flag of a completion: buf_id names a buffer. */
#define HOTPATH_F_BUFFER 1

/** Flag of a completion: this accept or receive goes on by itself and must not be submitted again. */
#define HOTPATH_F_MORE 2

/**
 * Flag of a completion: a send whose connection had ended (forgotten, or its number accepted anew). It only says
 * that the bytes are free; fd may belong to another connection by now.
 */
#define HOTPATH_F_ENDED 0x80000000u

/** timeout_ms: no limit. */
#define HOTPATH_NO_TIMEOUT 0xffffffffu

/** Flag of a send: only a failure is worth a completion. */
#define HOTPATH_QUIET 2

/**
 * Flag of a send in a turn: gives buf_id back as soon as this command needs its bytes no longer. For a copying send
 * that is at once, for a borrowing one when it is finished.
 */
#define HOTPATH_RELEASE 1

/** Option: any thread may use the ring, one at a time; a call beside another one is -EBUSY. */
#define HOTPATH_ANY_THREAD 1

/** A backend: io_uring. */
#define HOTPATH_BACKEND_IO_URING 1

/** Command: hotpath_submit_accept(fd). */
#define HOTPATH_CMD_ACCEPT 1

/** Command: hotpath_submit_recv(fd). */
#define HOTPATH_CMD_RECV 2

/** Command: hotpath_send(fd, data, len); flags HOTPATH_QUIET, HOTPATH_RELEASE. */
#define HOTPATH_CMD_SEND 3

/** Command: hotpath_submit_close_within(fd, len). */
#define HOTPATH_CMD_CLOSE 4

/** Command: hotpath_submit_connect(fd, data, len). */
#define HOTPATH_CMD_CONNECT 5

/** Command: hotpath_submit_timeout(data, len). */
#define HOTPATH_CMD_TIMEOUT 6

/** Command: hotpath_submit_shutdown(fd). */
#define HOTPATH_CMD_SHUTDOWN 8

/** Command: hotpath_submit_send(fd, data, len), of one piece; flags HOTPATH_QUIET, HOTPATH_RELEASE. */
#define HOTPATH_CMD_SEND_BORROWED 10

/** Command: hotpath_release_buf(buf_id). */
#define HOTPATH_CMD_RELEASE 11

/** Command: hotpath_cancel(fd, len). */
#define HOTPATH_CMD_CANCEL 12

/** Command: hotpath_cancel_timeout(data). */
#define HOTPATH_CMD_CANCEL_TIMEOUT 13

/** Command: hotpath_pause_recv(fd). */
#define HOTPATH_CMD_PAUSE 14

/** Command: hotpath_resume_recv(fd). */
#define HOTPATH_CMD_RESUME 15

/** Command: hotpath_set_idle_timeout(fd, len). */
#define HOTPATH_CMD_IDLE_TIMEOUT 16

/** Command: hotpath_forget(fd). */
#define HOTPATH_CMD_FORGET 17

/** Command: hotpath_drain(len). */
#define HOTPATH_CMD_DRAIN 18

/** A ring. Belongs to the thread that first submits, waits or asks; see hotpath_ring_new. */
typedef struct hotpath_ring_t hotpath_ring_t;

/** What the kernel offers. */
typedef struct {
    /** sizeof(hotpath_probe_t), set by the caller. */
    size_t size;
    /** 0 when rings can be made here, else why not, -errno. */
    int32_t status;
    /** Zero. */
    uint32_t reserved;
    /** A bit for each feature; hotpath_feature_name names them. */
    uint64_t features;
    /** When rings cannot be made: why, and what would help. A C string. */
    char detail[160];
} hotpath_probe_t;

/** How a ring is made. Zero means the default; set size, zero the rest, then set what matters. */
typedef struct {
    /** sizeof(hotpath_options_t). */
    size_t size;
    /** Entries of the submission queue, up to 32768; default 1024. Memory only: a full queue flushes by itself. */
    uint32_t queue_depth;
    /** Receive buffers, a power of two up to 32768; default 512. */
    uint32_t n_bufs;
    /** Bytes of one receive buffer; default 8192. */
    uint32_t buf_size;
    /** HOTPATH_ANY_THREAD. */
    uint32_t flags;
    /**
     * Bytes that may be queued for sending on one connection; default 8 MiB. Each send counts for 128 bytes more than
     * it has. One that finds nothing queued on its connection is taken whatever its length.
     */
    uint64_t max_queued_bytes;
    /** The same for all connections together; default 256 MiB. */
    uint64_t max_queued_total;
} hotpath_options_t;

/** One thing that happened. */
typedef struct {
    /** What it is: a `HOTPATH_OP_*`. */
    uint8_t op_kind;
    /** Zero. */
    uint8_t reserved[3];
    /** The descriptor it concerns (of an accept: the listener), or -1. */
    int32_t fd;
    /** What came of it, as the operation says, or -errno. */
    int64_t result;
    /** The buffer that holds the received bytes until it is released, or -1. */
    int32_t buf_id;
    /** `HOTPATH_F_*`. */
    uint32_t flags;
} hotpath_completion_t;

/** One command of a turn: a call, as a struct. */
typedef struct {
    /** HOTPATH_CMD_*. */
    uint8_t op;
    /** HOTPATH_QUIET, HOTPATH_RELEASE. */
    uint8_t flags;
    /** Zero. */
    uint16_t reserved;
    /** The descriptor. */
    int32_t fd;
    /** The address of the bytes, or an id. */
    uint64_t data;
    /** Their number, or milliseconds, or a mask. */
    uint32_t len;
    /** The buffer to release. */
    int32_t buf_id;
    /** Written by the turn: 0, or why this command was refused. */
    int32_t status;
    /** Zero. */
    uint32_t reserved2;
} hotpath_command_t;

/** The receive buffers of a ring: number i starts at base + i * buf_size. */
typedef struct {
    /** Start of the pool. Only the bytes that a completion has told of, in a buffer not yet released, may be read. */
    const uint8_t *base;
    /** Bytes of one buffer. */
    uint32_t buf_size;
    /** Number of buffers. */
    uint32_t n_bufs;
} hotpath_buffers_t;

/** Counters since the ring was made; the last three are as of now. */
typedef struct {
    /** sizeof(hotpath_stats_t), set by the caller. */
    size_t size;
    /** System calls. */
    uint64_t syscalls;
    /** Operations given to the kernel. */
    uint64_t submissions;
    /** Answers taken from the kernel. */
    uint64_t completions;
    /** Accepts and receives armed anew after the kernel had ended them. */
    uint64_t rearms;
    /** Times that a connection had to wait for a buffer to be released. */
    uint64_t starvations;
    /** Accepted sockets and received pieces that came for an ended connection, and were dropped. */
    uint64_t stale_dropped;
    /** Sends that the kernel took in part, and that were continued. */
    uint64_t short_sends;
    /** Times that a full submission queue was flushed. */
    uint64_t queue_full_flushes;
    /** Times that completions overflowed into the kernel's backlog; nothing is lost by it. */
    uint64_t cq_overflows;
    /** Sends refused by the bounds on queued bytes. */
    uint64_t sends_refused;
    /** Buffers that the caller holds. */
    uint64_t buffers_held;
    /** Streams that the ring knows. */
    uint64_t connections;
    /** Operations of connections that the kernel has at work. */
    uint64_t in_flight;
} hotpath_stats_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Whether a ring can be made on this host, as far as the kernel is concerned: 1 or 0. hotpath_probe says why.
 *
 * Threads: any.
 */
int32_t hotpath_supported(void);

/**
 * What the kernel offers, and why not when it does not: asked of the kernel by making small rings, never guessed.
 *
 * Parameters: out, its size set.
 *
 * Returns: 0; -EINVAL.
 *
 * Threads: any.
 *
 * Safety: out is valid for writes of its size.
 */
int32_t hotpath_probe(hotpath_probe_t *out);

/**
 * The name of a feature's bit in hotpath_probe_t, such as "multishot receive". Static text, NULL for a bit that
 * means nothing: the names end there.
 *
 * Threads: any.
 */
const char *hotpath_feature_name(uint32_t bit);

/**
 * Makes a ring, with the best set-up that the kernel has.
 *
 * The ring belongs to the thread that first calls it, which need not be this one; calls of other threads are
 * SHMHOT_ETHREAD, but for those that say so. In a forked child calls are SHMHOT_EFORK, but for hotpath_is_healthy,
 * hotpath_force_unhealthy, hotpath_backend and hotpath_ring_free.
 *
 * Parameters: queue_depth: entries of the submission queue, 1 to 32768. n_bufs: receive buffers, a power of two up
 * to 32768. buf_size: bytes of one.
 *
 * Returns: the ring, to be freed by hotpath_ring_free; NULL on failure, then shmhot_last_status tells -EINVAL (a
 * size), -ENOMEM, or why the kernel refuses io_uring (-ENOSYS, -EPERM), and shmhot_last_error the same in a sentence.
 *
 * Threads: any.
 */
hotpath_ring_t *hotpath_ring_new(uint32_t queue_depth, uint16_t n_bufs, uint32_t buf_size);

/**
 * Makes a ring as hotpath_ring_new does, with options.
 *
 * Parameters: options, its size set; NULL for all defaults.
 *
 * Returns: as hotpath_ring_new; -E2BIG too, when options asks for what this version does not know.
 *
 * Threads: any.
 *
 * Safety: options is NULL or valid for reads of its size.
 */
hotpath_ring_t *hotpath_ring_new_with(const hotpath_options_t *options);

/**
 * Frees a ring. What it has at work is cancelled, accepted sockets that nobody was told of and descriptors that wait
 * to be closed are closed; other descriptors stay the caller's. On another thread than the ring's, nothing can be
 * cancelled: then memory that the kernel may still use is left to it, borrowed bytes may still be read, and a
 * descriptor whose close waits for a send stays open. A system call that the ring's thread makes shortly after may
 * end with EINTR.
 *
 * Parameters: ring, which no other call may use any more; NULL does nothing.
 *
 * Returns: 0.
 *
 * Threads: any, also in a forked child. Blocking: until the kernel has let go, at most 2 seconds.
 *
 * Safety: ring is NULL or a ring that was not freed.
 */
int32_t hotpath_ring_free(hotpath_ring_t *ring);

/**
 * Accepts connections until cancelled: each is told by an OP_ACCEPT. When the process runs out of descriptors, that
 * is told too (F_MORE is set), and accepting goes on when there are some again.
 *
 * Parameters: listener_fd, a listening socket.
 *
 * Returns: 0; -EBADF; -EALREADY when it accepts already; -EINVAL when it is in use as a stream; -ENOENT before the
 * OP_ACCEPT of its number is taken; -ESHUTDOWN when it is being closed or the ring drains.
 *
 * Threads: the ring's. Blocking: no; it goes out with the next wait, turn or flush, like everything that is submitted.
 *
 * Safety: ring is NULL or a ring: so it is for every call below.
 */
int32_t hotpath_submit_accept(hotpath_ring_t *ring, int32_t listener_fd);

/**
 * Receives until the end of the stream: each piece is told by an OP_RECV, and lies in buf_id until that is released.
 * When all buffers are held, the connection waits for one to be released.
 *
 * Parameters: fd, a stream socket.
 *
 * Returns: 0; -EBADF; -EALREADY when it receives already; -EINVAL when it is in use as a listener; -ENOENT before the
 * OP_ACCEPT of its number is taken; -ESHUTDOWN when it is being closed.
 *
 * Threads: the ring's. Blocking: no.
 */
int32_t hotpath_submit_recv(hotpath_ring_t *ring, int32_t fd);

/**
 * Sends bytes of the caller, after all that is queued on fd before, whole: one OP_SEND tells when they are free. A
 * closed peer is -EPIPE, never a signal.
 *
 * Parameters: iov, iov_count: up to 1024 pieces. Their bytes must stay until the completion, the array need not.
 *
 * Returns: 0; -EINVAL; -EBADF; -EAGAIN when too much is queued (see hotpath_options_t); -EPIPE after a failed send or
 * a shutdown; -EBUSY while sends are being cancelled; -ENOTCONN for a listener; -ESHUTDOWN when it is being closed,
 * -ENOENT when the ring has closed it.
 *
 * Threads: the ring's. Blocking: no.
 *
 * Safety: ring is NULL or a ring; iov is valid for reads of iov_count elements now, and what they name until the completion.
 */
int32_t hotpath_submit_send(hotpath_ring_t *ring, int32_t fd, const struct iovec *iov, uint32_t iov_count);

/**
 * Sends a copy of bytes, after all that is queued on fd before, whole; one OP_SEND tells when that is done.
 *
 * Parameters: data, len: what to send. flags: 0, or HOTPATH_QUIET.
 *
 * Returns: as hotpath_submit_send; -ENOMEM too.
 *
 * Threads: the ring's. Blocking: no.
 *
 * Safety: ring is NULL or a ring; data is valid for reads of len bytes during the call.
 */
int32_t hotpath_send(hotpath_ring_t *ring, int32_t fd, const void *data, size_t len, uint32_t flags);

/**
 * Sends bytes out of a received buffer without a copy, and releases the buffer when that is finished.
 *
 * Parameters: buf_id, offset, len: bytes that were received, in a buffer that is held. flags: 0, or HOTPATH_QUIET.
 *
 * Returns: as hotpath_submit_send; -EINVAL when that is not inside what was received; -EALREADY when it is not held,
 * -EBUSY when it is being sent already.
 *
 * Threads: the ring's. Blocking: no.
 */
int32_t hotpath_send_buffer(hotpath_ring_t *ring,
                            int32_t fd,
                            int32_t buf_id,
                            uint32_t offset,
                            uint32_t len,
                            uint32_t flags);

/**
 * Closes fd once everything queued is sent: hotpath_submit_close_within without a limit.
 *
 * Threads: the ring's. Blocking: no.
 */
int32_t hotpath_submit_close(hotpath_ring_t *ring, int32_t fd);

/**
 * Closes fd once everything queued is sent, or when the time is over. From the call on nothing that it receives is
 * told; the last word is OP_CLOSE. Sends that did not get out end with -ECANCELED. Called again, it changes the time.
 *
 * Parameters: timeout_ms: 0 drops what is queued, HOTPATH_NO_TIMEOUT waits for as long as it takes.
 *
 * Returns: 0; -EBADF; -ENOENT when the ring has closed it already; -EALREADY when nothing is left but the close
 * itself.
 *
 * Threads: the ring's. Blocking: no.
 */
int32_t hotpath_submit_close_within(hotpath_ring_t *ring, int32_t fd, uint32_t timeout_ms);

/**
 * Ends the sending half of fd once everything queued is sent; OP_SHUTDOWN tells. Receiving goes on.
 *
 * Returns: 0; -EBADF; -EPIPE when it is ended already or a send has failed; -EBUSY, -ENOTCONN, -ESHUTDOWN and -ENOENT
 * as hotpath_submit_send.
 *
 * Threads: the ring's. Blocking: no.
 */
int32_t hotpath_submit_shutdown(hotpath_ring_t *ring, int32_t fd);

/**
 * Connects a socket; OP_CONNECT tells. Receives and sends may be submitted at once, and wait for it. Whatever the
 * number fd meant before has ended.
 *
 * Parameters: fd, a socket. addr, addr_len: where to, copied.
 *
 * Returns: 0; -EINVAL; -EBADF; -EALREADY when it is being closed; -ENOENT before the OP_ACCEPT of its number is taken.
 *
 * Threads: the ring's. Blocking: no.
 *
 * Safety: ring is NULL or a ring; addr is valid for reads of addr_len bytes during the call.
 */
int32_t hotpath_submit_connect(hotpath_ring_t *ring, int32_t fd, const struct sockaddr *addr, uint32_t addr_len);

/**
 * Has an OP_TIMEOUT come after timeout_ms, its result the id. A pending timeout of the same id is replaced.
 *
 * Returns: 0.
 *
 * Threads: the ring's. Blocking: no.
 */
int32_t hotpath_submit_timeout(hotpath_ring_t *ring, int64_t id, uint32_t timeout_ms);

/**
 * Takes a timeout back; no completion comes of it.
 *
 * Returns: 0; -ENOENT when none of this id is pending (its completion may be on its way).
 *
 * Threads: the ring's. Blocking: no.
 */
int32_t hotpath_cancel_timeout(hotpath_ring_t *ring, int64_t id);

/**
 * Ends what is at work on fd. Each operation ends with its completion: -ECANCELED, unless it was faster. A connection
 * on which half of a send went out takes no more sends.
 *
 * Parameters: ops: a bit 1u << HOTPATH_OP_* for each of ACCEPT, RECV, SEND and CONNECT that is meant; 0 for all.
 *
 * Returns: 0; -EBADF; -ENOENT when nothing of that is at work; -ESHUTDOWN when it is being closed.
 *
 * Threads: the ring's. Blocking: no.
 */
int32_t hotpath_cancel(hotpath_ring_t *ring, int32_t fd, uint32_t ops);

/**
 * Stops receiving (of a listener: accepting) until hotpath_resume_recv. What is on its way is still told.
 *
 * Returns: 0; -EBADF; -ENOENT when the ring does not know fd; -ESHUTDOWN when it is being closed.
 *
 * Threads: the ring's. Blocking: no.
 */
int32_t hotpath_pause_recv(hotpath_ring_t *ring, int32_t fd);

/**
 * Goes on after hotpath_pause_recv.
 *
 * Returns: as hotpath_pause_recv.
 *
 * Threads: the ring's. Blocking: no.
 */
int32_t hotpath_resume_recv(hotpath_ring_t *ring, int32_t fd);

/**
 * Tells when nothing was received or sent on fd for timeout_ms: by an OP_RECV that is -ETIMEDOUT, once for each
 * silence. The connection stays as it is; most callers close it then.
 *
 * Parameters: timeout_ms: 0 turns it off.
 *
 * Returns: 0; -EBADF; -ESHUTDOWN when it is being closed, -ENOENT when the ring has closed it.
 *
 * Threads: the ring's. Blocking: no.
 */
int32_t hotpath_set_idle_timeout(hotpath_ring_t *ring, int32_t fd, uint32_t timeout_ms);

/**
 * Says that the number fd is the caller's own: that it is going to close it itself, next, or that it has opened it
 * after the ring had closed it (a receive, accept or connect says so, too). Nothing more is told of what it was, but
 * an OP_SEND with F_ENDED for each send whose bytes are borrowed.
 *
 * Returns: 0; -EBADF; -ENOENT when the ring does not know fd; -EALREADY when the ring is closing it.
 *
 * Threads: the ring's. Blocking: no; the peer sees the end of the stream after the next wait, turn or flush.
 */
int32_t hotpath_forget(hotpath_ring_t *ring, int32_t fd);

/**
 * Stops accepting for good. OP_DRAIN tells when the last connection has been closed or forgotten, or when the time is
 * over; its result is the number of those that are left.
 *
 * Parameters: timeout_ms: HOTPATH_NO_TIMEOUT for no limit.
 *
 * Returns: 0.
 *
 * Threads: the ring's. Blocking: no.
 */
int32_t hotpath_drain(hotpath_ring_t *ring, uint32_t timeout_ms);

/**
 * Submits everything queued, waits for completions, and hands them out: one system call for all of it, none when
 * there is nothing to submit and enough is there.
 *
 * Parameters: min_complete: how many to wait for; above cap it means cap, 0 means not to wait. timeout_ms: 0 only
 * looks, HOTPATH_NO_TIMEOUT has no limit. out, cap: where completions go.
 *
 * Returns: their number; fewer than min_complete when the time is over or a signal came, 0 included, and when a
 * descriptor's number has come back: the OP_ACCEPT of a number never shares a batch with what is told of its last
 * connection before. -EINVAL; -EAGAIN when the kernel has no memory at the moment; SHMHOT_EUNHEALTHY.
 *
 * Threads: the ring's. Blocking: as asked.
 *
 * Safety: ring is NULL or a ring; out is valid for writes of cap elements.
 */
int32_t hotpath_wait(hotpath_ring_t *ring,
                     uint32_t min_complete,
                     uint32_t timeout_ms,
                     hotpath_completion_t *out,
                     uint32_t cap);

/**
 * Submits everything queued, without waiting.
 *
 * Returns: 0; -EAGAIN when the kernel wants its completions taken first; SHMHOT_EUNHEALTHY.
 *
 * Threads: the ring's. Blocking: no.
 */
int32_t hotpath_flush(hotpath_ring_t *ring);

/**
 * Executes commands in order, each as the call that it names, then waits like hotpath_wait: for callers to whom a
 * call is dear.
 *
 * Parameters: commands, n_commands: each is told in its status field whether it was refused; the others go on
 * nevertheless. The rest as hotpath_wait.
 *
 * Returns: as hotpath_wait. shmhot_last_error tells of the last command that was refused.
 *
 * Threads: the ring's. Blocking: as asked.
 *
 * Safety: ring is NULL or a ring; commands is valid for reads and writes of n_commands elements, out for writes of cap
 * elements; what the commands name is valid as the calls demand.
 */
int32_t hotpath_turn(hotpath_ring_t *ring,
                     hotpath_command_t *commands,
                     uint32_t n_commands,
                     uint32_t min_complete,
                     uint32_t timeout_ms,
                     hotpath_completion_t *out,
                     uint32_t cap);

/**
 * Where received bytes are, without a copy.
 *
 * Parameters: buf_id, of an OP_RECV, not yet released. data receives the address, valid until the release.
 *
 * Returns: the number of bytes received; -EINVAL when there is no such buffer; -EALREADY when it is not held.
 *
 * Threads: the ring's. Blocking: no.
 *
 * Safety: ring is NULL or a ring; data is valid for a write.
 */
int32_t hotpath_buffer(hotpath_ring_t *ring, int32_t buf_id, const uint8_t **data);

/**
 * Where all buffers are, for callers who compute the address of one by themselves.
 *
 * Returns: 0; -EINVAL.
 *
 * Threads: the ring's. Blocking: no.
 *
 * Safety: ring is NULL or a ring; out is valid for a write. The memory lives as long as the ring.
 */
int32_t hotpath_buffers(hotpath_ring_t *ring, hotpath_buffers_t *out);

/**
 * Copies received bytes out of a buffer, which stays held.
 *
 * Parameters: len: how many, at most as many as were received. out, out_cap: where to.
 *
 * Returns: len; -EINVAL when the buffer does not exist or did not receive so many; -ENOSPC when out_cap is below len;
 * -EALREADY when it is not held.
 *
 * Threads: the ring's. Blocking: no.
 *
 * Safety: ring is NULL or a ring; out is valid for writes of out_cap bytes.
 */
int32_t hotpath_copy_buffer(hotpath_ring_t *ring, int32_t buf_id, uint32_t len, void *out, uint32_t out_cap);

/**
 * Gives a buffer back to the kernel.
 *
 * Returns: 0; -EINVAL when there is no such buffer; -EALREADY when it is not held, -EBUSY when it is being sent. A
 * refused call harms nothing.
 *
 * Threads: the ring's. Blocking: no.
 */
int32_t hotpath_release_buf(hotpath_ring_t *ring, int32_t buf_id);

/**
 * Gives buffers back to the kernel: all that can be, also when one is refused.
 *
 * Returns: 0; else why the last of the refused ones was, as hotpath_release_buf.
 *
 * Threads: the ring's. Blocking: no.
 *
 * Safety: ring is NULL or a ring; buf_ids is valid for reads of count elements.
 */
int32_t hotpath_release_bufs(hotpath_ring_t *ring, const int32_t *buf_ids, uint32_t count);

/**
 * Ends the ring's wait, or else the next one, by an OP_WAKE. Wakes that come before it is handed out are one.
 *
 * Returns: 0; SHMHOT_EFORK.
 *
 * Threads: any; also in a signal handler. Blocking: no.
 *
 * Safety: ring is NULL or a ring that is not being freed.
 */
int32_t hotpath_wake(const hotpath_ring_t *ring);

/**
 * A descriptor that is readable while there is something to do for the ring, completions to take or commands to
 * submit: for poll, epoll, libuv or a fiber scheduler. When it is, call hotpath_wait with a timeout_ms of 0.
 *
 * Returns: the descriptor; it belongs to the ring, do not read, write or close it. -EMFILE and its like.
 *
 * Threads: the ring's. Blocking: no.
 */
int32_t hotpath_event_fd(hotpath_ring_t *ring);

/**
 * Counters since the ring was made.
 *
 * Parameters: out, its size set.
 *
 * Returns: 0; -EINVAL.
 *
 * Threads: the ring's. Blocking: no.
 *
 * Safety: ring is NULL or a ring; out is valid for writes of its size.
 */
int32_t hotpath_stats(hotpath_ring_t *ring, hotpath_stats_t *out);

/**
 * Whether the ring can be used: 1, or 0 after a failure that it cannot recover from or hotpath_force_unhealthy.
 *
 * Threads: any.
 */
int32_t hotpath_is_healthy(const hotpath_ring_t *ring);

/**
 * Gives the ring up: its wait ends, calls are SHMHOT_EUNHEALTHY from now on. It is still to be freed.
 *
 * Returns: 0.
 *
 * Threads: any.
 *
 * Safety: ring is NULL or a ring that is not being freed.
 */
int32_t hotpath_force_unhealthy(const hotpath_ring_t *ring);

/**
 * What the ring stands on: HOTPATH_BACKEND_IO_URING.
 *
 * Threads: any.
 */
int32_t hotpath_backend(const hotpath_ring_t *ring);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SHMHOT_HOTPATH_H */
