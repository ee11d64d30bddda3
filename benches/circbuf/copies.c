/* Chunks of 64 frames of 128 float32, 32 KiB, written and read beside what memcpy takes for that with an equal ring:
 * copies CHUNKS ROUNDS NAME. CHUNKS: how many the ring holds. Prints nanoseconds for a chunk, a line for each round:
 *
 *   memcpy into the ring, circbuf_write, circbuf_reserve + memcpy + circbuf_commit, memcpy again,
 *   memcpy out of the ring, circbuf_mirror_read, circbuf_mirror_view + is_intact, memcpy again */
#include "bench.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

enum { FRAMES = 64, CHANNELS = 128, BYTES = FRAMES * CHANNELS * sizeof(float) };
enum { AT_LEAST = 2048 }; /* chunks, of a turn */

static size_t chunks;
static char *into, *from; /* a ring like the stream's, mapped as that is: for writing, and for reading */
static float chunk[BYTES / sizeof(float)];
static circbuf_t *stream;
static circbuf_mirror_t *mirror;

/* Shared memory of which frames begin where they begin in the ring of a stream: behind the timestamps. */
static void make_equal_ring(const char *name)
{
    size_t begin = chunks * FRAMES * sizeof(double), size = begin + chunks * BYTES;
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || shm_unlink(name) < 0 || ftruncate(fd, (off_t)size) < 0) {
        perror(name);
        exit(1);
    }
    into = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    from = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (into == MAP_FAILED || from == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    into += begin;
    from += begin;
}

/* As the compiler sees it, anybody may look at memory here. */
static void be_seen(const void *memory)
{
    __asm__ volatile("" : : "r"(memory) : "memory");
}

static void copy_in(void)
{
    for (size_t i = 0; i < chunks; i++) {
        memcpy(into + i * BYTES, chunk, BYTES);
        be_seen(into);
    }
}

static void write_chunks(void)
{
    for (size_t i = 0; i < chunks; i++)
        check(circbuf_write(stream, chunk, NULL, FRAMES));
}

static void reserve_and_commit(void)
{
    circbuf_reservation_t room = {.size = sizeof room};
    for (size_t i = 0; i < chunks; i++) {
        check(circbuf_reserve(stream, FRAMES, &room)); /* in one part: the ring has a whole number of chunks */
        memcpy(room.frames[0], chunk, BYTES);
        check(circbuf_commit(stream, FRAMES));
    }
}

static void copy_out(void)
{
    for (size_t i = 0; i < chunks; i++) {
        memcpy(chunk, from + i * BYTES, BYTES);
        be_seen(chunk);
    }
}

static void read_chunks(void)
{
    check(circbuf_mirror_seek(mirror, 0));
    for (size_t i = 0; i < chunks; i++)
        if (check(circbuf_mirror_read(mirror, chunk, BYTES, NULL, FRAMES, NULL)) != FRAMES)
            exit(3);
}

static void view_chunks(void)
{
    circbuf_view_t view = {.size = sizeof view};
    check(circbuf_mirror_seek(mirror, 0));
    for (size_t i = 0; i < chunks; i++)
        if (check(circbuf_mirror_view(mirror, FRAMES, &view)) != FRAMES ||
            check(circbuf_mirror_view_is_intact(mirror, &view)) != 1)
            exit(3);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    chunks = strtoul(argv[1], NULL, 10);
    size_t passes = (AT_LEAST + chunks - 1) / chunks;
    make_equal_ring(argv[3]);
    stream = make_stream(argv[3], CHANNELS, chunks * FRAMES);
    mirror = make_mirror(argv[3]);
    stay_on(0);

    void (*const work[])(void) = {copy_in,  write_chunks, reserve_and_commit, copy_in,
                                  copy_out, read_chunks,  view_chunks,        copy_out};
    enum { WAYS = sizeof work / sizeof *work };
    /* Once for nothing, so that all memory is there. */
    for (size_t way = 0; way < WAYS; way++)
        work[way]();
    for (unsigned long rounds = strtoul(argv[2], NULL, 10), round = 0; round < rounds; round++) {
        double taken[WAYS];
        for (size_t turn = 0; turn < WAYS; turn++) {
            size_t way = (round + turn) % WAYS; /* nobody is always the first */
            double begin = now_ns();
            for (size_t pass = 0; pass < passes; pass++)
                work[way]();
            taken[way] = (now_ns() - begin) / (double)(passes * chunks);
        }
        for (size_t way = 0; way < WAYS; way++)
            printf("%.2f%c", taken[way], way + 1 < WAYS ? ' ' : '\n');
    }
    check(circbuf_mirror_close(mirror));
    check(circbuf_close(stream));
    return 0;
}
