/* What the programs of this folder have in common. */
#ifndef BENCH_H
#define BENCH_H

#define _GNU_SOURCE
#include <sched.h>
#include <shmhot.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static inline int32_t check(int32_t status)
{
    if (status < 0) {
        char why[256];
        shmhot_last_error(why, sizeof why);
        fprintf(stderr, "%s\n", why);
        exit(1);
    }
    return status;
}

static inline double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* One processor for whoever is measured, another for those beside; any, if there is no other. */
static inline void stay_on(int processor)
{
    cpu_set_t allowed, wanted;
    sched_getaffinity(0, sizeof allowed, &allowed);
    CPU_ZERO(&wanted);
    for (int cpu = 0, nth = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && nth++ == processor) {
            CPU_SET(cpu, &wanted);
            sched_setaffinity(0, sizeof wanted, &wanted);
        }
}

/* A process beside, which ends with this one. */
static inline pid_t fork_beside(void)
{
    pid_t parent = getpid(), child = fork();
    if (child < 0) {
        perror("fork");
        exit(1);
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        stay_on(1);
    }
    return child;
}

/* A stream of float32, 1,000 frames in a second. */
static inline circbuf_t *make_stream(const char *name, uint32_t channels, uint64_t ring)
{
    circbuf_format_t format = {
        .size = sizeof format, .dtype = 'f', .rate = 1000, .frames = ring, .ndim = 1, .shape = {channels}};
    circbuf_options_t options = {.size = sizeof options, .name = name, .format = &format};
    circbuf_t *stream;
    check(circbuf_create(&options, &stream));
    return stream;
}

static inline circbuf_mirror_t *make_mirror(const char *name)
{
    circbuf_mirror_t *mirror;
    circbuf_format_t format = {.size = sizeof format};
    check(circbuf_mirror_open(name, NULL, &mirror));
    check(circbuf_mirror_format(mirror, &format));
    return mirror;
}

#endif
