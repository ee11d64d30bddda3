/* From a write to a reader in another process that slept, beside a futex and nothing else: wake ROUNDS NAME. Prints
 * nanoseconds, a line for each round: futex, circbuf, futex again. */
#include "bench.h"
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { CHANNELS = 8, RING = 1000, WAYS = 3, CIRCBUF = 1, SLEEP_US = 200 };

static struct shared {
    _Atomic uint32_t word;     /* what the futex is about */
    _Atomic unsigned int slept; /* turns that the reader is about to sleep in */
    _Atomic unsigned int woken; /* turns that it has been woken in */
    double began;               /* when the turn's write did */
    double taken;
} *shared;

/* Nobody is always the first. */
static unsigned int way_of(unsigned int turn)
{
    return (turn / WAYS + turn) % WAYS;
}

static void be_woken(const char *name, unsigned int turns)
{
    circbuf_mirror_t *mirror = make_mirror(name);
    float frame[CHANNELS];
    for (unsigned int turn = 0; turn < turns; turn++) {
        uint32_t word = shared->word;
        shared->slept = turn + 1;
        if (way_of(turn) == CIRCBUF)
            check(circbuf_mirror_wait(mirror, 1, CIRCBUF_NO_TIMEOUT));
        else
            while (shared->word == word)
                syscall(SYS_futex, &shared->word, FUTEX_WAIT, word, NULL);
        shared->taken = now_ns() - shared->began;
        check(circbuf_mirror_read(mirror, frame, sizeof frame, NULL, 1, NULL));
        shared->woken = turn + 1;
    }
    check(circbuf_mirror_close(mirror));
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    unsigned int turns = WAYS * (unsigned int)strtoul(argv[1], NULL, 10);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    circbuf_t *stream = make_stream(argv[2], CHANNELS, RING);
    pid_t reader = fork_beside();
    if (reader == 0) {
        be_woken(argv[2], turns);
        _exit(0);
    }
    stay_on(0);

    double taken[WAYS];
    float frame[CHANNELS] = {0};
    for (unsigned int turn = 0; turn < turns; turn++) {
        while (shared->slept <= turn)
            usleep(10);
        usleep(SLEEP_US); /* time for it to fall asleep */
        shared->began = now_ns();
        if (way_of(turn) == CIRCBUF) {
            check(circbuf_write(stream, frame, NULL, 1));
        } else {
            shared->word++;
            syscall(SYS_futex, &shared->word, FUTEX_WAKE, INT_MAX);
        }
        while (shared->woken <= turn)
            usleep(10);
        taken[way_of(turn)] = shared->taken;
        if (turn % WAYS == WAYS - 1)
            printf("%.0f %.0f %.0f\n", taken[0], taken[CIRCBUF], taken[2]);
    }
    int status;
    waitpid(reader, &status, 0);
    check(circbuf_close(stream));
    return status == 0 ? 0 : 1;
}
