/* A writer at full speed, 32 KiB at a time, beside 0, 1 and 4 processes that copy what they can get, and on a processor
 * of its own if there are two: readers ROUNDS NAME. The same is done with bare memory, since each cache line that another
 * processor has read must be fetched back, whoever writes it. Prints nanoseconds for a chunk, a line for each round:
 * memcpy beside 0, 1, 4, circbuf_write beside 0, 1, 4. */
#include "bench.h"
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { FRAMES = 64, CHANNELS = 128, BYTES = FRAMES * CHANNELS * sizeof(float), CHUNKS = 64 };
enum { READERS = 4, WRITES = 4000, SETTLE_US = 2000 };

static struct shared {
    _Atomic int reading;     /* how many do */
    _Atomic bool is_circbuf; /* and what */
    _Atomic uint64_t copied; /* chunks that are in the memory */
    char chunks[CHUNKS][BYTES];
} *shared;

static char chunk[BYTES];

static void read_on(const char *name, int number)
{
    circbuf_mirror_t *mirror = make_mirror(name);
    for (uint64_t seen = 0;;) {
        if (number >= shared->reading) {
            usleep(SETTLE_US / 4);
        } else if (shared->is_circbuf) {
            check(circbuf_mirror_read(mirror, chunk, sizeof chunk, NULL, FRAMES, NULL));
        } else if (seen != shared->copied) {
            memcpy(chunk, shared->chunks[seen++ % CHUNKS], BYTES);
        }
    }
}

static void write_on(circbuf_t *stream)
{
    for (int i = 0; i < WRITES; i++)
        if (shared->is_circbuf) {
            check(circbuf_write(stream, chunk, NULL, FRAMES));
        } else {
            memcpy(shared->chunks[shared->copied % CHUNKS], chunk, BYTES);
            shared->copied++;
        }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    circbuf_t *stream = make_stream(argv[2], CHANNELS, CHUNKS * FRAMES);
    pid_t readers[READERS];
    for (int i = 0; i < READERS; i++)
        if ((readers[i] = fork_beside()) == 0)
            read_on(argv[2], i);
    stay_on(0);

    const int beside[] = {0, 1, READERS};
    enum { COUNTS = sizeof beside / sizeof *beside, WAYS = 2 * COUNTS };
    for (unsigned long rounds = strtoul(argv[1], NULL, 10), round = 0; round < rounds; round++) {
        double taken[WAYS];
        for (size_t turn = 0; turn < WAYS; turn++) {
            size_t way = (round + turn) % WAYS; /* nobody is always the first */
            shared->is_circbuf = way >= COUNTS;
            shared->reading = beside[way % COUNTS];
            usleep(SETTLE_US);
            double begin = now_ns();
            write_on(stream);
            taken[way] = (now_ns() - begin) / WRITES;
        }
        for (size_t way = 0; way < WAYS; way++)
            printf("%.2f%c", taken[way], way + 1 < WAYS ? ' ' : '\n');
    }
    for (int i = 0; i < READERS; i++) {
        kill(readers[i], SIGTERM);
        waitpid(readers[i], NULL, 0);
    }
    check(circbuf_close(stream));
    return 0;
}
