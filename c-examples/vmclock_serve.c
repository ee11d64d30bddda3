/* Makes a clock page on a machine whose hypervisor gives it none, from the counter of its processor and the clock of
 * its kernel, and keeps it fresh.
 *
 *     vmclock_serve [-i seconds] [--keep] [path]
 *
 * SIGINT and SIGTERM end it with status 0; the page goes with it, unless it is to be kept. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <shmhot.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void check(int32_t status, const char *what)
{
    if (status < 0) {
        char why[512];
        shmhot_last_error(why, sizeof why);
        fprintf(stderr, "vmclock_serve: %s: %s\n", what, why);
        exit(1);
    }
}

static void tell(const char *path, const vmclock_snapshot_t *page, uint64_t bracket_ns)
{
    printf("serving %s: %s, read within %" PRIu64 " ns, maximum error %" PRIu64 " ns\n", path,
           page->time_type == VMCLOCK_TIME_TAI ? "TAI" : "UTC", bracket_ns, page->time_maxerror_nanosec);
    if (fflush(stdout) != 0) {
        perror("vmclock_serve: standard output");
        exit(1);
    }
}

/* False when one of the signals has come meanwhile. */
static bool rest(double seconds, const sigset_t *ends)
{
    struct timespec interval = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    int signal;
    do
        signal = sigtimedwait(ends, NULL, &interval);
    while (signal < 0 && errno == EINTR);
    return signal < 0;
}

static double seconds(const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= 0.001 && value <= 3600)) {
        fprintf(stderr, "vmclock_serve: %s is not a number of seconds from 0.001 to 3600\n", text);
        exit(2);
    }
    return value;
}

static _Noreturn void usage(void)
{
    fputs("usage: vmclock_serve [-i seconds] [--keep] [path]\n", stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    static const struct option words[] = {{"keep", no_argument, NULL, 'k'}, {0}};
    double interval = 1;
    bool keep = false;
    int option;
    while ((option = getopt_long(argc, argv, "i:k", words, NULL)) != -1) {
        switch (option) {
        case 'i': interval = seconds(optarg); break;
        case 'k': keep = true; break;
        default: usage();
        }
    }
    if (argc - optind > 1)
        usage();
    const char *path = optind < argc ? argv[optind] : "/dev/shm/vmclock0";

    sigset_t ends; /* blocked: they come when the page rests, never within an update */
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, NULL);

    vmclock_calibrator_t *calibrator;
    vmclock_writer_t *writer = NULL;
    check(vmclock_calibrator_create(&calibrator), "cannot use this machine's counter");
    do {
        vmclock_snapshot_t page;
        uint64_t bracket_ns;
        int32_t status = vmclock_calibrator_measure(calibrator, &page, &bracket_ns);
        if (status == -EAGAIN) /* a page that is not refreshed stays true: its bound grows */
            continue;
        check(status, "cannot measure");
        bool first = !writer;
        if (first) /* not earlier, so that no reader meets a page without time */
            check(vmclock_writer_create(path, 0, &writer), "cannot make the page");
        check(vmclock_writer_write(writer, &page), "cannot write the page");
        if (first)
            tell(path, &page, bracket_ns);
    } while (rest(interval, &ends));

    check(keep ? vmclock_writer_close(writer) : vmclock_writer_remove(writer), "cannot remove the page");
    check(vmclock_calibrator_close(calibrator), "cannot close the calibrator");
}
