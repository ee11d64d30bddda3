/* Streams signals of this machine: the load of each CPU, context switches, interrupts, and bytes over the network.
 *
 *     signal_source [-r rate] [-s seconds] [name]
 *
 * Frames are rows of float32, by default 1000 a second in a ring of 10 seconds. Their timestamps are CLOCK_MONOTONIC,
 * which is Python's time.monotonic(). SIGINT and SIGTERM end it with status 0, and the stream with it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <shmhot.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The channels behind those of the CPUs. */
enum { SWITCHES, INTERRUPTS, RECEIVED, SENT, OTHERS };

static const struct {
    const char *label, *unit;
} others[OTHERS] = {
    [SWITCHES] = {"switches", "1/s"},
    [INTERRUPTS] = {"interrupts", "1/s"},
    [RECEIVED] = {"received", "B/s"},
    [SENT] = {"sent", "B/s"},
};

/* The kernel counts a CPU's time in ticks of 10 ms, so a load is that of about so many seconds. */
static const double load_span = 0.1;

static int stat_fd, net_fd;
static uint32_t cpus;

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "signal_source: %s: %s\n", what, why);
    exit(1);
}

static void check(int32_t status, const char *what)
{
    if (status < 0) {
        char why[512];
        shmhot_last_error(why, sizeof why);
        fail(what, why);
    }
}

static void *zeroed(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory)
        fail("cannot begin", strerror(errno));
    return memory;
}

static int open_proc(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        fail(path, strerror(errno));
    return fd;
}

/* The file as it is now; valid until the next call. */
static char *read_proc(int fd, const char *path)
{
    static char text[1 << 18];
    ssize_t length = pread(fd, text, sizeof text, 0);
    if (length < 0 || length == sizeof text)
        fail(path, length < 0 ? strerror(errno) : "longer than expected");
    text[length] = '\0';
    return text;
}

static char *next_line(char *line)
{
    char *end = strchr(line, '\n');
    return end ? end + 1 : line + strlen(line);
}

/* Of a line of /proc/stat: all of a CPU's time but the idle one. Guests' time is in that of users. */
static uint64_t busy_ticks(char *numbers)
{
    uint64_t busy = 0;
    for (int field = 0; field < 8; field++) { /* user nice system idle iowait irq softirq steal */
        uint64_t ticks = strtoull(numbers, &numbers, 10);
        if (field != 3 && field != 4)
            busy += ticks;
    }
    return busy;
}

/* What the kernel has counted so far, in the order of the channels. */
static void count(uint64_t *counts)
{
    memset(counts, 0, (cpus + OTHERS) * sizeof *counts); /* a CPU that is off has no line, an interface can go */
    uint64_t *rest = counts + cpus;
    for (char *line = read_proc(stat_fd, "/proc/stat"); *line; line = next_line(line)) {
        if (strncmp(line, "cpu", 3) == 0 && line[3] != ' ') {
            char *numbers;
            unsigned long cpu = strtoul(line + 3, &numbers, 10);
            if (cpu < cpus)
                counts[cpu] = busy_ticks(numbers);
        } else if (strncmp(line, "ctxt ", 5) == 0) {
            rest[SWITCHES] = strtoull(line + 5, NULL, 10);
        } else if (strncmp(line, "intr ", 5) == 0) {
            rest[INTERRUPTS] = strtoull(line + 5, NULL, 10);
        }
    }
    for (char *line = read_proc(net_fd, "/proc/net/dev"); *line; line = next_line(line)) {
        char *number = strchr(line, ':'); /* the lines of the head have none */
        for (int field = 0; number && field < 9; field++) {
            uint64_t value = strtoull(number + (field == 0), &number, 10);
            if (field == 0)
                rest[RECEIVED] += value;
            else if (field == 8)
                rest[SENT] += value;
        }
    }
}

/* A frame: what was counted in so many seconds. */
static void measure(float *frame, const uint64_t *counts, const uint64_t *before, double seconds)
{
    double tick = 1.0 / (double)sysconf(_SC_CLK_TCK), weight = seconds / (load_span + seconds);
    for (uint32_t i = 0; i < cpus + OTHERS; i++) {
        double rate = counts[i] > before[i] ? (double)(counts[i] - before[i]) / seconds : 0;
        if (i < cpus)
            frame[i] += (float)(weight * (100 * rate * tick - frame[i]));
        else
            frame[i] = (float)rate;
    }
}

/* The names and units of the channels, for readers that want to show them. */
static void describe(const circbuf_t *stream, double rate)
{
    char *json;
    size_t length;
    FILE *out = open_memstream(&json, &length);
    if (!out)
        fail("cannot describe the stream", strerror(errno));
    fputs("{\"key\": \"machine\", \"dims\": [\"time\", \"ch\"], \"buffered_axis\": \"time\"", out);
    fputs(", \"stream_dim\": \"time\"", out);
    fprintf(out, ", \"axes\": {\"time\": {\"kind\": \"linear\", \"unit\": \"s\", \"gain\": %.17g}", 1 / rate);
    fputs(", \"ch\": {\"kind\": \"coord\", \"data\": [", out);
    for (uint32_t cpu = 0; cpu < cpus; cpu++) fprintf(out, "\"cpu%" PRIu32 "\", ", cpu);
    for (int i = 0; i < OTHERS; i++) fprintf(out, "%s\"%s\"", i ? ", " : "", others[i].label);
    fputs("]}}, \"attrs\": {\"units\": [", out);
    for (uint32_t cpu = 0; cpu < cpus; cpu++) fputs("\"%\", ", out);
    for (int i = 0; i < OTHERS; i++) fprintf(out, "%s\"%s\"", i ? ", " : "", others[i].unit);
    fputs("]}}", out);
    if (fclose(out) != 0)
        fail("cannot describe the stream", strerror(errno));
    check(circbuf_set_metadata(stream, json), "cannot describe the stream");
    free(json);
}

static circbuf_t *make_stream(const char *name, double rate, double seconds)
{
    circbuf_format_t format = {.size = sizeof format, .dtype = 'f', .rate = rate, .seconds = seconds,
                               .ndim = 1, .shape = {cpus + OTHERS}, .key = "machine"};
    circbuf_options_t options = {.size = sizeof options, .name = name};
    circbuf_t *stream;
    char object[64];
    check(circbuf_create(&options, &stream), "cannot make the stream");
    describe(stream, rate); /* first, so that who sees the frames knows what they are */
    check(circbuf_configure(stream, &format), "cannot make the ring");
    check(circbuf_short_name(name, object, sizeof object), "cannot name the stream");
    printf("streaming %s, /dev/shm/%s: %" PRIu32 " channels at %g Hz, a ring of %g s\n", name, object, cpus + OTHERS,
           rate, seconds);
    if (fflush(stdout) != 0)
        fail("standard output", strerror(errno));
    return stream;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* False when one of the signals has come meanwhile. */
static bool rest_until(double due, const sigset_t *ends)
{
    int signal;
    do {
        double seconds = due - now();
        if (seconds < 0)
            seconds = 0;
        struct timespec span = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
        signal = sigtimedwait(ends, NULL, &span);
    } while (signal < 0 && errno == EINTR);
    return signal < 0;
}

static double number(const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= least && value <= most)) {
        fprintf(stderr, "signal_source: %s is not a number from %g to %g\n", text, least, most);
        exit(2);
    }
    return value;
}

static _Noreturn void usage(void)
{
    fputs("usage: signal_source [-r rate] [-s seconds] [name]\n", stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    double rate = 1000, seconds = 10;
    int option;
    while ((option = getopt(argc, argv, "r:s:")) != -1) {
        switch (option) {
        case 'r': rate = number(optarg, 1, 10000); break;
        case 's': seconds = number(optarg, 0.1, 3600); break;
        default: usage();
        }
    }
    if (argc - optind > 1)
        usage();
    const char *name = optind < argc ? argv[optind] : "machine";

    sigset_t ends; /* blocked: they come between two frames */
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, NULL);

    stat_fd = open_proc("/proc/stat");
    net_fd = open_proc("/proc/net/dev");
    cpus = (uint32_t)sysconf(_SC_NPROCESSORS_CONF);
    float *frame = zeroed(cpus + OTHERS, sizeof *frame);
    uint64_t *counts = zeroed(cpus + OTHERS, sizeof *counts), *before = zeroed(cpus + OTHERS, sizeof *before);
    circbuf_t *stream = make_stream(name, rate, seconds);

    count(before);
    double last = now(), due = last;
    for (;;) {
        due += 1 / rate;
        if (due < last) /* frames that are overdue are left out, and their timestamps show it */
            due = last;
        if (!rest_until(due, &ends))
            break;
        count(counts);
        double time = now();
        measure(frame, counts, before, time - last);
        check(circbuf_write(stream, frame, &time, 1), "cannot write a frame");
        uint64_t *old = before;
        before = counts;
        counts = old;
        last = time;
    }
    check(circbuf_close(stream), "cannot remove the stream");
    free(frame);
    free(counts);
    free(before);
}
