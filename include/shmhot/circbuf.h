/*
 * shmhot/circbuf.h: signals in shared memory.
 *
 * A writer streams frames of numbers into a ring; any number of mirrors, of this process or others, read them as whole
 * frames, and know what they have missed. Either end may be ezmsg-tools. docs/circbuf.md is the guide, this header the
 * contract.
 *
 * Generated from src/abi/circbuf.rs by `make headers`.
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef SHMHOT_CIRCBUF_H
#define SHMHOT_CIRCBUF_H

#include <stddef.h>
#include <stdint.h>
#include "status.h"

/** timeout_ms: no limit. */
#define CIRCBUF_NO_TIMEOUT UINT32_MAX

/** Flag of a stream: layout 1, for readers of ezmsg-tools 0.4 to 0.9. It has no timestamps. */
#define CIRCBUF_LAYOUT_V1 1

/** Flag of a stream: layout 0, for readers of ezmsg-tools 0.1 to 0.3. It has no timestamps, and no static metadata. */
#define CIRCBUF_LAYOUT_V0 2

/** Flag of a mirror: begins with the frames that are written after its making, and not with the oldest that is there. */
#define CIRCBUF_FROM_NOW 1

/** State: nothing has the name. */
#define CIRCBUF_ABSENT 0

/** State: the stream is there, and has no format yet. */
#define CIRCBUF_UNCONFIGURED 1

/** State: its writer lives. */
#define CIRCBUF_ALIVE 2

/** State: its writer has died. What it has written can be read, and a next one may come. */
#define CIRCBUF_DEAD 3

/** State: its writer has ended in order. What it has written can be read. */
#define CIRCBUF_ENDED 4

/** State: it is another library's, whose header does not tell whether its writer lives. */
#define CIRCBUF_UNKNOWN 5

/** Dimensions of a frame, at most. */
#define CIRCBUF_MAX_DIMENSIONS 63

/** Bytes of a key, at most, without the NUL. */
#define CIRCBUF_MAX_KEY 1024

/** A stream that is read. */
typedef struct circbuf_mirror_t circbuf_mirror_t;

/** The memory of a ring. */
typedef struct circbuf_ring_t circbuf_ring_t;

/** A stream that is written. */
typedef struct circbuf_t circbuf_t;

/**
 * What the frames of a stream are, and how many its ring holds. Zero means the default; set size, zero the rest, then
 * set what matters.
 */
typedef struct {
    /** sizeof(circbuf_format_t). */
    size_t size;
    /** Frames per second; 0 when they are irregular. */
    double rate;
    /** The ring holds so many seconds, rounded up to a frame; or */
    double seconds;
    /** so many frames, up to 2^32 - 1. One of the two is to be set; of a mirror both are. */
    uint64_t frames;
    /** The time of the first frame, for timestamps that are derived from the rate. Of a mirror: 0. */
    double start;
    /** Dimensions of a frame; 0 for a single number. */
    uint32_t ndim;
    /** The length of each. Frames are in C order. */
    uint32_t shape[63];
    /** What the source calls itself: UTF-8 and a NUL. */
    char key[1028];
    /**
     * Type of the numbers, as numpy's type character: 'e' 'f' 'd' floats of 2, 4, 8 bytes; 'b' 'h' 'i' 'l' 'q' integers
     * of 1, 2, 4, 8, 8; 'B' 'H' 'I' 'L' 'Q' without sign; '?' booleans; 'F' 'D' complex of 8, 16.
     */
    uint8_t dtype;
    /** Zero. */
    uint8_t reserved[11];
    /** Of a mirror: bytes of a frame. Of a format that is given: 0, or that. */
    uint64_t frame_size;
} circbuf_format_t;

/** How a stream is made. Zero means the default; set size, zero the rest, then set what matters. */
typedef struct {
    /** sizeof(circbuf_options_t). */
    size_t size;
    /** Name of the stream, of any length: UTF-8. */
    const char *name;
    /** What its frames are; NULL when circbuf_configure is to say it. */
    const circbuf_format_t *format;
    /** CIRCBUF_LAYOUT_V1, CIRCBUF_LAYOUT_V0; neither for layout 2, of ezmsg-tools 0.10. */
    uint32_t flags;
    /** Permissions of the shared-memory objects; default 0600. */
    uint32_t mode;
} circbuf_options_t;

/** Room for frames in the ring. */
typedef struct {
    /** sizeof(circbuf_reservation_t), set by the caller. */
    size_t size;
    /** Number of the first. */
    uint64_t first;
    /** Index of the first frame in the ring. */
    uint64_t index;
    /** How many frames each part has: those up to the end of the ring, and those from its begin. */
    uint64_t counts[2];
    /** The frames of each part. */
    void *frames[2];
    /** Their timestamps, derived from the rate if there is one; NULL when the layout has none. */
    double *timestamps[2];
} circbuf_reservation_t;

/** What there is to know of a stream. */
typedef struct {
    /** sizeof(circbuf_info_t), set by the caller. */
    size_t size;
    /** Number of the ring's first frame. */
    uint64_t begin;
    /** Number of the oldest frame that is still there. */
    uint64_t oldest;
    /** Number that the next frame will have. */
    uint64_t written;
    /** Number of the frame that this mirror reads next. */
    uint64_t position;
    /** Frames that this mirror has lost, in all. */
    uint64_t lost;
    /** When frames were last written, nanoseconds since 1970, some milliseconds early; 0 when that is not known. */
    int64_t last_write_ns;
    /** CIRCBUF_ABSENT to CIRCBUF_UNKNOWN. */
    uint32_t state;
    /** 0, 1 or 2; 0 when there is no stream. */
    uint32_t layout;
    /** Process of the writer, when it is this library's; else 0. */
    uint32_t pid;
    /** Generation of the ring; 0xFFFFFFFF when there is none. */
    uint32_t generation;
    /** Generation of the static metadata; 0 when there is none. */
    uint32_t metadata_generation;
    /** 1 when the writer is this library's, else 0. */
    uint32_t is_ours;
} circbuf_info_t;

/** How a mirror is made. Zero means the default; set size, zero the rest, then set what matters. */
typedef struct {
    /** sizeof(circbuf_mirror_options_t). */
    size_t size;
    /** CIRCBUF_FROM_NOW. */
    uint32_t flags;
    /** Zero. */
    uint32_t reserved;
} circbuf_mirror_options_t;

/**
 * Which frames were read. Frames are numbered: those of this library's writers from the making of the stream, others
 * from the begin of their ring.
 */
typedef struct {
    /** sizeof(circbuf_span_t), set by the caller. */
    size_t size;
    /** Number of the first. */
    uint64_t first;
    /** How many. */
    uint64_t count;
    /** How many before the first were lost, since the last span of this mirror. Exact when the writer is this library's. */
    uint64_t lost;
    /** Which ring of this mirror they are of: 1 for the first that it has read, then counting. */
    uint64_t ring;
    /** Generation of the static metadata that the stream has now; 0 when it has none. */
    uint32_t metadata_generation;
    /** Zero. */
    uint32_t reserved;
} circbuf_span_t;

/** Frames where they are in the ring. */
typedef struct {
    /** sizeof(circbuf_view_t), set by the caller. */
    size_t size;
    /** Number of the first. */
    uint64_t first;
    /** How many, in both parts. */
    uint64_t count;
    /** As of a span. */
    uint64_t lost;
    /** As of a span. */
    uint64_t ring;
    /** Index of the first frame in the ring. */
    uint64_t index;
    /** How many frames each part has: those up to the end of the ring, and those from its begin. */
    uint64_t counts[2];
    /** The frames of each part; NULL when it has none. */
    const void *frames[2];
    /** Their timestamps; NULL when the part has no frames, or the layout no timestamps. */
    const double *timestamps[2];
    /** As of a span. */
    uint32_t metadata_generation;
    /** Zero. */
    uint32_t reserved;
} circbuf_view_t;

/** Where a ring is in this process's memory. */
typedef struct {
    /** sizeof(circbuf_memory_t), set by the caller. */
    size_t size;
    /** Its first frame. That of a mirror may not be written. */
    void *frames;
    /** The first timestamp; NULL when the layout has none. */
    double *timestamps;
    /** How many frames there are. */
    uint64_t count;
    /** Bytes of each. */
    uint64_t frame_size;
    /** As of a span; 0 for that of a writer. */
    uint64_t ring;
} circbuf_memory_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The name of the shared-memory object of a stream's header: what shm_open knows it by, after a slash.
 *
 * Parameters: name: UTF-8 of any length. buf receives at most cap - 1 bytes and a NUL; it may be NULL when cap is 0.
 *
 * Returns: the length of the whole name without the NUL, 23; -EINVAL; -EILSEQ when name is not UTF-8.
 *
 * Threads: any. Blocking: no.
 *
 * Safety: name is NULL or a C string; buf is valid for writes of cap bytes.
 */
int32_t circbuf_short_name(const char *name, char *buf, size_t cap);

/**
 * Makes a stream, for frames to be written.
 *
 * What a writer of this library that has died has left is taken over: its readers go on with the new one. What another
 * library's has left is replaced, and so is what it still writes: it does not say that it lives.
 *
 * In /dev/shm lies a file of the stream's short name with a dot before it and .lock behind it, which keeps writers
 * apart; it goes when the stream is closed.
 *
 * Parameters: options: name must be set. stream receives the handle.
 *
 * Returns: 0; -EBUSY when a living process of this library, or a child that it has forked, writes the stream: the last
 * error names it; -EINVAL for a format that cannot be; -EILSEQ when a text is not UTF-8; -EPERM when what is there belongs to another user; -ENOSPC when
 * /dev/shm has no room for the ring; -EACCES and whatever else making a file can end with.
 *
 * Threads: any. Blocking: no.
 *
 * Safety: options is valid for reads of its size, its name a C string, its format NULL or valid for reads of its size; stream is
 * valid for writes.
 */
int32_t circbuf_create(const circbuf_options_t *options,
                       circbuf_t **stream);

/**
 * Says what the frames are from now on. Another format than before begins a new ring; the old one is removed, though
 * mirrors that have it read it to its end.
 *
 * Returns: 1; 0 when the format is as it was, and nothing was done; -EINVAL for a format that cannot be; -EBUSY while
 * frames are reserved; -ESTALE when another library's writer has taken the name; -ENOSPC when there is no room for the new ring; SHMHOT_EFORK in a child. If it fails, the stream
 * is as it was.
 *
 * Threads: any number; they take turns. Blocking: for another thread's turn, 5 s at most, then -EBUSY.
 *
 * Safety: stream is NULL or a handle; format is valid for reads of its size.
 */
int32_t circbuf_configure(const circbuf_t *stream,
                          const circbuf_format_t *format);

/**
 * Writes frames: all that fit into the ring, and of more the last.
 *
 * Parameters: frames: one after the other, in C order. timestamps: one for each, ascending; NULL to go on from the last
 * one, or from the format's start, by the rate. Layouts 1 and 0 do not keep them. n: how many; 0 is nothing.
 *
 * Returns: 0; -EAGAIN when the stream has no format; -EINVAL without timestamps when the frames are irregular; -EBUSY
 * while frames are reserved; -EMSGSIZE for more than can be counted, 2^62; SHMHOT_EFORK in a child.
 *
 * Threads: any number; they take turns. Blocking: for another thread's turn, 5 s at most, then -EBUSY. Never for a
 * reader.
 *
 * Safety: stream is NULL or a handle; frames is valid for reads of n frames, timestamps NULL or so for n numbers.
 */
int32_t circbuf_write(const circbuf_t *stream, const void *frames, const double *timestamps, size_t n);

/**
 * Writes frames of an array of any strides, such as a transposed one: what numpy calls strides, of n frames.
 *
 * Parameters: frames: the first element. strides: bytes from one frame to the next, then from one element to the next
 * along each dimension of the frames; any number, negative ones and 0 too. The rest as of circbuf_write.
 *
 * Returns, Threads, Blocking: as circbuf_write.
 *
 * Safety: stream is NULL or a handle; frames is valid for reads of all the elements, strides of as many numbers as the ring has
 * dimensions, timestamps NULL or of n.
 */
int32_t circbuf_write_strided(const circbuf_t *stream,
                              const void *frames,
                              const ptrdiff_t *strides,
                              const double *timestamps,
                              size_t n);

/**
 * Gives room for frames in the ring, to be filled in place and published by circbuf_commit. The oldest frames are gone
 * at once.
 *
 * Parameters: n: up to what the ring holds. out: set its size; the pointers are valid until circbuf_commit.
 *
 * Returns: 0; -EMSGSIZE for more than the ring holds; -EAGAIN when the stream has no format; -EBUSY when frames are
 * reserved already; SHMHOT_EFORK in a child.
 *
 * Threads: any number; they take turns. Blocking: as circbuf_write.
 *
 * Safety: stream is NULL or a handle; out is valid for reads and writes of its size.
 */
int32_t circbuf_reserve(const circbuf_t *stream, size_t n, circbuf_reservation_t *out);

/**
 * Publishes frames that were reserved.
 *
 * Parameters: n: the first n of them; the others are given up.
 *
 * Returns: 0; -EBUSY when none are reserved; -EMSGSIZE when there are fewer; SHMHOT_EFORK in a child.
 *
 * Threads: any number; they take turns. Blocking: as circbuf_write.
 *
 * Safety: stream is NULL or a handle.
 */
int32_t circbuf_commit(const circbuf_t *stream, size_t n);

/**
 * Publishes what does not change from frame to frame: dimensions, axes, units, attributes. docs/circbuf.md says how.
 *
 * Parameters: json: an object, as UTF-8; NULL removes what was published.
 *
 * Returns: 1; 0 when it is as it was; -EINVAL for what is not such an object, the last error says where; -EILSEQ;
 * -EOPNOTSUPP in layout 0; -ENOSPC; -ESTALE as circbuf_configure; SHMHOT_EFORK in a child.
 *
 * Threads: any number; they take turns. Blocking: as circbuf_write.
 *
 * Safety: stream is NULL or a handle; json is NULL or a C string.
 */
int32_t circbuf_set_metadata(const circbuf_t *stream, const char *json);

/**
 * What there is to know of a stream that is written.
 *
 * Parameters: out: set its size.
 *
 * Returns: 0; SHMHOT_EFORK in a child.
 *
 * Threads: any number; they take turns. Blocking: as circbuf_write.
 *
 * Safety: stream is NULL or a handle; out is valid for reads and writes of its size.
 */
int32_t circbuf_info(const circbuf_t *stream, circbuf_info_t *out);

/**
 * Keeps the memory of the ring that is written now, for callers whose pointers into it live long: it stays mapped until
 * circbuf_ring_free, whatever becomes of the stream.
 *
 * Parameters: ring receives the handle.
 *
 * Returns: 0; -EAGAIN when the stream has no format; SHMHOT_EFORK in a child.
 *
 * Threads: any number; they take turns. Blocking: as circbuf_write.
 *
 * Safety: stream is NULL or a handle; ring is valid for writes.
 */
int32_t circbuf_ring(const circbuf_t *stream, circbuf_ring_t **ring);

/**
 * Ends the stream and removes it, and frees the handle. NULL is nothing. Mirrors that have it read what is left.
 *
 * Returns: 0; what removing a file can end with; SHMHOT_EFORK in a child, where nothing is removed. The handle is gone in
 * any case.
 *
 * Threads: any, when no other call uses the handle. Blocking: no.
 *
 * Safety: stream is NULL or a handle, which is gone afterwards.
 */
int32_t circbuf_close(circbuf_t *stream);

/**
 * Ends the stream and leaves it to its readers and to the next writer, and frees the handle. NULL is nothing.
 *
 * Returns: 0; SHMHOT_EFORK in a child. The handle is gone in any case.
 *
 * Threads: any, when no other call uses the handle. Blocking: no.
 *
 * Safety: stream is NULL or a handle, which is gone afterwards.
 */
int32_t circbuf_detach(circbuf_t *stream);

/**
 * Makes a mirror of a stream: of this library's or of ezmsg-tools, of any layout. It need not be there yet; the mirror
 * looks for it, and follows it through new formats and new writers.
 *
 * Parameters: options: NULL for the defaults. mirror receives the handle.
 *
 * Returns: 0; -EINVAL; -EILSEQ when name is not UTF-8.
 *
 * Threads: any. Blocking: no.
 *
 * Safety: name is NULL or a C string; options is NULL or valid for reads of its size; mirror is valid for writes.
 */
int32_t circbuf_mirror_open(const char *name, const circbuf_mirror_options_t *options, circbuf_mirror_t **mirror);

/**
 * Frees a mirror. NULL is nothing. Its pointers are gone, except into rings that are kept by circbuf_mirror_ring.
 *
 * Returns: 0.
 *
 * Threads: any, when no other call uses the handle. Blocking: no.
 *
 * Safety: mirror is NULL or a handle, which is gone afterwards.
 */
int32_t circbuf_mirror_close(circbuf_mirror_t *mirror);

/**
 * What the frames are. To be asked first, and again when another call says -ESTALE: then the frames to come are others,
 * and need other room.
 *
 * Parameters: out: set its size.
 *
 * Returns: 0; -ENOENT when there is no such stream yet; -EAGAIN when it has no format yet; -EPROTO when what is there is
 * not a stream, or damaged: the last error says where; -EACCES when it may not be read. So do the other calls of a
 * mirror.
 *
 * Threads: any number; they take turns; also after a fork. Blocking: for another thread's turn, 5 s at most, then -EBUSY.
 *
 * Safety: mirror is NULL or a handle; out is valid for reads and writes of its size.
 */
int32_t circbuf_mirror_format(const circbuf_mirror_t *mirror,
                              circbuf_format_t *out);

/**
 * Copies the frames that come next, as many as there are and as find room. What is copied is whole, and no frame comes
 * twice. Of a foreign writer see docs/circbuf.md.
 *
 * Parameters: frames receives them, in frames_size bytes. timestamps receives as many, or is NULL: of layouts 1 and 0
 * they are counted from the begin of the ring by the rate, and NaN without a rate. n: at most so many. span: set its
 * size, or NULL.
 *
 * Returns: how many; 0 when there are none, or no stream: circbuf_mirror_wait tells which; -ESTALE when
 * circbuf_mirror_format is to be asked first; -EINVAL when there is no room for a frame; -EPROTO when the stream is
 * damaged.
 *
 * Threads: any number; they take turns; also after a fork. Blocking: for another thread's turn, 5 s at most, then -EBUSY.
 *
 * Safety: mirror is NULL or a handle; frames is valid for writes of frames_size bytes, timestamps NULL or so for n numbers, span
 * NULL or valid for reads and writes of its size.
 */
int32_t circbuf_mirror_read(const circbuf_mirror_t *mirror,
                            void *frames,
                            size_t frames_size,
                            double *timestamps,
                            uint32_t n,
                            circbuf_span_t *span);

/**
 * Copies frames by their time: from from_time on, and before to_time. What circbuf_mirror_read reads next stays as it is.
 *
 * Timestamps must ascend for that. Where there is no room for all, they are the first.
 *
 * Parameters: frames, frames_size, timestamps, n, span: as of circbuf_mirror_read.
 *
 * Returns: how many; -ENODATA when the frames have no times; and as circbuf_mirror_read.
 *
 * Threads, Blocking: as circbuf_mirror_read.
 *
 * Safety: As of circbuf_mirror_read.
 */
int32_t circbuf_mirror_read_time(const circbuf_mirror_t *mirror,
                                 double from_time,
                                 double to_time,
                                 void *frames,
                                 size_t frames_size,
                                 double *timestamps,
                                 uint32_t n,
                                 circbuf_span_t *span);

/**
 * The frames that come next, where they are: without a copy, and overwritten as the writer goes on. Whoever has used them
 * asks circbuf_mirror_view_is_intact.
 *
 * Parameters: n: at most so many. view: set its size. Its pointers are valid until circbuf_mirror_format gives another
 * format, which this mirror's other calls announce by -ESTALE; or as long as circbuf_mirror_ring keeps the memory.
 *
 * Returns: how many frames there are in both parts; 0 when there are none, or no stream; -ESTALE, -EPROTO as circbuf_mirror_read.
 *
 * Threads, Blocking: as circbuf_mirror_read.
 *
 * Safety: mirror is NULL or a handle; view is valid for reads and writes of its size.
 */
int32_t circbuf_mirror_view(const circbuf_mirror_t *mirror,
                            uint32_t n,
                            circbuf_view_t *view);

/**
 * Whether the frames of a view are still what they were: asked after they were used.
 *
 * Returns: 1; 0 when some of them may have been overwritten meanwhile.
 *
 * Threads, Blocking: as circbuf_mirror_read.
 *
 * Safety: mirror is NULL or a handle; view is valid for reads of its size.
 */
int32_t circbuf_mirror_view_is_intact(const circbuf_mirror_t *mirror, const circbuf_view_t *view);

/**
 * Goes to a frame, or to the nearest that is there.
 *
 * Parameters: number: as of a span. UINT64_MAX for the next that will be written, 0 for the oldest.
 *
 * Returns: 0; -EPROTO when the stream is damaged.
 *
 * Threads, Blocking: as circbuf_mirror_read.
 *
 * Safety: mirror is NULL or a handle.
 */
int32_t circbuf_mirror_seek(const circbuf_mirror_t *mirror, uint64_t number);

/**
 * Waits until frames can be read.
 *
 * That the writer has died or ended is said at once by the first wait, and by later ones when their time is over: they
 * wait for the next writer.
 *
 * Parameters: n: at least so many, though no more than the ring holds; 0 means 1. timeout_ms: 0 only looks,
 * CIRCBUF_NO_TIMEOUT has no limit.
 *
 * Returns: how many there are; 0 when the time is over or a signal came, and the writer lives, or is another library's;
 * -EOWNERDEAD when it has died, -ENODATA when it has ended in order, -ENOENT when there is no stream: and no frames are
 * left; -ESTALE when circbuf_mirror_format is to be asked; -EPROTO when the stream is damaged.
 *
 * Threads: any number; also after a fork. Blocking: as asked: in a futex that the writer wakes. Another library's writer
 * wakes nobody: then it looks at intervals of 2 ms at most.
 *
 * Safety: mirror is NULL or a handle.
 */
int32_t circbuf_mirror_wait(const circbuf_mirror_t *mirror,
                            uint32_t n,
                            uint32_t timeout_ms);

/**
 * The static metadata, as JSON: docs/circbuf.md says how.
 *
 * What other processes have written is decoded as data: nothing of it is executed.
 *
 * Parameters: buf receives at most cap - 1 bytes of UTF-8 and a NUL; it may be NULL when cap is 0.
 *
 * Returns: the length of the whole text without the NUL; -ENODATA when the stream has none; -EPROTO when it is more than
 * metadata can be, or damaged.
 *
 * Threads, Blocking: as circbuf_mirror_read.
 *
 * Safety: mirror is NULL or a handle; buf is valid for writes of cap bytes.
 */
int32_t circbuf_mirror_metadata(const circbuf_mirror_t *mirror,
                                char *buf,
                                size_t cap);

/**
 * What there is to know of the stream, and of this mirror.
 *
 * Parameters: out: set its size.
 *
 * Returns: 0; -EPROTO when the stream is damaged.
 *
 * Threads, Blocking: as circbuf_mirror_read.
 *
 * Safety: mirror is NULL or a handle; out is valid for reads and writes of its size.
 */
int32_t circbuf_mirror_info(const circbuf_mirror_t *mirror, circbuf_info_t *out);

/**
 * Keeps the memory of the ring that is read now, for callers whose views live long: it stays mapped until
 * circbuf_ring_free, whatever becomes of mirror and stream.
 *
 * Parameters: ring receives the handle.
 *
 * Returns: 0; -ENOENT, -EAGAIN as circbuf_mirror_format.
 *
 * Threads, Blocking: as circbuf_mirror_read.
 *
 * Safety: mirror is NULL or a handle; ring is valid for writes.
 */
int32_t circbuf_mirror_ring(const circbuf_mirror_t *mirror, circbuf_ring_t **ring);

/**
 * Where the memory of a ring is.
 *
 * Parameters: out: set its size.
 *
 * Returns: 0; -EINVAL.
 *
 * Threads: any number at once, also after a fork. Blocking: no.
 *
 * Safety: ring is NULL or a handle; out is valid for reads and writes of its size.
 */
int32_t circbuf_ring_memory(const circbuf_ring_t *ring, circbuf_memory_t *out);

/**
 * Lets go of the memory of a ring. NULL is nothing.
 *
 * Returns: 0.
 *
 * Threads: any, when no other call uses the handle. Blocking: no.
 *
 * Safety: ring is NULL or a handle, which is gone afterwards.
 */
int32_t circbuf_ring_free(circbuf_ring_t *ring);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SHMHOT_CIRCBUF_H */
