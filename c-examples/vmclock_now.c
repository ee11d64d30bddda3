/* Prints the time of a clock page, and how sure it is, once a second.
 *
 *     vmclock_now [-n count] [-i seconds] [path]
 *
 * Without a path it reads the hypervisor's own page, /dev/vmclock0. A disruption since the last line is told. So is a
 * page that gives no time, as while the hypervisor synchronizes; the status is then 1. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <shmhot.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

static const char *why(void)
{
    static char sentence[512];
    shmhot_last_error(sentence, sizeof sentence);
    return sentence;
}

static void check(int32_t status, const char *what)
{
    if (status < 0) {
        fprintf(stderr, "vmclock_now: %s: %s\n", what, why());
        exit(1);
    }
}

/* A date and a time of day; a second that is a leap second is number 60. */
static void print_date(int64_t ns, bool known, bool leap)
{
    char text[32] = "-";
    struct tm tm;
    int64_t fraction = (ns % SECOND + SECOND) % SECOND;
    time_t seconds = (time_t)((ns - fraction) / SECOND);
    if (known && gmtime_r(&seconds, &tm)) {
        tm.tm_sec += leap && tm.tm_sec == 59;
        size_t length = strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
        snprintf(text + length, sizeof text - length, ".%09" PRId64, fraction);
    }
    printf("%-30s", text);
}

/* Nanoseconds as milliseconds. */
static void print_ms(const char *sign, uint64_t ns, bool known)
{
    char text[32] = "-";
    if (known)
        snprintf(text, sizeof text, "%s%" PRIu64 ".%06" PRIu64, sign, ns / 1000000, ns % 1000000);
    printf("%14s", text);
}

static void print_time(const vmclock_time_t *now)
{
    bool bounded = now->valid & VMCLOCK_HAS_MAXERROR;
    print_date(now->utc_ns, now->valid & VMCLOCK_HAS_UTC, now->leap_indicator == VMCLOCK_LEAP_POS);
    print_date(now->tai_ns, now->valid & VMCLOCK_HAS_TAI, false);
    print_ms("-", (uint64_t)now->time_ns - (uint64_t)now->earliest_ns, bounded);
    print_ms("+", (uint64_t)now->latest_ns - (uint64_t)now->time_ns, bounded);
    print_ms("", now->esterror_ns, now->valid & VMCLOCK_HAS_ESTERROR);
    printf("  %s", now->clock_status == VMCLOCK_STATUS_SYNCHRONIZED ? "synchronized" : "free running");
    if (now->time_type == VMCLOCK_TIME_MONOTONIC)
        printf(", monotonic time %" PRId64 " ns", now->time_ns);
    if (now->flags & (VMCLOCK_FLAG_DISRUPTION_SOON | VMCLOCK_FLAG_DISRUPTION_IMMINENT))
        printf(", a disruption within %s", now->flags & VMCLOCK_FLAG_DISRUPTION_IMMINENT ? "an hour" : "a day");
    putchar('\n');
}

/* What was measured against the counter before a disruption is worth nothing after it. */
static void print_disruption(const vmclock_time_t *last, const vmclock_time_t *now)
{
    if (now->disruption_marker != last->disruption_marker)
        printf("-- the clock was disrupted: marker %" PRIu64 ", was %" PRIu64 "\n", now->disruption_marker,
               last->disruption_marker);
    if (now->vm_generation_counter != last->vm_generation_counter)
        printf("-- the machine was cloned or taken back: generation %" PRIu64 ", was %" PRIu64 "\n",
               now->vm_generation_counter, last->vm_generation_counter);
}

static void rest(double seconds)
{
    struct timespec interval = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&interval, NULL);
}

static double number(const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= least && value <= most)) {
        fprintf(stderr, "vmclock_now: %s is not a number from %g to %.12g\n", text, least, most);
        exit(2);
    }
    return value;
}

static _Noreturn void usage(void)
{
    fputs("usage: vmclock_now [-n count] [-i seconds] [path]\n", stderr);
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

    vmclock_clock_t *clock;
    vmclock_time_t now, last;
    bool known = false, missed = false;
    check(vmclock_open(argv[optind], &clock), "cannot open the page"); /* argv ends with NULL: the default */
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%-30s%-30s%14s%14s%14s  %s\n", "UTC", "TAI", "earliest, ms", "latest, ms", "estimated, ms", "status");
    for (uint64_t line = 0; line < count; line++) {
        if (line)
            rest(interval);
        int32_t status = vmclock_now(clock, &now);
        if (status == -ENODATA) {
            printf("-- %s\n", why());
            missed = true;
            continue;
        }
        check(status, "cannot read the page");
        if (known)
            print_disruption(&last, &now);
        print_time(&now);
        last = now;
        known = true;
    }
    check(vmclock_close(clock), "cannot close the page");
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("vmclock_now: standard output");
        return 1;
    }
    return missed;
}
