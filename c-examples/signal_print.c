/* Follows a stream of this library or of ezmsg-tools, and prints what comes, once a second.
 *
 *     signal_print [-n count] [-i seconds] [name]
 *
 * The stream may begin later, get another format, or be made anew by another process. Status 1 when it is damaged. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <shmhot.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1 << 20 }; /* bytes to be read at once, or one frame */

static const char *const states[] = {
    [CIRCBUF_ABSENT] = "there is no such stream",
    [CIRCBUF_UNCONFIGURED] = "there is no format yet",
    [CIRCBUF_ALIVE] = "alive",
    [CIRCBUF_DEAD] = "its writer has died",
    [CIRCBUF_ENDED] = "its writer has ended it",
    [CIRCBUF_UNKNOWN] = "its writer does not say whether it lives",
};

static circbuf_mirror_t *mirror;
static circbuf_format_t format = {.size = sizeof format};
static size_t frame_size;
static void *frames;
static size_t frames_size;

/* What came since the last line. */
static uint64_t came, lost;

static int32_t check(int32_t status, const char *what)
{
    if (status < 0) {
        char why[512];
        shmhot_last_error(why, sizeof why);
        fprintf(stderr, "signal_print: %s: %s\n", what, why);
        exit(1);
    }
    return status;
}

static void *resized(void *memory, size_t size)
{
    memory = realloc(memory, size);
    if (!memory) {
        perror("signal_print");
        exit(1);
    }
    return memory;
}

static circbuf_info_t info(void)
{
    circbuf_info_t info = {.size = sizeof info};
    check(circbuf_mirror_info(mirror, &info), "cannot follow the stream");
    return info;
}

static void print_format(void)
{
    printf("-- frames of %zu bytes, dtype %c, shape (", frame_size, format.dtype);
    for (uint32_t i = 0; i < format.ndim; i++) printf(i ? ", %" PRIu32 : "%" PRIu32, format.shape[i]);
    printf("), at %g Hz, %" PRIu64 " in the ring, key \"%s\"\n", format.rate, format.frames, format.key);
}

/* Frames that come from now on are other ones. */
static void learn_format(void)
{
    int32_t status = circbuf_mirror_format(mirror, &format);
    if (status == -ENOENT || status == -EAGAIN)
        return; /* it has gone meanwhile */
    check(status, "cannot follow the stream");

    circbuf_ring_t *ring;
    circbuf_memory_t memory = {.size = sizeof memory};
    check(circbuf_mirror_ring(mirror, &ring), "cannot find the ring");
    check(circbuf_ring_memory(ring, &memory), "cannot find the ring");
    check(circbuf_ring_free(ring), "cannot leave the ring");
    frame_size = memory.frame_size;
    frames_size = frame_size > ROOM ? frame_size : ROOM;
    frames = resized(frames, frames_size);
    print_format();
}

static void print_metadata(void)
{
    char *json = NULL;
    int32_t length, size = 0;
    while ((length = circbuf_mirror_metadata(mirror, json, (size_t)size)) >= size) {
        size = length + 1;
        json = resized(json, (size_t)size);
    }
    if (length != -ENODATA) { /* it has gone meanwhile */
        check(length, "cannot read the metadata");
        printf("-- %s\n", json);
    }
    free(json);
}

static void read_all(void)
{
    circbuf_span_t span = {.size = sizeof span};
    int32_t n;
    while ((n = circbuf_mirror_read(mirror, frames, frames_size, NULL, UINT32_MAX, &span)) > 0) {
        came += span.count;
        lost += span.lost;
    }
    if (n != -ESTALE) /* which the next wait says, too */
        check(n, "cannot read");
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void follow(double until)
{
    for (double left; (left = until - now()) > 0;) {
        uint32_t some = format.rate > 100 ? (uint32_t)(format.rate / 50) : 1; /* 20 ms of them: few wake-ups */
        switch (circbuf_mirror_wait(mirror, some, (uint32_t)(left * 1000) + 1)) {
        case -ESTALE: learn_format(); break;
        case -ENOENT: case -EOWNERDEAD: case -ENODATA: break; /* the state tells */
        case -EPROTO: check(-EPROTO, "the stream is damaged"); break;
        default: read_all();
        }
    }
}

static void print_line(double seconds)
{
    static uint32_t metadata;
    circbuf_info_t found = info();
    if (found.metadata_generation != metadata) {
        metadata = found.metadata_generation;
        print_metadata();
    }
    printf("%12" PRIu64 "%12.1f%12.3f%12" PRIu64 "  %s", found.position, (double)came / seconds,
           (double)(came * frame_size) / seconds / 1e6, lost, states[found.state]);
    if (found.state == CIRCBUF_ALIVE)
        printf(": process %" PRIu32, found.pid);
    putchar('\n');
    came = lost = 0;
}

static double number(const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= least && value <= most)) {
        fprintf(stderr, "signal_print: %s is not a number from %g to %.12g\n", text, least, most);
        exit(2);
    }
    return value;
}

static _Noreturn void usage(void)
{
    fputs("usage: signal_print [-n count] [-i seconds] [name]\n", stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    double interval = 1;
    uint64_t count = UINT64_MAX;
    int option;
    while ((option = getopt(argc, argv, "n:i:")) != -1) {
        switch (option) {
        case 'n': count = (uint64_t)number(optarg, 1, 1e9); break;
        case 'i': interval = number(optarg, 0.001, 3600); break;
        default: usage();
        }
    }
    if (argc - optind > 1)
        usage();

    check(circbuf_mirror_open(optind < argc ? argv[optind] : "machine", NULL, &mirror), "cannot follow the stream");
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%12s%12s%12s%12s  %s\n", "position", "frames/s", "MB/s", "lost", "state");
    double begin = now();
    for (uint64_t line = 0; line < count; line++) {
        follow(begin + interval);
        double end = now();
        print_line(end - begin);
        begin = end;
    }
    check(circbuf_mirror_close(mirror), "cannot leave the stream");
    free(frames);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("signal_print: standard output");
        return 1;
    }
}
