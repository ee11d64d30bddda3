/*
 * shmhot/observer.h: utilization metrics in shared memory.
 *
 * A worker stores numbers in its segment of a file; whoever wants to know them reads them there, without asking it.
 * docs/observer.md is the guide, this header the contract.
 *
 * Generated from src/abi/observer.rs by `make headers`.
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef SHMHOT_OBSERVER_H
#define SHMHOT_OBSERVER_H

#include <stddef.h>
#include <stdint.h>
#include "status.h"

/** Type: an unsigned byte, :U8. Names with a colon are those of Ruby's IO::Buffer. */
#define OBSERVER_U8 1

/** Type: a signed byte, :S8. */
#define OBSERVER_S8 2

/** Type: :u16. Lower case is little-endian. */
#define OBSERVER_U16_LE 3

/** Type: :U16. Upper case is big-endian. */
#define OBSERVER_U16_BE 4

/** Type: :s16. */
#define OBSERVER_S16_LE 5

/** Type: :S16. */
#define OBSERVER_S16_BE 6

/** Type: :u32. */
#define OBSERVER_U32_LE 7

/** Type: :U32. */
#define OBSERVER_U32_BE 8

/** Type: :s32. */
#define OBSERVER_S32_LE 9

/** Type: :S32. */
#define OBSERVER_S32_BE 10

/** Type: :u64. */
#define OBSERVER_U64_LE 11

/** Type: :U64. */
#define OBSERVER_U64_BE 12

/** Type: :s64. */
#define OBSERVER_S64_LE 13

/** Type: :S64. */
#define OBSERVER_S64_BE 14

/** Type: :f32. */
#define OBSERVER_F32_LE 15

/** Type: :F32. */
#define OBSERVER_F32_BE 16

/** Type: :f64. */
#define OBSERVER_F64_LE 17

/** Type: :F64. */
#define OBSERVER_F64_BE 18

/** Kind: nobody has said. */
#define OBSERVER_UNKNOWN 0

/** Kind: only grows, such as the requests that were answered. */
#define OBSERVER_COUNTER 1

/** Kind: grows and shrinks, such as the requests that are being answered. */
#define OBSERVER_GAUGE 2

/** Layout: each field begins where the one before ends, as async-utilization has it. */
#define OBSERVER_PACKED 0

/** Layout: each field begins at a multiple of its size, so that several processes may add to it, and it never tears. */
#define OBSERVER_ALIGNED 1

/** Flag of an observer: a value that its field cannot hold is -ERANGE. Without it, the nearest that it can is stored. */
#define OBSERVER_REFUSE 1

/** Flag of an observer: for reading only. */
#define OBSERVER_READ_ONLY 2

/**
 * Flag of a store: reads by system calls instead of a mapping, so that a file which somebody cuts is an error and not a
 * SIGBUS.
 */
#define OBSERVER_CHECKED 4

/** State of a worker: its segment is taken, but nobody has said what its numbers are. */
#define OBSERVER_UNDESCRIBED 0

/** State of a worker: its process runs. */
#define OBSERVER_ALIVE 1

/** State of a worker: its process has ended. */
#define OBSERVER_DEAD 2

/** Exposition: Prometheus' text format, "text/plain; version=0.0.4". */
#define OBSERVER_PROMETHEUS 0

/** Exposition: OpenMetrics, "application/openmetrics-text; version=1.0.0; charset=utf-8". */
#define OBSERVER_OPENMETRICS 1

/** Of a value: as_u64 is it. */
#define OBSERVER_UNSIGNED 1

/** Of a value: as_i64 is it. */
#define OBSERVER_SIGNED 2

/** Of a value: as_f64 is it. */
#define OBSERVER_FLOAT 3

/** Which fields a segment has, and where. */
typedef struct observer_schema_t observer_schema_t;

/** A file of segments, one for each worker. */
typedef struct observer_store_t observer_store_t;

/** A segment that is open. */
typedef struct observer_t observer_t;

/** A field. Zero means the default; set size, zero the rest, then set name and type, and what else is known. */
typedef struct {
    /** sizeof(observer_field_t). */
    size_t size;
    /** Its name, unique in its schema: 1 to 127 bytes of UTF-8. */
    const char *name;
    /** What it counts, in a sentence; or NULL. */
    const char *help;
    /** Its unit, such as "bytes" or "seconds"; or NULL. */
    const char *unit;
    /** OBSERVER_U8 to OBSERVER_F64_BE. */
    uint8_t type;
    /** OBSERVER_UNKNOWN, OBSERVER_COUNTER or OBSERVER_GAUGE. */
    uint8_t kind;
    /** Zero. */
    uint16_t reserved;
    /** Bytes from the begin of the segment. Of a field that is added: zero. */
    uint32_t offset;
} observer_field_t;

/** How a segment is opened. Zero means the default; set size, zero the rest, then set what matters. */
typedef struct {
    /** sizeof(observer_options_t). */
    size_t size;
    /** OBSERVER_REFUSE, OBSERVER_READ_ONLY. */
    uint32_t flags;
    /** Zero. */
    uint32_t reserved;
} observer_options_t;

/** The number of a value. */
typedef union {
    /** Of OBSERVER_UNSIGNED. */
    uint64_t as_u64;
    /** Of OBSERVER_SIGNED. */
    int64_t as_i64;
    /** Of OBSERVER_FLOAT. */
    double as_f64;
} observer_number_t;

/** A number of a field. */
typedef struct {
    /** OBSERVER_UNSIGNED, OBSERVER_SIGNED or OBSERVER_FLOAT: which member of number it is. */
    uint32_t type;
    /** Zero. */
    uint32_t reserved;
    /** The number. */
    observer_number_t number;
} observer_value_t;

/** Where a field is. */
typedef struct {
    /** In this process's memory, aligned or not. */
    void *address;
    /** Its bytes. */
    uint32_t length;
    /** OBSERVER_U8 to OBSERVER_F64_BE. */
    uint8_t type;
    /** Zero. */
    uint8_t reserved[3];
} observer_slot_t;

/** How a store is made or opened. Zero means the default; set size, zero the rest, then set what matters. */
typedef struct {
    /** sizeof(observer_store_options_t). */
    size_t size;
    /** OBSERVER_READ_ONLY, OBSERVER_CHECKED. */
    uint32_t flags;
    /** Permissions of a new store; default 0600. */
    uint32_t mode;
    /** Bytes of a segment of a new store, up to 1 MiB; default 512. */
    uint32_t segment_size;
    /** Segments of a new store, up to 65536; default 64. It grows. */
    uint32_t segments;
} observer_store_options_t;

/** Who has a segment. */
typedef struct {
    /** sizeof(observer_worker_t), set by the caller. */
    size_t size;
    /** When it took the segment: nanoseconds since 1970. */
    int64_t since_ns;
    /** Where the segment begins in the file. */
    uint64_t offset;
    /** Its process. */
    uint32_t pid;
    /** OBSERVER_UNDESCRIBED, OBSERVER_ALIVE or OBSERVER_DEAD. */
    uint32_t state;
    /** How many fields it has. */
    uint32_t fields;
    /** Zero. */
    uint32_t reserved;
    /** Its service; cut to 127 bytes. */
    char service[128];
} observer_worker_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The type of a name: Ruby's of IO::Buffer, such as "U8", "u16" or "F64", or one of u8, s8, and i8, i16 to i64 for the
 * signed ones.
 *
 * Returns: the type; -EINVAL when name is NULL or names none.
 *
 * Threads: any. Blocking: no.
 *
 * Safety: name is NULL or a C string.
 */
int32_t observer_type(const char *name);

/**
 * Ruby's name of a type. Static text; NULL when there is no such type.
 *
 * Threads: any.
 */
const char *observer_type_name(int32_t type);

/**
 * Makes a schema without fields.
 *
 * Parameters: layout: OBSERVER_PACKED or OBSERVER_ALIGNED. schema receives the handle.
 *
 * Returns: 0; -EINVAL.
 *
 * Threads: any. Blocking: no.
 *
 * Safety: schema is NULL or valid for writes.
 */
int32_t observer_schema_new(uint32_t layout, observer_schema_t **schema);

/**
 * Adds a field behind those that are there. Observers that are open already do not notice.
 *
 * Parameters: field is copied.
 *
 * Returns: its index; -EILSEQ for a text that is not UTF-8; -EINVAL for a name, type or kind that cannot be; -EEXIST for a name that is there; -E2BIG for more
 * than 4096 fields.
 *
 * Threads: one, when no other uses the schema. Blocking: no.
 *
 * Safety: schema is NULL or a handle; field is NULL or valid for reads of its size, and its texts are NULL or C strings.
 */
int32_t observer_schema_add(observer_schema_t *schema,
                            const observer_field_t *field);

/**
 * How many fields there are.
 *
 * Returns: their number; -EINVAL.
 *
 * Threads: any number at once. Blocking: no.
 *
 * Safety: schema is NULL or a handle.
 */
int32_t observer_schema_count(const observer_schema_t *schema);

/**
 * How many bytes the fields take.
 *
 * Returns: bytes; -EINVAL.
 *
 * Threads: any number at once. Blocking: no.
 *
 * Safety: schema is NULL or a handle.
 */
int32_t observer_schema_size(const observer_schema_t *schema);

/**
 * The index of a field.
 *
 * Returns: the index; -ENOENT when none has this name.
 *
 * Threads: any number at once. Blocking: no.
 *
 * Safety: schema is NULL or a handle; name is NULL or a C string.
 */
int32_t observer_schema_index(const observer_schema_t *schema, const char *name);

/**
 * Describes a field.
 *
 * Parameters: out: set its size. Its texts, empty ones instead of NULL, live as long as the schema.
 *
 * Returns: 0; -ENOENT when there is no such index.
 *
 * Threads: any number at once. Blocking: no.
 *
 * Safety: schema is NULL or a handle; out is NULL or valid for reads and writes of its size.
 */
int32_t observer_schema_field(const observer_schema_t *schema, uint32_t index, observer_field_t *out);

/**
 * Frees a schema. NULL is nothing. Observers have copies of their own.
 *
 * Returns: 0.
 *
 * Threads: any, when no other call uses the handle. Blocking: no.
 *
 * Safety: schema is NULL or a handle, which is gone afterwards.
 */
int32_t observer_schema_free(observer_schema_t *schema);

/**
 * Opens a segment, a part of a file.
 *
 * Its blocks are allocated, so that a full disk is an error here, and not SIGBUS later. That remains if somebody cuts
 * the file.
 *
 * Parameters: schema is copied. path: of a file that is long enough; links are not followed, unless for reading only.
 * size: bytes of the segment. offset: where it begins, at any byte. options, NULL for the defaults. observer receives
 * the handle.
 *
 * Returns: 0; -EINVAL when the schema is longer than the segment, the segment does not lie in the file, or the aligned
 * layout is not aligned there; -ENOENT,
 * -EACCES, -ELOOP, -ENOSPC and whatever else opening a file can end with.
 *
 * Threads: any. Blocking: no.
 *
 * Safety: schema is NULL or a handle; path is NULL or a C string; options is NULL or valid for reads of its size; observer is
 * NULL or valid for writes.
 */
int32_t observer_open(const observer_schema_t *schema,
                      const char *path,
                      size_t size,
                      uint64_t offset,
                      const observer_options_t *options,
                      observer_t **observer);

/**
 * Closes a segment, whose numbers stay. NULL is nothing.
 *
 * Returns: 0.
 *
 * Threads: any, when no other call uses the handle. Blocking: no.
 *
 * Safety: observer is NULL or a handle, which is gone afterwards.
 */
int32_t observer_close(observer_t *observer);

/**
 * The index of a field, for the calls by index.
 *
 * Returns: the index; -ENOENT when none has this name.
 *
 * Threads: any number at once. Blocking: no.
 *
 * Safety: observer is NULL or a handle; name is NULL or a C string.
 */
int32_t observer_index(const observer_t *observer, const char *name);

/**
 * Stores a number in the field of a name.
 *
 * Parameters: value: for a field of integers its fraction is cut off.
 *
 * Returns: 0; -ENOENT when none has this name; and as observer_set_u64.
 *
 * Threads: any number at once. Blocking: no.
 *
 * Safety: observer is NULL or a handle; name is NULL or a C string.
 */
int32_t observer_set(const observer_t *observer, const char *name, double value);

/**
 * Stores an unsigned number.
 *
 * Returns: 0; -ENOENT when there is no such index; with OBSERVER_REFUSE -ERANGE when the field cannot hold it; -EACCES
 * when the observer is for reading only; SHMHOT_EFORK in a child of the process that opened it. Nothing is stored then.
 *
 * Threads: any number at once. Blocking: no.
 *
 * Safety: observer is NULL or a handle.
 */
int32_t observer_set_u64(const observer_t *observer, uint32_t index, uint64_t value);

/**
 * Stores a signed number.
 *
 * Returns, Threads, Blocking: as observer_set_u64.
 *
 * Safety: observer is NULL or a handle.
 */
int32_t observer_set_i64(const observer_t *observer, uint32_t index, int64_t value);

/**
 * Stores a float; for a field of integers its fraction is cut off.
 *
 * Returns: -EDOM when value is not a number and the field holds integers; and as observer_set_u64.
 *
 * Threads, Blocking: as observer_set_u64.
 *
 * Safety: observer is NULL or a handle.
 */
int32_t observer_set_f64(const observer_t *observer, uint32_t index, double value);

/**
 * Adds an unsigned number to a field: exactly, beside other threads with this observer; in the aligned layout beside
 * everybody. A sum that the field cannot hold is clamped, or -ERANGE with OBSERVER_REFUSE.
 *
 * Returns: as observer_set_u64.
 *
 * Threads: any number at once; in the packed layout they take turns. Blocking: no.
 *
 * Safety: observer is NULL or a handle.
 */
int32_t observer_add_u64(const observer_t *observer, uint32_t index, uint64_t value);

/**
 * Adds a signed number to a field.
 *
 * Returns, Threads, Blocking: as observer_add_u64.
 *
 * Safety: observer is NULL or a handle.
 */
int32_t observer_add_i64(const observer_t *observer, uint32_t index, int64_t value);

/**
 * Adds a float to a field; in a field of integers the fraction of the sum is cut off.
 *
 * Returns: -EDOM when the sum is not a number and the field holds integers; and as observer_add_u64.
 *
 * Threads, Blocking: as observer_add_u64.
 *
 * Safety: observer is NULL or a handle.
 */
int32_t observer_add_f64(const observer_t *observer, uint32_t index, double value);

/**
 * The number of a field.
 *
 * Returns: 0; -ENOENT when there is no such index.
 *
 * Threads: any number at once, also after a fork. Blocking: no.
 *
 * Safety: observer is NULL or a handle; out is NULL or valid for writes.
 */
int32_t observer_get(const observer_t *observer, uint32_t index, observer_value_t *out);

/**
 * Where a field is in memory, for callers that store by themselves: as long as the observer is open, and if it is not
 * for reading only.
 *
 * Returns: 0; -ENOENT when there is no such index.
 *
 * Threads: any number at once. Blocking: no.
 *
 * Safety: observer is NULL or a handle; out is NULL or valid for writes.
 */
int32_t observer_slot(const observer_t *observer, uint32_t index, observer_slot_t *out);

/**
 * Makes a store anew, a file of segments, and beside it PATH.sidecar, which says what they are. What had these names is
 * removed; whoever has that open keeps it.
 *
 * Parameters: path. options, NULL for the defaults. store receives the handle.
 *
 * Returns: 0; -EINVAL for a size or mode that cannot be; -EBUSY when another process is changing it for too long; -ENOSPC,
 * -EACCES and whatever else making a file can end with: what was there before is gone then.
 *
 * Threads: any. Blocking: one second at most.
 *
 * Safety: path is NULL or a C string; options is NULL or valid for reads of its size; store is NULL or valid for writes.
 */
int32_t observer_store_create(const char *path,
                              const observer_store_options_t *options,
                              observer_store_t **store);

/**
 * Opens a store.
 *
 * Parameters: options, NULL for the defaults; what concerns a new store does not matter.
 *
 * Returns: 0; -ENOENT, -EACCES and whatever else opening a file can end with; -EPROTO when the sidecar is damaged, of
 * another version, or does not go with the file.
 *
 * Threads: any. Blocking: no.
 *
 * Safety: path is NULL or a C string; options is NULL or valid for reads of its size; store is NULL or valid for writes.
 */
int32_t observer_store_open(const char *path, const observer_store_options_t *options, observer_store_t **store);

/**
 * Closes a store; its files stay. NULL is nothing.
 *
 * Returns: 0.
 *
 * Threads: any, when no other call uses the handle. Blocking: no.
 *
 * Safety: store is NULL or a handle, which is gone afterwards.
 */
int32_t observer_store_close(observer_store_t *store);

/**
 * Opens what has the store's name now, after it was made anew or mended. If that fails, all is as before.
 *
 * Returns: as observer_store_open; SHMHOT_EFORK in a child of the process that opened it.
 *
 * Threads: any number; they take turns. Blocking: one second at most.
 *
 * Safety: store is NULL or a handle.
 */
int32_t observer_store_reopen(const observer_store_t *store);

/**
 * Bytes of a segment: segment i begins at i times as many.
 *
 * Returns: bytes; SHMHOT_EFORK in a child.
 *
 * Threads: any number; they take turns. Blocking: one second at most.
 *
 * Safety: store is NULL or a handle.
 */
int32_t observer_store_segment_size(const observer_store_t *store);

/**
 * How many segments there are, taken or not.
 *
 * Returns: their number; SHMHOT_EFORK in a child.
 *
 * Threads: any number; they take turns. Blocking: one second at most.
 *
 * Safety: store is NULL or a handle.
 */
int32_t observer_store_count(const observer_store_t *store);

/**
 * Takes a segment for a worker, the one that has been free for longest; its numbers are zero. When none is free, the
 * store grows under everybody who has it open.
 *
 * Parameters: schema, NULL when the worker has yet to say what its numbers are. service, NULL for none. pid: the
 * worker's process, 0 for the caller.
 *
 * Returns: the segment; -EINVAL when the schema is longer than a segment, or aligned and segments are not; -EMSGSIZE when the sidecar has no room for its
 * texts; -ESRCH when there is no such process; -EBUSY when another process is changing the store for too long; -EACCES
 * when it is for reading only; -ENOSPC; SHMHOT_EFORK in a child.
 *
 * Threads: any number; they take turns. Blocking: one second at most.
 *
 * Safety: store and schema are NULL or handles; service is NULL or a C string.
 */
int32_t observer_store_allocate(const observer_store_t *store,
                                const observer_schema_t *schema,
                                const char *service,
                                uint32_t pid);

/**
 * Says what a taken segment holds, and for whom: for supervisors that learn it later.
 *
 * Returns: 0; -ENOENT when the segment is not taken; -EINVAL when schema is NULL; and as observer_store_allocate.
 *
 * Threads, Blocking: as observer_store_allocate.
 *
 * Safety: store and schema are NULL or handles; service is NULL or a C string.
 */
int32_t observer_store_describe(const observer_store_t *store,
                                uint32_t segment,
                                const observer_schema_t *schema,
                                const char *service,
                                uint32_t pid);

/**
 * Makes the store n segments large, if it is not yet, under everybody who has it open. It grows by itself, too.
 *
 * Returns: how many segments there are then; -ENOSPC; and -EBUSY, -EACCES and SHMHOT_EFORK as observer_store_allocate.
 *
 * Threads, Blocking: as observer_store_allocate.
 *
 * Safety: store is NULL or a handle.
 */
int32_t observer_store_grow(const observer_store_t *store, uint32_t n);

/**
 * Gives a segment back. Its numbers become zero.
 *
 * Returns: 0; -ENOENT when it is not taken; -EBUSY, -EACCES and SHMHOT_EFORK as observer_store_allocate.
 *
 * Threads, Blocking: as observer_store_allocate.
 *
 * Safety: store is NULL or a handle.
 */
int32_t observer_store_free(const observer_store_t *store, uint32_t segment);

/**
 * Gives back the segments of workers whose processes have ended. Until then their last numbers can be read.
 *
 * Returns: how many; and as observer_store_free.
 *
 * Threads, Blocking: as observer_store_allocate.
 *
 * Safety: store is NULL or a handle.
 */
int32_t observer_store_reap(const observer_store_t *store);

/**
 * The next taken segment.
 *
 * Parameters: after: the last one, -1 to begin.
 *
 * Returns: the segment; -ENOENT after the last one; SHMHOT_EFORK in a child.
 *
 * Threads: any number; they take turns. Blocking: one second at most.
 *
 * Safety: store is NULL or a handle.
 */
int32_t observer_store_next(const observer_store_t *store, int32_t after);

/**
 * Who has a segment.
 *
 * Parameters: out: set its size.
 *
 * Returns: 0; -ENOENT when it is not taken; -EPROTO when its page in the sidecar is damaged; -ETIMEDOUT when somebody
 * has died while writing that; SHMHOT_EFORK in a child.
 *
 * Threads: any number; they take turns. Blocking: 100 ms at most.
 *
 * Safety: store is NULL or a handle; out is NULL or valid for reads and writes of its size.
 */
int32_t observer_store_worker(const observer_store_t *store, uint32_t segment, observer_worker_t *out);

/**
 * What the numbers of a segment are.
 *
 * Parameters: schema receives a handle of the caller's own, to be freed with observer_schema_free.
 *
 * Returns: 0; -ENODATA when nobody has said; and as observer_store_worker.
 *
 * Threads, Blocking: as observer_store_worker.
 *
 * Safety: store is NULL or a handle; schema is NULL or valid for writes.
 */
int32_t observer_store_schema(const observer_store_t *store, uint32_t segment, observer_schema_t **schema);

/**
 * The numbers of a segment, in the order of its schema. All are one worker's, and each is whole if it is aligned.
 *
 * Parameters: values receives at most cap of them; it may be NULL when cap is 0.
 *
 * Returns: how many fields there are; -ENODATA when nobody has said; -EPROTO when the file was cut; and as
 * observer_store_worker.
 *
 * Threads, Blocking: as observer_store_worker.
 *
 * Safety: store is NULL or a handle; values is valid for writes of cap elements.
 */
int32_t observer_store_read(const observer_store_t *store, uint32_t segment, observer_value_t *values, uint32_t cap);

/**
 * The numbers of many segments at once.
 *
 * Parameters: first, n: the segments. values, cap: those of segment first + i go to values + i * cap, as observer_store_read
 * has it. counts[i] receives what that would return for the segment; when it is negative, the values mean nothing.
 *
 * Returns: how many segments there were, at most n; -EINVAL; SHMHOT_EFORK in a child.
 *
 * Threads, Blocking: as observer_store_sum.
 *
 * Safety: store is NULL or a handle; values is valid for writes of n * cap elements, counts of n.
 */
int32_t observer_store_read_many(const observer_store_t *store,
                                 uint32_t first,
                                 uint32_t n,
                                 observer_value_t *values,
                                 uint32_t cap,
                                 int32_t *counts);

/**
 * The sum of a field over all workers, or over those of a service; dead ones count until they are reaped.
 *
 * Parameters: service, NULL for all. field, its name. out receives the sum.
 *
 * Returns: how many workers have the field; SHMHOT_EFORK in a child.
 *
 * Threads: any number; they take turns. Blocking: 100 ms at most for each worker that died while changing the store.
 *
 * Safety: store is NULL or a handle; service is NULL or a C string, field too; out is NULL or valid for writes.
 */
int32_t observer_store_sum(const observer_store_t *store,
                           const char *service,
                           const char *field,
                           observer_value_t *out);

/**
 * All numbers of all workers as text that Prometheus reads, with labels service, pid and segment, and shmhot_worker_up,
 * which is 0 for the dead.
 *
 * Parameters: format: OBSERVER_PROMETHEUS or OBSERVER_OPENMETRICS. buf receives at most cap - 1 bytes of it and a NUL; it
 * may be NULL when cap is 0.
 *
 * Returns: the length of the whole text without the NUL, which may be another one at the next call; -EINVAL;
 * SHMHOT_EFORK in a child.
 *
 * Threads, Blocking: as observer_store_sum.
 *
 * Safety: store is NULL or a handle; buf is valid for writes of cap bytes.
 */
int32_t observer_store_exposition(const observer_store_t *store,
                                  uint32_t format,
                                  char *buf,
                                  size_t cap);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SHMHOT_OBSERVER_H */
