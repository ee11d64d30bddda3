/* The clock page from C: what is refused, what is read, what waits, and who may write. */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SECOND INT64_C(1000000000)
#define MAGIC 0x4B4C4356u

/* Upper bounds are generous, for machines with other things to do; lower ones are not. */
#define SOON_MS 2000

/* A page as it lies in a file. */
typedef struct {
    uint32_t magic, size;
    vmclock_snapshot_t body;
} region_t;

static char folder[] = "/tmp/shmhot-vmclock-XXXXXX";
static char path[64]; /* the one file of most tests; none when a test begins or ends */

/* A TAI page whose counter counts 1/1024 seconds: decimals of its times are exact. */
static vmclock_snapshot_t a_page(void)
{
    return (vmclock_snapshot_t){
        .version = 1,
        .counter_id = VMCLOCK_COUNTER_X86_TSC,
        .time_type = VMCLOCK_TIME_TAI,
        .disruption_marker = 5,
        .flags = VMCLOCK_FLAG_TAI_OFFSET_VALID | VMCLOCK_FLAG_TIME_ESTERROR_VALID | VMCLOCK_FLAG_TIME_MAXERROR_VALID |
                 VMCLOCK_FLAG_PERIOD_ESTERROR_VALID | VMCLOCK_FLAG_PERIOD_MAXERROR_VALID,
        .clock_status = VMCLOCK_STATUS_SYNCHRONIZED,
        .tai_offset_sec = 37,
        .counter_value = 1000000,
        .counter_period_frac_sec = UINT64_C(1) << 54,
        .counter_period_esterror_rate_frac_sec = UINT64_C(1) << 33, /* 2^-31 s a count, 477 ns a second */
        .counter_period_maxerror_rate_frac_sec = UINT64_C(1) << 34,
        .time_sec = 1700000000,
        .time_esterror_nanosec = 100,
        .time_maxerror_nanosec = 1000,
    };
}

static void put(const void *bytes, size_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, bytes, length), length);
    close(fd);
}

static void put_region(uint32_t magic, uint32_t size, uint16_t version)
{
    region_t region = {magic, size, a_page()};
    region.body.version = version;
    put(&region, sizeof region);
}

static void overwrite(size_t offset, const void *bytes, size_t length)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQ(pwrite(fd, bytes, length, (off_t)offset), length);
    close(fd);
}

static vmclock_writer_t *new_writer(void)
{
    vmclock_writer_t *writer;
    CHECK_EQ(vmclock_writer_create(path, 0, &writer), 0);
    return writer;
}

static vmclock_clock_t *open_clock(void)
{
    vmclock_clock_t *clock;
    CHECK_EQ(vmclock_open(path, &clock), 0);
    return clock;
}

static vmclock_clock_t *open_checked(void)
{
    vmclock_options_t options = {.size = sizeof options, .flags = VMCLOCK_CHECKED};
    vmclock_clock_t *clock;
    CHECK_EQ(vmclock_open_with(path, &options, &clock), 0);
    return clock;
}

static void check_took(int64_t start_ms, int64_t expected_ms)
{
    int64_t took_ms = now_ms() - start_ms;
    if (took_ms < expected_ms - 1 || took_ms > expected_ms + SOON_MS) CHECK_EQ(took_ms, expected_ms);
}

/* Refused in the same way by both kinds of readers, and without an answer. */
static void check_no_page(int32_t status, const char *words)
{
    vmclock_clock_t *nothing = (vmclock_clock_t *)folder, *clock = nothing;
    vmclock_options_t checked = {.size = sizeof checked, .flags = VMCLOCK_CHECKED};
    CHECK_ERROR(vmclock_open(path, &clock), status, words);
    CHECK_ERROR(vmclock_open_with(path, &checked, &clock), status, words);
    CHECK(clock == nothing);
}

static void open_errors(void)
{
    char garbage[4096];
    vmclock_clock_t *clock;

    check_no_page(-ENOENT, path);
    if (access("/dev/vmclock0", F_OK) < 0) CHECK_ERROR(vmclock_open(NULL, &clock), -ENOENT, "/dev/vmclock0");
    CHECK_EQ(mkdir(path, 0755), 0);
    check_no_page(-EINVAL, path);
    CHECK_EQ(rmdir(path), 0);
    CHECK_EQ(mkfifo(path, 0644), 0);
    check_no_page(-EINVAL, path);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(symlink(path, path), 0);
    check_no_page(-ELOOP, path);
    CHECK_EQ(unlink(path), 0);

    put("", 0);
    check_no_page(-EPROTO, path);
    memset(garbage, 0x5a, sizeof garbage);
    put(garbage, sizeof garbage);
    check_no_page(-EPROTO, path);
    put(garbage, 3);
    check_no_page(-EPROTO, path);

    put_region(MAGIC + 1, sizeof(region_t), 1);
    check_no_page(-EPROTO, path);
    put_region(MAGIC, 103, 1);
    check_no_page(-EPROTO, "103");
    put_region(MAGIC, 4096, 1); /* more than there is */
    check_no_page(-EPROTO, "4096");
    put_region(MAGIC, sizeof(region_t), 0);
    check_no_page(-EPROTO, "not initialized");
    put_region(MAGIC, sizeof(region_t), 2);
    check_no_page(-EPROTO, "version 2");
    CHECK_EQ(unlink(path), 0);
}

/* Root may open everything, so the child is somebody else. */
static void no_permission(void)
{
    int status;
    put_region(MAGIC, sizeof(region_t), 1);
    CHECK_EQ(chmod(path, 0), 0);
    CHECK_EQ(chmod(folder, 0755), 0);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        vmclock_writer_t *writer;
        if (geteuid() == 0) CHECK_EQ(setuid(65534), 0);
        check_no_page(-EACCES, path);
        CHECK_ERROR(vmclock_writer_create(path, 0, &writer), -EACCES, path);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(unlink(path), 0);
}

static void bad_options(void)
{
    struct {
        vmclock_options_t known;
        uint64_t of_a_later_version;
    } options = {.known = {.size = sizeof options}};
    vmclock_clock_t *clock;
    put_region(MAGIC, sizeof(region_t), 1);

    CHECK_EQ(vmclock_open_with(path, NULL, &clock), 0);
    CHECK_EQ(vmclock_close(clock), 0);
    CHECK_EQ(vmclock_open_with(path, &options.known, &clock), 0);
    CHECK_EQ(vmclock_close(clock), 0);
    options.of_a_later_version = 1;
    CHECK_ERROR(vmclock_open_with(path, &options.known, &clock), -E2BIG, "does not know");
    CHECK_ERROR(vmclock_open_with(path, &(vmclock_options_t){0}, &clock), -EINVAL, "size");
    CHECK_ERROR(vmclock_open_with(path, &(vmclock_options_t){.size = 4}, &clock), -EINVAL, "size");
    options.of_a_later_version = 0;
    options.known.flags = 2;
    CHECK_ERROR(vmclock_open_with(path, &options.known, &clock), -EINVAL, "flag");
    CHECK_EQ(unlink(path), 0);
}

static void null_arguments(void)
{
    vmclock_snapshot_t page = a_page();
    vmclock_time_t time;
    vmclock_writer_t *writer = new_writer();
    vmclock_clock_t *clock = open_clock();

    CHECK_EQ(vmclock_close(NULL), 0);
    CHECK_EQ(vmclock_writer_close(NULL), 0);
    CHECK_EQ(vmclock_writer_remove(NULL), 0);
    CHECK_EQ(vmclock_calibrator_close(NULL), 0);
    CHECK_ERROR(vmclock_open(path, NULL), -EINVAL, "clock");
    CHECK_ERROR(vmclock_open_with(path, NULL, NULL), -EINVAL, "clock");
    CHECK_ERROR(vmclock_snapshot(NULL, &page), -EINVAL, "clock");
    CHECK_ERROR(vmclock_snapshot(clock, NULL), -EINVAL, "out");
    CHECK_ERROR(vmclock_now(NULL, &time), -EINVAL, "clock");
    CHECK_ERROR(vmclock_now(clock, NULL), -EINVAL, "out");
    CHECK_ERROR(vmclock_time_at(NULL, 0, &time), -EINVAL, "snapshot");
    CHECK_ERROR(vmclock_time_at(&page, 0, NULL), -EINVAL, "out");
    CHECK_ERROR(vmclock_wait(NULL, 0, 0), -EINVAL, "clock");
    CHECK_ERROR(vmclock_wait_until_past(NULL, 0, 0), -EINVAL, "clock");
    CHECK_ERROR(vmclock_writer_create(NULL, 0, &writer), -EINVAL, "path");
    CHECK_ERROR(vmclock_writer_create(path, 0, NULL), -EINVAL, "writer");
    CHECK_ERROR(vmclock_writer_write(NULL, &page), -EINVAL, "writer");
    CHECK_ERROR(vmclock_writer_write(writer, NULL), -EINVAL, "page");
    CHECK_ERROR(vmclock_calibrator_create(NULL), -EINVAL, "calibrator");
    CHECK_ERROR(vmclock_calibrator_measure(NULL, &page, NULL), -EINVAL, "calibrator");

    CHECK_EQ(vmclock_close(clock), 0);
    CHECK_EQ(vmclock_writer_remove(writer), 0);
}

static void write_and_read(void)
{
    vmclock_snapshot_t page = a_page(), got;
    vmclock_time_t time;
    struct stat file;
    vmclock_writer_t *writer = new_writer();
    CHECK_EQ(stat(path, &file), 0);
    CHECK_EQ(file.st_size, 4096);
    CHECK_EQ(file.st_mode & 07777, 0644);

    vmclock_clock_t *clocks[] = {open_clock(), open_checked()};
    for (size_t i = 0; i < LEN(clocks); i++) {
        CHECK_EQ(vmclock_snapshot(clocks[i], &got), 0);
        CHECK_EQ(got.version, 1);
        CHECK_EQ(got.clock_status, VMCLOCK_STATUS_UNKNOWN);
        CHECK_ERROR(vmclock_now(clocks[i], &time), -ENODATA, "status");
    }

    /* Version and sequence number are none of the caller's business. */
    page.version = 9;
    page.seq_count = 77;
    page.vm_generation_counter = 8;
    page.flags |= VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT;
    for (uint32_t update = 1; update < 4; update++) {
        uint32_t before = got.seq_count;
        page.disruption_marker = update;
        CHECK_EQ(vmclock_writer_write(writer, &page), 0);
        for (size_t i = 0; i < LEN(clocks); i++) {
            CHECK_EQ(vmclock_snapshot(clocks[i], &got), 0);
            CHECK_EQ(got.seq_count, before + 2);
            page.version = 1;
            page.seq_count = got.seq_count;
            CHECK(memcmp(&got, &page, sizeof page) == 0);
        }
    }
    for (size_t i = 0; i < LEN(clocks); i++) CHECK_EQ(vmclock_close(clocks[i]), 0);
    CHECK_EQ(vmclock_writer_remove(writer), 0);

    CHECK_EQ(vmclock_writer_create(path, 0600, &writer), 0);
    CHECK_EQ(stat(path, &file), 0);
    CHECK_EQ(file.st_mode & 07777, 0600);
    CHECK_EQ(vmclock_writer_remove(writer), 0);
    CHECK(access(path, F_OK) < 0);
}

/* The time so many counts after the reference. */
static vmclock_time_t time_at(const vmclock_snapshot_t *page, int64_t counts)
{
    vmclock_time_t time;
    uint64_t counter = page->counter_value + (uint64_t)counts;
    CHECK_EQ(vmclock_time_at(page, counter, &time), 0);
    CHECK_EQ(time.counter_value, counter);
    return time;
}

static void time_of_a_page(void)
{
    vmclock_snapshot_t page = a_page();
    const int64_t reference = (int64_t)page.time_sec * SECOND;
    vmclock_time_t time = time_at(&page, 0);
    CHECK_EQ(time.time_ns, reference);
    CHECK_EQ(time.tai_ns, reference);
    CHECK_EQ(time.utc_ns, reference - 37 * SECOND);
    CHECK_EQ(time.valid, VMCLOCK_HAS_TAI | VMCLOCK_HAS_UTC | VMCLOCK_HAS_ESTERROR | VMCLOCK_HAS_MAXERROR);
    CHECK_EQ(time.time_type, VMCLOCK_TIME_TAI);
    CHECK_EQ(time.clock_status, VMCLOCK_STATUS_SYNCHRONIZED);
    CHECK_EQ(time.disruption_marker, page.disruption_marker);
    CHECK_EQ(time.flags, page.flags);
    CHECK_EQ(time.esterror_ns, 100);
    CHECK_EQ(time.maxerror_ns, 1000);

    CHECK_EQ(time_at(&page, 1024).time_ns, reference + SECOND);
    CHECK_EQ(time_at(&page, 1).time_ns, reference + 976562);  /* and a half, which is cut */
    CHECK_EQ(time_at(&page, -1).time_ns, reference - 976563); /* towards the past on either side */
    page.counter_period_shift = 10;
    CHECK_EQ(time_at(&page, 1 << 20).time_ns, reference + SECOND);
    page.counter_period_shift = 0;

    /* Errors grow with the distance from the reference, on either side of it, and are rounded up. */
    for (int sign = -1; sign <= 1; sign += 2) {
        time = time_at(&page, sign * 1024);
        CHECK_EQ(time.esterror_ns, 100 + 477);  /* 476.8 */
        CHECK_EQ(time.maxerror_ns, 1000 + 954); /* 953.7 */
        CHECK_EQ(time.earliest_ns, time.time_ns - 1954);
        CHECK_EQ(time.latest_ns, time.time_ns + 1954);
    }
    /* What was cut off the time still lies within. */
    time = time_at(&page, 1);
    CHECK(time.earliest_ns <= time.time_ns - 1000 && time.latest_ns >= time.time_ns + 1 + 1000);

    page.flags &= ~(uint64_t)VMCLOCK_FLAG_PERIOD_MAXERROR_VALID;
    time = time_at(&page, 0);
    CHECK_EQ(time.valid & VMCLOCK_HAS_MAXERROR, 0);
    CHECK_EQ(time.earliest_ns, INT64_MIN);
    CHECK_EQ(time.latest_ns, INT64_MAX);
    CHECK(time.maxerror_ns == UINT64_MAX);

    page.tai_offset_sec = -37; /* as other writers have it */
    CHECK_EQ(time_at(&page, 0).utc_ns, reference - 37 * SECOND);
    page.time_type = VMCLOCK_TIME_UTC;
    time = time_at(&page, 0);
    CHECK_EQ(time.utc_ns, reference);
    CHECK_EQ(time.tai_ns, reference + 37 * SECOND);
    page.flags &= ~(uint64_t)VMCLOCK_FLAG_TAI_OFFSET_VALID;
    time = time_at(&page, 0);
    CHECK_EQ(time.utc_ns, reference);
    CHECK_EQ(time.tai_ns, INT64_MIN);
    page.time_type = VMCLOCK_TIME_MONOTONIC;
    CHECK_EQ(time_at(&page, 0).valid & (VMCLOCK_HAS_TAI | VMCLOCK_HAS_UTC), 0);
}

/* 2016-12-31 had a second 23:59:60. */
static void leap_second(void)
{
    const int64_t new_year = 1483228800;
    static const struct {
        int64_t utc; /* seconds from the new year */
        uint8_t indicator;
    } expected[] = {
        {-2, VMCLOCK_LEAP_PRE_POS}, {-1, VMCLOCK_LEAP_PRE_POS}, {-1, VMCLOCK_LEAP_POS}, {0, VMCLOCK_LEAP_POST_POS},
        {1, VMCLOCK_LEAP_POST_POS},
    };
    vmclock_snapshot_t page = a_page();
    page.tai_offset_sec = 36;
    page.leap_indicator = VMCLOCK_LEAP_PRE_POS;
    page.time_sec = (uint64_t)(new_year + 36 - 2);
    for (size_t i = 0; i < LEN(expected); i++) {
        vmclock_time_t time = time_at(&page, (int64_t)i * 1024 + 512);
        CHECK_EQ(time.tai_ns, ((int64_t)page.time_sec + (int64_t)i) * SECOND + SECOND / 2);
        CHECK_EQ(time.utc_ns, (new_year + expected[i].utc) * SECOND + SECOND / 2);
        CHECK_EQ(time.leap_indicator, expected[i].indicator);
    }
}

static void check_no_time(const vmclock_snapshot_t *page, int32_t status, const char *words)
{
    vmclock_time_t time = {.valid = 77};
    CHECK_ERROR(vmclock_time_at(page, page->counter_value, &time), status, words);
    CHECK_EQ(time.valid, 77);
}

static void no_time(void)
{
    static const uint8_t statuses[] = {
        VMCLOCK_STATUS_UNKNOWN, VMCLOCK_STATUS_INITIALIZING, VMCLOCK_STATUS_UNRELIABLE, 5, 200,
    };
    static const uint8_t smeared[] = {VMCLOCK_TIME_INVALID_SMEARED, VMCLOCK_TIME_INVALID_MAYBE_SMEARED};
    static const uint8_t types[] = {5, 200};
    vmclock_snapshot_t page = a_page();
    for (size_t i = 0; i < LEN(statuses); i++) {
        page.clock_status = statuses[i];
        check_no_time(&page, -ENODATA, "status");
    }
    page.clock_status = VMCLOCK_STATUS_FREERUNNING;
    CHECK_EQ(time_at(&page, 0).clock_status, VMCLOCK_STATUS_FREERUNNING);
    for (size_t i = 0; i < LEN(smeared); i++) {
        page.time_type = smeared[i];
        check_no_time(&page, -ENODATA, "smeared");
    }
    for (size_t i = 0; i < LEN(types); i++) {
        page.time_type = types[i];
        check_no_time(&page, -ENODATA, "type");
    }
    page = a_page();
    page.counter_id = VMCLOCK_COUNTER_INVALID;
    check_no_time(&page, -ENODATA, "counter");
    page = a_page();
    page.counter_period_frac_sec = 0;
    check_no_time(&page, -ENODATA, "period");
    page = a_page();
    page.time_sec = UINT64_C(1) << 40;
    check_no_time(&page, -EOVERFLOW, "2262");
    page = a_page();
    page.version = 2;
    check_no_time(&page, -EPROTO, "version 2");
}

static void two_writers(void)
{
    vmclock_snapshot_t page = a_page(), got;
    vmclock_writer_t *first = new_writer(), *second;
    CHECK_ERROR(vmclock_writer_create(path, 0, &second), -EBUSY, path);
    CHECK_EQ(vmclock_writer_write(first, &page), 0);
    vmclock_clock_t *clock = open_clock();
    CHECK_EQ(vmclock_snapshot(clock, &page), 0);
    CHECK_EQ(vmclock_writer_close(first), 0);

    second = new_writer(); /* goes on where the first one ended */
    CHECK_EQ(vmclock_snapshot(clock, &got), 0);
    CHECK(memcmp(&got, &page, sizeof page) == 0);
    CHECK_EQ(vmclock_writer_write(second, &page), 0);
    CHECK_EQ(vmclock_snapshot(clock, &got), 0);
    CHECK_EQ(got.seq_count, page.seq_count + 2);

    /* A file that somebody has put in the place of the page is not removed with it. */
    CHECK_EQ(unlink(path), 0);
    put("mine", 4);
    CHECK_EQ(vmclock_writer_remove(second), 0);
    CHECK_EQ(access(path, F_OK), 0);
    CHECK_EQ(vmclock_snapshot(clock, &got), 0); /* still open, still the last page */
    CHECK_EQ(vmclock_close(clock), 0);
    CHECK_EQ(unlink(path), 0);
}

/* What is no page of ours stays as it is. */
static void foreign_files(void)
{
    region_t region = {MAGIC, sizeof region, a_page()}, after;
    vmclock_writer_t *writer;
    region.body.version = 2;
    put(&region, sizeof region);
    CHECK_ERROR(vmclock_writer_create(path, 0, &writer), -EPROTO, "version 2");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK_EQ(read(fd, &after, sizeof after), sizeof after);
    CHECK(memcmp(&after, &region, sizeof after) == 0);
    close(fd);

    put("a letter", 8);
    CHECK_ERROR(vmclock_writer_create(path, 0, &writer), -EPROTO, path);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(symlink("/dev/null", path), 0);
    CHECK_ERROR(vmclock_writer_create(path, 0, &writer), -ELOOP, path);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(mkdir(path, 0755), 0);
    CHECK(vmclock_writer_create(path, 0, &writer) < 0);
    CHECK_EQ(rmdir(path), 0);

    /* Other programs make regions of 104 bytes, without a generation counter. */
    vmclock_snapshot_t page = a_page(), got;
    region = (region_t){MAGIC, 104, a_page()};
    put(&region, 104);
    writer = new_writer();
    vmclock_clock_t *clock = open_clock();
    CHECK_EQ(vmclock_writer_write(writer, &page), 0);
    CHECK_EQ(vmclock_snapshot(clock, &got), 0);
    CHECK_EQ(got.seq_count, 2);
    CHECK_EQ(got.vm_generation_counter, 0);
    page.flags |= VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT;
    CHECK_ERROR(vmclock_writer_write(writer, &page), -EINVAL, "vm_generation_counter");
    CHECK_EQ(vmclock_close(clock), 0);
    CHECK_EQ(vmclock_writer_remove(writer), 0);
}

/* A writer that died in an update leaves an odd sequence number. */
static void unfinished_update(void)
{
    const uint32_t odd = 7;
    vmclock_snapshot_t page = a_page(), got;
    put_region(MAGIC, sizeof(region_t), 1);
    vmclock_clock_t *clocks[] = {open_clock(), open_checked()};
    overwrite(offsetof(region_t, body.seq_count), &odd, sizeof odd);
    for (size_t i = 0; i < LEN(clocks); i++) {
        int64_t start = now_ms();
        CHECK_ERROR(vmclock_snapshot(clocks[i], &got), -ETIMEDOUT, "update");
        check_took(start, 100);
    }
    vmclock_writer_t *writer = new_writer();
    CHECK_EQ(vmclock_writer_write(writer, &page), 0);
    for (size_t i = 0; i < LEN(clocks); i++) {
        CHECK_EQ(vmclock_snapshot(clocks[i], &got), 0);
        CHECK_EQ(got.seq_count, 8);
        CHECK_EQ(vmclock_close(clocks[i]), 0);
    }
    CHECK_EQ(vmclock_writer_remove(writer), 0);
}

static void another_page_while_open(void)
{
    const uint16_t version = 3;
    vmclock_snapshot_t got;
    put_region(MAGIC, sizeof(region_t), 1);
    vmclock_clock_t *clock = open_clock(), *checked = open_checked();
    overwrite(offsetof(region_t, body.version), &version, sizeof version);
    CHECK_ERROR(vmclock_snapshot(clock, &got), -EPROTO, "version 3");
    CHECK_ERROR(vmclock_snapshot(checked, &got), -EPROTO, "version 3");
    CHECK_EQ(vmclock_close(clock), 0);

    CHECK_EQ(truncate(path, 20), 0);
    CHECK_ERROR(vmclock_snapshot(checked, &got), -EPROTO, "cut");
    CHECK_EQ(vmclock_close(checked), 0);
    CHECK_EQ(unlink(path), 0);
}

/* Of this host's counter and clock; ends the test where the counter is of no use. */
static bool calibrated(vmclock_snapshot_t *page)
{
    vmclock_calibrator_t *calibrator;
    uint64_t bracket_ns = 0;
    int32_t status = vmclock_calibrator_create(&calibrator);
    if (status == -EOPNOTSUPP) {
        printf("SKIP %s: %s: this processor's counter does not run at a constant rate\n", program_invocation_short_name,
               current_test);
        return false;
    }
    CHECK_EQ(status, 0);
    CHECK_ERROR(vmclock_calibrator_measure(calibrator, NULL, NULL), -EINVAL, "page");
    int64_t end = now_ms() + PATIENCE_MS;
    do status = vmclock_calibrator_measure(calibrator, page, &bracket_ns);
    while (status == -EAGAIN && now_ms() < end);
    CHECK_EQ(status, 0);
    CHECK(bracket_ns > 0);
    CHECK_EQ(vmclock_calibrator_close(calibrator), 0);
    return true;
}

static int64_t host_ns(uint8_t time_type)
{
    struct timespec now;
    CHECK_EQ(clock_gettime(time_type == VMCLOCK_TIME_TAI ? CLOCK_TAI : CLOCK_REALTIME, &now), 0);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static void time_of_this_host(void)
{
    vmclock_snapshot_t page;
    if (!calibrated(&page)) return;
    vmclock_writer_t *writer = new_writer();
    CHECK_EQ(vmclock_writer_write(writer, &page), 0);
    vmclock_clock_t *clocks[] = {open_clock(), open_checked()};
    for (int i = 0; i < 10000; i++) {
        vmclock_time_t now;
        int64_t before = host_ns(page.time_type);
        CHECK_EQ(vmclock_now(clocks[i % 2], &now), 0);
        int64_t after = host_ns(page.time_type);
        CHECK(now.valid & VMCLOCK_HAS_MAXERROR);
        CHECK(now.earliest_ns <= now.time_ns && now.time_ns <= now.latest_ns);
        CHECK(now.earliest_ns <= after && before <= now.latest_ns);
    }

    /* Certainly over: with the kernel's own error, which may be seconds, this would take as long. */
    page.time_maxerror_nanosec = 20000000;
    CHECK_EQ(vmclock_writer_write(writer, &page), 0);
    for (size_t i = 0; i < LEN(clocks); i++) {
        vmclock_time_t now, then;
        int64_t start = now_ms();
        CHECK_EQ(vmclock_now(clocks[i], &now), 0);
        CHECK_EQ(vmclock_wait_until_past(clocks[i], now.latest_ns, VMCLOCK_NO_TIMEOUT), 1);
        check_took(start, 40); /* twice the error */
        CHECK_EQ(vmclock_now(clocks[i], &then), 0);
        CHECK(then.earliest_ns > now.latest_ns);
        CHECK_EQ(vmclock_wait_until_past(clocks[i], now.latest_ns, 0), 1);
        start = now_ms();
        CHECK_EQ(vmclock_wait_until_past(clocks[i], now.latest_ns + 3600 * SECOND, 0), 0);
        CHECK_EQ(vmclock_wait_until_past(clocks[i], now.latest_ns + 3600 * SECOND, 50), 0);
        check_took(start, 50);
    }
    page.flags &= ~(uint64_t)VMCLOCK_FLAG_TIME_MAXERROR_VALID;
    CHECK_EQ(vmclock_writer_write(writer, &page), 0);
    CHECK_ERROR(vmclock_wait_until_past(clocks[0], 0, 0), -ENODATA, "MAXERROR");

    for (size_t i = 0; i < LEN(clocks); i++) CHECK_EQ(vmclock_close(clocks[i]), 0);
    CHECK_EQ(vmclock_writer_remove(writer), 0);
}

typedef struct {
    pthread_t sleeper;
    vmclock_writer_t *writer;
} helper_t;

static void *write_soon(void *argument)
{
    helper_t *helper = argument;
    vmclock_snapshot_t page = a_page();
    sleep_ms(50);
    CHECK_EQ(vmclock_writer_write(helper->writer, &page), 0);
    return NULL;
}

static void *signal_soon(void *argument)
{
    helper_t *helper = argument;
    sleep_ms(50);
    CHECK_EQ(pthread_kill(helper->sleeper, SIGUSR1), 0);
    return NULL;
}

static void ignore(int signal)
{
    (void)signal;
}

static void waiting(void)
{
    helper_t helper = {pthread_self(), new_writer()};
    struct sigaction action = {.sa_handler = ignore};
    vmclock_clock_t *clocks[] = {open_clock(), open_checked()};
    vmclock_snapshot_t got;
    pthread_t thread;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    for (size_t i = 0; i < LEN(clocks); i++) {
        CHECK_EQ(vmclock_snapshot(clocks[i], &got), 0);
        int64_t start = now_ms();
        CHECK_EQ(vmclock_wait(clocks[i], got.seq_count - 2, VMCLOCK_NO_TIMEOUT), 1);
        CHECK_EQ(vmclock_wait(clocks[i], got.seq_count, 0), 0);
        check_took(start, 0);
        start = now_ms();
        CHECK_EQ(vmclock_wait(clocks[i], got.seq_count, 50), 0);
        check_took(start, 50);

        start = now_ms();
        CHECK_EQ(pthread_create(&thread, NULL, write_soon, &helper), 0);
        CHECK_EQ(vmclock_wait(clocks[i], got.seq_count, VMCLOCK_NO_TIMEOUT), 1);
        check_took(start, 50);
        CHECK_EQ(pthread_join(thread, NULL), 0);

        CHECK_EQ(vmclock_snapshot(clocks[i], &got), 0);
        start = now_ms();
        CHECK_EQ(pthread_create(&thread, NULL, signal_soon, &helper), 0);
        CHECK_EQ(vmclock_wait(clocks[i], got.seq_count, VMCLOCK_NO_TIMEOUT), 0);
        check_took(start, 50);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(vmclock_close(clocks[i]), 0);
    }
    CHECK_EQ(vmclock_writer_remove(helper.writer), 0);
}

static void after_fork(void)
{
    vmclock_snapshot_t page = a_page(), got;
    vmclock_writer_t *writer = new_writer(), *second;
    vmclock_clock_t *clocks[] = {open_clock(), open_checked()};
    int status;
    CHECK_EQ(vmclock_writer_write(writer, &page), 0);
    CHECK_EQ(vmclock_snapshot(clocks[0], &page), 0);
    fflush(stdout);

    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        current_test = "after_fork, in the child";
        for (size_t i = 0; i < LEN(clocks); i++) {
            CHECK_EQ(vmclock_snapshot(clocks[i], &got), 0);
            CHECK(memcmp(&got, &page, sizeof page) == 0);
            CHECK_EQ(vmclock_wait(clocks[i], got.seq_count, 10), 0);
            CHECK_EQ(vmclock_close(clocks[i]), 0);
        }
        CHECK_ERROR(vmclock_writer_write(writer, &page), SHMHOT_EFORK, "fork");
        CHECK_ERROR(vmclock_writer_create(path, 0, &second), -EBUSY, path);
        CHECK_ERROR(vmclock_writer_remove(writer), SHMHOT_EFORK, "fork"); /* must not take the parent's page away */
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);

    CHECK_ERROR(vmclock_writer_create(path, 0, &second), -EBUSY, path);
    CHECK_EQ(vmclock_writer_write(writer, &page), 0);
    for (size_t i = 0; i < LEN(clocks); i++) {
        CHECK_EQ(vmclock_snapshot(clocks[i], &got), 0);
        CHECK_EQ(got.seq_count, page.seq_count + 2);
        CHECK_EQ(vmclock_close(clocks[i]), 0);
    }
    CHECK_EQ(vmclock_writer_remove(writer), 0);
}

/* All fields of an update carry its number, and a snapshot is of one update. Goes on until there were some. */
static void *read_all_the_time(void *argument)
{
    const vmclock_clock_t *clock = argument;
    uint64_t last = 0;
    for (uint64_t i = 0; i < 200000 || last < 1000; i++) {
        vmclock_snapshot_t got;
        int32_t status = vmclock_snapshot(clock, &got);
        if (status == -ETIMEDOUT) continue; /* the writer has lost its processor in an update, and will get it back */
        CHECK_EQ(status, 0);
        CHECK(got.disruption_marker >= last);
        last = got.disruption_marker;
        CHECK_EQ(got.counter_value, last);
        CHECK_EQ(got.counter_period_frac_sec, last);
        CHECK_EQ(got.time_sec, last);
        CHECK_EQ(got.time_maxerror_nanosec, last);
        CHECK_EQ(got.vm_generation_counter, last);
        CHECK_EQ(got.seq_count, 2 * last);
    }
    return NULL;
}

static void threads_on_one_handle(void)
{
    vmclock_snapshot_t page;
    vmclock_writer_t *writer = new_writer();
    vmclock_clock_t *clock = open_clock();
    pthread_t readers[2];
    CHECK_EQ(vmclock_snapshot(clock, &page), 0);
    CHECK_EQ(page.seq_count, 0);
    for (size_t i = 0; i < LEN(readers); i++)
        CHECK_EQ(pthread_create(&readers[i], NULL, read_all_the_time, clock), 0);
    uint64_t update = 0;
    for (size_t joined = 0; joined < LEN(readers); joined += pthread_tryjoin_np(readers[joined], NULL) == 0) {
        update++;
        page = (vmclock_snapshot_t){.flags = VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT,
                                    .disruption_marker = update,
                                    .counter_value = update,
                                    .counter_period_frac_sec = update,
                                    .time_sec = update,
                                    .time_maxerror_nanosec = update,
                                    .vm_generation_counter = update};
        CHECK_EQ(vmclock_writer_write(writer, &page), 0);
        if (update % 1000 == 0) sleep_ms(1); /* the readers may have to share this processor */
    }
    CHECK_EQ(vmclock_close(clock), 0);
    CHECK_EQ(vmclock_writer_remove(writer), 0);
}

int main(void)
{
    CHECK(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/page", folder);
    RUN(open_errors);
    RUN(no_permission);
    RUN(bad_options);
    RUN(null_arguments);
    RUN(write_and_read);
    RUN(time_of_a_page);
    RUN(leap_second);
    RUN(no_time);
    RUN(two_writers);
    RUN(foreign_files);
    RUN(unfinished_update);
    RUN(another_page_while_open);
    RUN(time_of_this_host);
    RUN(waiting);
    RUN(after_fork);
    RUN(threads_on_one_handle);
    CHECK_EQ(rmdir(folder), 0);
    return 0;
}
