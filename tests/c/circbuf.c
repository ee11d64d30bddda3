/* Signals from C: streams and mirrors; each call with its results and with what it refuses. */
#include "check.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { CHANNELS = 4, FRAMES = 10 };

static char name[32]; /* of the stream of most tests, which is not there when a test begins or ends */

static void path_of(char path[64], const char *object)
{
    strcpy(path, "/dev/shm/");
    CHECK_EQ(circbuf_short_name(object, path + strlen(path), 64 - strlen(path)), 23);
}

/* Whether an object of the stream is there: of no part the header. */
static bool is_there(const char *part)
{
    char object[64], path[64];
    snprintf(object, sizeof object, "%s%s", name, part);
    path_of(path, object);
    return access(path, F_OK) == 0;
}

static circbuf_format_t a_format(void)
{
    return (circbuf_format_t){.size = sizeof(circbuf_format_t), .dtype = 'f', .rate = 100, .frames = FRAMES, .start = 5,
                              .ndim = 1, .shape = {CHANNELS}, .key = "key"};
}

static circbuf_t *make(const circbuf_format_t *format, uint32_t flags)
{
    circbuf_options_t options = {.size = sizeof options, .name = name, .format = format, .flags = flags};
    circbuf_t *stream;
    CHECK_EQ(circbuf_create(&options, &stream), 0);
    return stream;
}

static circbuf_t *a_stream(void)
{
    circbuf_format_t format = a_format();
    return make(&format, 0);
}

/* That knows the format already. */
static circbuf_mirror_t *a_mirror(void)
{
    circbuf_mirror_t *mirror;
    circbuf_format_t format = {.size = sizeof format};
    CHECK_EQ(circbuf_mirror_open(name, NULL, &mirror), 0);
    CHECK_EQ(circbuf_mirror_format(mirror, &format), 0);
    return mirror;
}

static void remove_both(circbuf_t *stream, circbuf_mirror_t *mirror)
{
    CHECK_EQ(circbuf_mirror_close(mirror), 0);
    CHECK_EQ(circbuf_close(stream), 0);
    CHECK(!is_there("") && !is_there("/buffer0") && !is_there("/meta1"));
}

/* Frames say by themselves which they are. */
static float number_of(uint64_t frame, int channel)
{
    return (float)(frame * 8 + (uint64_t)channel);
}

static void write_frames(const circbuf_t *stream, uint64_t first, size_t n)
{
    float frames[64][CHANNELS];
    CHECK(n <= LEN(frames));
    for (size_t i = 0; i < n; i++)
        for (int c = 0; c < CHANNELS; c++) frames[i][c] = number_of(first + i, c);
    CHECK_EQ(circbuf_write(stream, frames, NULL, n), 0);
}

static void check_frames(const void *frames, uint64_t first, size_t n)
{
    const float *number = frames;
    for (size_t i = 0; i < n; i++)
        for (int c = 0; c < CHANNELS; c++) CHECK(*number++ == number_of(first + i, c));
}

/* Exactly these frames come next, after so many that were lost. */
static void expect_frames(const circbuf_mirror_t *mirror, uint64_t first, size_t n, uint64_t lost)
{
    float frames[64][CHANNELS];
    circbuf_span_t span = {.size = sizeof span};
    CHECK_EQ(circbuf_mirror_read(mirror, frames, sizeof frames, NULL, LEN(frames), &span), n);
    CHECK_EQ(span.count, n);
    CHECK_EQ(span.lost, lost);
    if (n > 0) CHECK_EQ(span.first, first);
    check_frames(frames, first, n);
}

static circbuf_info_t info_of(const circbuf_mirror_t *mirror)
{
    circbuf_info_t info = {.size = sizeof info};
    CHECK_EQ(circbuf_mirror_info(mirror, &info), 0);
    return info;
}

static void names(void)
{
    static const char *const objects[][2] = {
        {"demo", "sm_KpdRbDVLaISM29j1SiJq"},
        {"demo/buffer0", "sm_EbUZRBVI4CmwsJ_eTvd0"},
        {"demo/meta1", "sm_Jo4zWIC2kxSJn2s5QMs2"},
    };
    char text[64];
    for (size_t i = 0; i < LEN(objects); i++) {
        CHECK_EQ(circbuf_short_name(objects[i][0], text, sizeof text), 23);
        CHECK(strcmp(text, objects[i][1]) == 0);
    }
    CHECK_EQ(circbuf_short_name("demo", text, 4), 23);
    CHECK(strcmp(text, "sm_") == 0);
    CHECK_EQ(circbuf_short_name("demo", NULL, 0), 23);
    CHECK_ERROR(circbuf_short_name("demo", NULL, 4), -EINVAL, "buf");
    CHECK_ERROR(circbuf_short_name(NULL, text, sizeof text), -EINVAL, "name");
    CHECK_ERROR(circbuf_short_name("\xff", text, sizeof text), -EILSEQ, "UTF-8");
}

static void formats_that_cannot_be(void)
{
    static const char dtypes[] = "efdbBhHiIlLqQ?FD";
    static const uint8_t none[] = {0, ' ', 'c', 'g', 'G', 'm', 'M', 'O', 'p', 'S', 'U', 'V', 0xff};
    circbuf_format_t sound = a_format(), format;
    circbuf_t *stream = make(NULL, 0);
    CHECK_ERROR(circbuf_write(stream, NULL, NULL, 0), -EAGAIN, name);

#define REFUSED(change, words)                                        \
    do {                                                              \
        format = sound;                                               \
        change;                                                       \
        CHECK_ERROR(circbuf_configure(stream, &format), -EINVAL, words); \
    } while (0)
    for (size_t i = 0; i < LEN(none); i++) REFUSED(format.dtype = none[i], "dtype");
    REFUSED(format.ndim = 64, "63");
    REFUSED(format.ndim = UINT32_MAX, "63");
    REFUSED(format.shape[0] = 0, "dimension 0");
    REFUSED((format.ndim = 3, format.shape[1] = 2), "dimension 2");
    REFUSED((format.ndim = 2, format.shape[0] = format.shape[1] = UINT32_MAX), "more than can be mapped");
    REFUSED((format.ndim = 63, memset(format.shape, 0xff, sizeof format.shape)), "more than can be mapped");
    REFUSED(format.frames = 0, "0 seconds");
    REFUSED(format.frames = UINT64_C(1) << 32, "2^32");
    REFUSED(format.seconds = 1, "differ");
    REFUSED((format.frames = 0, format.seconds = 1e9), "2^32");
    REFUSED((format.frames = 0, format.seconds = -1), "-1 seconds");
    REFUSED((format.frames = 0, format.seconds = NAN), "NaN seconds");
    REFUSED((format.frames = 0, format.seconds = 1, format.rate = 0), "irregular");
    REFUSED(format.rate = -1, "rate of -1");
    REFUSED(format.rate = NAN, "rate of NaN");
    REFUSED(format.rate = INFINITY, "rate of inf");
    REFUSED(format.start = NAN, "start at NaN");
    REFUSED(format.start = -INFINITY, "start at -inf");
    REFUSED(format.reserved[2] = 1, "reserved");
    REFUSED(memset(format.key, 'x', 1025), "1024");
    REFUSED(memset(format.key, 'x', sizeof format.key), "1024");
    REFUSED(format.size = 7, "size");
#undef REFUSED
    format = sound;
    memset(format.key, 0xff, 4);
    CHECK_ERROR(circbuf_configure(stream, &format), -EILSEQ, "key");
    CHECK(!is_there("/buffer0")); /* nothing was made for them */
    circbuf_info_t info = {.size = sizeof info};
    CHECK_EQ(circbuf_info(stream, &info), 0);
    CHECK_EQ(info.state, CIRCBUF_UNCONFIGURED);
    CHECK_EQ(info.generation, UINT32_MAX);

    format = sound;
    memset(format.key, 'x', 1024);
    CHECK_EQ(circbuf_configure(stream, &format), 1);
    format.seconds = 0.1;
    CHECK_EQ(circbuf_configure(stream, &format), 0); /* the same, said twice */
    for (const char *dtype = dtypes; *dtype; dtype++) {
        format.dtype = (uint8_t)*dtype;
        CHECK_EQ(circbuf_configure(stream, &format), *dtype != 'f' || dtype > dtypes);
    }
    format.ndim = 63;
    for (int i = 0; i < 63; i++) format.shape[i] = 1;
    CHECK_EQ(circbuf_configure(stream, &format), 1);
    format.ndim = 0;
    CHECK_EQ(circbuf_configure(stream, &format), 1);
    CHECK_EQ(circbuf_close(stream), 0);
    CHECK(!is_there(""));

    /* A format that cannot be leaves no stream. */
    circbuf_options_t options = {.size = sizeof options, .name = name, .format = &format};
    circbuf_t *nothing = (circbuf_t *)name;
    stream = nothing;
    format.dtype = 'x';
    CHECK_ERROR(circbuf_create(&options, &stream), -EINVAL, "dtype");
    CHECK(stream == nothing);
    CHECK(!is_there(""));
}

static void streams_that_cannot_be(void)
{
    circbuf_options_t options = {.size = sizeof options};
    circbuf_t *stream, *other;
    char busy[64], path[64];
    CHECK_ERROR(circbuf_create(NULL, &stream), -EINVAL, "options");
    CHECK_ERROR(circbuf_create(&options, &stream), -EINVAL, "name");
    options.name = "";
    CHECK_ERROR(circbuf_create(&options, &stream), -EINVAL, "name");
    options.name = "\xff";
    CHECK_ERROR(circbuf_create(&options, &stream), -EILSEQ, "UTF-8");
    options.name = name;
    CHECK_ERROR(circbuf_create(&options, NULL), -EINVAL, "stream");
    options.flags = CIRCBUF_LAYOUT_V0 | CIRCBUF_LAYOUT_V1;
    CHECK_ERROR(circbuf_create(&options, &stream), -EINVAL, "flags");
    for (uint32_t flag = 4; flag; flag <<= 1) {
        options.flags = flag;
        CHECK_ERROR(circbuf_create(&options, &stream), -EINVAL, "flags");
    }
    options.flags = 0;
    CHECK(!is_there(""));

    struct stat file;
    path_of(path, name);
    options.mode = 0640;
    CHECK_EQ(circbuf_create(&options, &stream), 0);
    CHECK_EQ(stat(path, &file), 0);
    CHECK_EQ(file.st_mode & 07777, 0640);
    snprintf(busy, sizeof busy, "process %d", getpid());
    CHECK_ERROR(circbuf_create(&options, &other), -EBUSY, busy);
    CHECK_EQ(circbuf_close(stream), 0);

    /* What could be no stream of ours is left alone. */
    CHECK_EQ(symlink("/dev/null", path), 0);
    CHECK_ERROR(circbuf_create(&options, &stream), -ELOOP, path);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(mkdir(path, 0700), 0);
    CHECK(circbuf_create(&options, &stream) < 0);
    CHECK_EQ(rmdir(path), 0);
}

/* Structs of a later version, of an earlier one, and of none. */
static void sizes_of_structs(void)
{
    struct {
        circbuf_options_t known;
        uint64_t of_a_later_version;
    } options = {.known = {.size = sizeof options, .name = name}};
    struct {
        circbuf_mirror_options_t known;
        uint64_t of_a_later_version;
    } mirror_options = {.known = {.size = sizeof mirror_options}};
    struct {
        circbuf_info_t known;
        uint64_t of_a_later_version;
    } info = {.known = {.size = sizeof info}, .of_a_later_version = 7};
    circbuf_format_t format = a_format();
    circbuf_t *stream;
    circbuf_mirror_t *mirror;

    options.of_a_later_version = 1;
    CHECK_ERROR(circbuf_create(&options.known, &stream), -E2BIG, "does not know");
    options.of_a_later_version = 0;
    options.known.size = 7;
    CHECK_ERROR(circbuf_create(&options.known, &stream), -EINVAL, "size");
    options.known.size = sizeof options;
    CHECK_EQ(circbuf_create(&options.known, &stream), 0);
    format.size = 0;
    CHECK_ERROR(circbuf_configure(stream, &format), -EINVAL, "size");
    format.size = sizeof format;
    CHECK_EQ(circbuf_configure(stream, &format), 1);

    mirror_options.of_a_later_version = 1;
    CHECK_ERROR(circbuf_mirror_open(name, &mirror_options.known, &mirror), -E2BIG, "does not know");
    mirror_options.of_a_later_version = 0;
    for (uint32_t flag = 2; flag; flag <<= 1) {
        mirror_options.known.flags = flag;
        CHECK_ERROR(circbuf_mirror_open(name, &mirror_options.known, &mirror), -EINVAL, "flags");
    }
    mirror_options.known.flags = 0;
    mirror_options.known.reserved = 1;
    CHECK_ERROR(circbuf_mirror_open(name, &mirror_options.known, &mirror), -EINVAL, "reserved");
    mirror_options.known.reserved = 0;
    CHECK_EQ(circbuf_mirror_open(name, &mirror_options.known, &mirror), 0);

    /* Of a wrong size nothing is taken: no format, no frames, no room. */
    float frames[FRAMES][CHANNELS];
    circbuf_span_t span = {0};
    circbuf_view_t view = {0};
    circbuf_reservation_t room = {0};
    format.size = 0;
    CHECK_ERROR(circbuf_mirror_format(mirror, &format), -EINVAL, "size");
    CHECK_ERROR(circbuf_mirror_read(mirror, frames, sizeof frames, NULL, 1, NULL), -ESTALE, "format");
    format.size = sizeof format;
    CHECK_EQ(circbuf_mirror_format(mirror, &format), 0);
    write_frames(stream, 0, 3);
    CHECK_ERROR(circbuf_mirror_read(mirror, frames, sizeof frames, NULL, 1, &span), -EINVAL, "size");
    CHECK_ERROR(circbuf_mirror_read_time(mirror, 0, 9, frames, sizeof frames, NULL, 1, &span), -EINVAL, "size");
    CHECK_ERROR(circbuf_mirror_view(mirror, 1, &view), -EINVAL, "size");
    CHECK_ERROR(circbuf_mirror_view_is_intact(mirror, &view), -EINVAL, "size");
    CHECK_ERROR(circbuf_reserve(stream, 1, &room), -EINVAL, "size");
    expect_frames(mirror, 0, 3, 0);
    write_frames(stream, 3, 1);
    expect_frames(mirror, 3, 1, 0);

    CHECK_EQ(circbuf_mirror_info(mirror, &info.known), 0);
    CHECK_EQ(info.known.size, sizeof info);
    CHECK_EQ(info.known.written, 4);
    CHECK_EQ(info.of_a_later_version, 0); /* this library does not know it */
    info.known = (circbuf_info_t){.size = offsetof(circbuf_info_t, written), .written = 77};
    CHECK_EQ(circbuf_mirror_info(mirror, &info.known), 0);
    CHECK_EQ(info.known.written, 77); /* an earlier version did not know it */
    remove_both(stream, mirror);
}

static void null_arguments(void)
{
    circbuf_t *stream = a_stream();
    circbuf_mirror_t *mirror = a_mirror();
    circbuf_format_t format = a_format();
    circbuf_reservation_t room = {.size = sizeof room};
    circbuf_info_t info = {.size = sizeof info};
    circbuf_view_t view = {.size = sizeof view};
    circbuf_memory_t memory = {.size = sizeof memory};
    circbuf_span_t span = {.size = sizeof span};
    circbuf_ring_t *ring;
    ptrdiff_t strides[] = {16, 4};
    float frames[2][CHANNELS] = {{0}};
    double times[2] = {6, 7};
    char text[8];

    CHECK_EQ(circbuf_close(NULL), 0);
    CHECK_EQ(circbuf_detach(NULL), 0);
    CHECK_EQ(circbuf_mirror_close(NULL), 0);
    CHECK_EQ(circbuf_ring_free(NULL), 0);

    CHECK_ERROR(circbuf_configure(NULL, &format), -EINVAL, "stream");
    CHECK_ERROR(circbuf_configure(stream, NULL), -EINVAL, "format");
    CHECK_ERROR(circbuf_write(NULL, frames, NULL, 1), -EINVAL, "stream");
    CHECK_ERROR(circbuf_write(stream, NULL, NULL, 1), -EINVAL, "frames");
    CHECK_ERROR(circbuf_write(stream, frames, NULL, SIZE_MAX), -EINVAL, "n frames");
    CHECK_ERROR(circbuf_write(stream, frames, (double *)((char *)times + 1), 1), -EINVAL, "aligned");
    CHECK_ERROR(circbuf_write_strided(NULL, frames, strides, NULL, 1), -EINVAL, "stream");
    CHECK_ERROR(circbuf_write_strided(stream, NULL, strides, NULL, 1), -EINVAL, "frames");
    CHECK_ERROR(circbuf_write_strided(stream, frames, NULL, NULL, 1), -EINVAL, "strides");
    strides[0] = PTRDIFF_MAX;
    CHECK_ERROR(circbuf_write_strided(stream, frames, strides, NULL, 3), -EINVAL, "strides");
    CHECK_ERROR(circbuf_reserve(NULL, 1, &room), -EINVAL, "stream");
    CHECK_ERROR(circbuf_reserve(stream, 1, NULL), -EINVAL, "out");
    CHECK_ERROR(circbuf_commit(NULL, 1), -EINVAL, "stream");
    CHECK_ERROR(circbuf_set_metadata(NULL, "{}"), -EINVAL, "stream");
    CHECK_ERROR(circbuf_info(NULL, &info), -EINVAL, "stream");
    CHECK_ERROR(circbuf_info(stream, NULL), -EINVAL, "out");
    CHECK_ERROR(circbuf_ring(NULL, &ring), -EINVAL, "stream");
    CHECK_ERROR(circbuf_ring(stream, NULL), -EINVAL, "ring");

    CHECK_ERROR(circbuf_mirror_open(NULL, NULL, &mirror), -EINVAL, "name");
    CHECK_ERROR(circbuf_mirror_open("", NULL, &mirror), -EINVAL, "name");
    CHECK_ERROR(circbuf_mirror_open("\xff", NULL, &mirror), -EILSEQ, "UTF-8");
    CHECK_ERROR(circbuf_mirror_open(name, NULL, NULL), -EINVAL, "mirror");
    CHECK_ERROR(circbuf_mirror_format(NULL, &format), -EINVAL, "mirror");
    CHECK_ERROR(circbuf_mirror_format(mirror, NULL), -EINVAL, "out");
    CHECK_ERROR(circbuf_mirror_read(NULL, frames, sizeof frames, times, 2, &span), -EINVAL, "mirror");
    CHECK_ERROR(circbuf_mirror_read(mirror, NULL, sizeof frames, times, 2, &span), -EINVAL, "frames");
    CHECK_ERROR(circbuf_mirror_read_time(NULL, 0, 1, frames, sizeof frames, times, 2, &span), -EINVAL, "mirror");
    CHECK_ERROR(circbuf_mirror_read_time(mirror, 0, 1, NULL, sizeof frames, times, 2, &span), -EINVAL, "frames");
    CHECK_ERROR(circbuf_mirror_view(NULL, 1, &view), -EINVAL, "mirror");
    CHECK_ERROR(circbuf_mirror_view(mirror, 1, NULL), -EINVAL, "view");
    CHECK_ERROR(circbuf_mirror_view_is_intact(NULL, &view), -EINVAL, "mirror");
    CHECK_ERROR(circbuf_mirror_view_is_intact(mirror, NULL), -EINVAL, "view");
    CHECK_ERROR(circbuf_mirror_seek(NULL, 0), -EINVAL, "mirror");
    CHECK_ERROR(circbuf_mirror_wait(NULL, 1, 0), -EINVAL, "mirror");
    CHECK_ERROR(circbuf_mirror_metadata(NULL, text, sizeof text), -EINVAL, "mirror");
    CHECK_EQ(circbuf_set_metadata(stream, "{}"), 1);
    CHECK_ERROR(circbuf_mirror_metadata(mirror, NULL, 1), -EINVAL, "buf");
    CHECK_ERROR(circbuf_mirror_info(NULL, &info), -EINVAL, "mirror");
    CHECK_ERROR(circbuf_mirror_info(mirror, NULL), -EINVAL, "out");
    CHECK_ERROR(circbuf_mirror_ring(NULL, &ring), -EINVAL, "mirror");
    CHECK_ERROR(circbuf_mirror_ring(mirror, NULL), -EINVAL, "ring");
    CHECK_ERROR(circbuf_ring_memory(NULL, &memory), -EINVAL, "ring");
    CHECK_EQ(circbuf_mirror_ring(mirror, &ring), 0);
    CHECK_ERROR(circbuf_ring_memory(ring, NULL), -EINVAL, "out");
    CHECK_EQ(circbuf_ring_free(ring), 0);

    CHECK_EQ(info_of(mirror).written, 0); /* none of all that was written */
    remove_both(stream, mirror);
}

static void what_is_written_is_read(void)
{
    float frames[FRAMES][CHANNELS];
    double times[FRAMES];
    circbuf_span_t span = {.size = sizeof span};
    circbuf_t *stream = a_stream();
    circbuf_mirror_t *mirror = a_mirror();
    circbuf_format_t format = {.size = sizeof format};

    CHECK_EQ(circbuf_mirror_format(mirror, &format), 0);
    CHECK_EQ(format.dtype, 'f');
    CHECK_EQ(format.ndim, 1);
    CHECK_EQ(format.shape[0], CHANNELS);
    CHECK_EQ(format.frames, FRAMES);
    CHECK(format.rate == 100 && format.seconds == 0.1 && format.start == 0);
    CHECK(strcmp(format.key, "key") == 0);

    expect_frames(mirror, 0, 0, 0);
    write_frames(stream, 0, 1); /* a single frame */
    CHECK_EQ(circbuf_mirror_read(mirror, frames, sizeof frames, times, FRAMES, &span), 1);
    CHECK(times[0] == 5);
    check_frames(frames, 0, 1);
    write_frames(stream, 1, FRAMES - 1); /* an exact fill */
    CHECK_EQ(circbuf_mirror_read(mirror, frames, sizeof frames, times, FRAMES, &span), FRAMES - 1);
    check_frames(frames, 1, FRAMES - 1);
    for (int i = 0; i < FRAMES - 1; i++) CHECK(fabs(times[i] - (5 + (i + 1) / 100.0)) < 1e-9);
    expect_frames(mirror, 0, 0, 0); /* once */
    write_frames(stream, FRAMES, 7);
    write_frames(stream, FRAMES + 7, 3); /* another one, over a split */
    expect_frames(mirror, FRAMES, FRAMES, 0);
    write_frames(stream, 2 * FRAMES, 13); /* more than the ring holds */
    expect_frames(mirror, 2 * FRAMES + 3, FRAMES, 3);
    write_frames(stream, 33, 25); /* more than twice as many, again and again */
    write_frames(stream, 58, 25);
    expect_frames(mirror, 73, FRAMES, 40);

    /* As many as there is room for. */
    write_frames(stream, 83, 5);
    CHECK_EQ(circbuf_mirror_read(mirror, frames, sizeof frames, times, 2, &span), 2);
    CHECK_EQ(span.first, 83);
    CHECK_EQ(circbuf_mirror_read(mirror, frames, 2 * sizeof *frames - 1, NULL, FRAMES, NULL), 1);
    check_frames(frames, 85, 1);
    CHECK_ERROR(circbuf_mirror_read(mirror, frames, sizeof *frames - 1, NULL, FRAMES, &span), -EINVAL, "16");
    CHECK_ERROR(circbuf_mirror_read(mirror, NULL, 0, NULL, FRAMES, &span), -EINVAL, "16");
    CHECK_EQ(circbuf_mirror_read(mirror, frames, sizeof frames, NULL, 0, &span), 0);
    expect_frames(mirror, 86, 2, 0);

    circbuf_info_t info = info_of(mirror), of_writer = {.size = sizeof of_writer};
    CHECK_EQ(info.state, CIRCBUF_ALIVE);
    CHECK_EQ(info.layout, 2);
    CHECK_EQ(info.pid, getpid());
    CHECK_EQ(info.is_ours, 1);
    CHECK_EQ(info.begin, 0);
    CHECK_EQ(info.oldest, 78);
    CHECK_EQ(info.written, 88);
    CHECK_EQ(info.position, 88);
    CHECK_EQ(info.lost, 43);
    CHECK(info.last_write_ns / 1000000000 >= time(NULL) - 60 && info.last_write_ns / 1000000000 <= time(NULL));
    CHECK_EQ(circbuf_info(stream, &of_writer), 0);
    CHECK_EQ(of_writer.written, 88);
    CHECK_EQ(of_writer.oldest, 78);
    CHECK_EQ(of_writer.pid, getpid());
    remove_both(stream, mirror);
}

static void timestamps_of_ones_own(void)
{
    const double given[] = {-1.5, 2.25, 1e9};
    float frames[FRAMES][CHANNELS] = {{0}};
    double times[FRAMES];
    circbuf_format_t format = a_format();
    circbuf_t *stream = a_stream();
    circbuf_mirror_t *mirror = a_mirror();
    CHECK_EQ(circbuf_write(stream, frames, given, 3), 0);
    CHECK_EQ(circbuf_write(stream, frames, NULL, 2), 0); /* they go on from the last */
    CHECK_EQ(circbuf_mirror_read(mirror, frames, sizeof frames, times, FRAMES, NULL), 5);
    CHECK(memcmp(times, given, sizeof given) == 0);
    CHECK(fabs(times[4] - times[2] - 0.02) < 1e-6);

    format.rate = 0; /* irregular ones need them */
    CHECK_EQ(circbuf_configure(stream, &format), 1);
    CHECK_ERROR(circbuf_write(stream, frames, NULL, 1), -EINVAL, "irregular");
    CHECK_EQ(circbuf_write(stream, frames, given, 1), 0);
    CHECK_EQ(circbuf_mirror_format(mirror, &format), 0);
    CHECK(format.rate == 0 && format.seconds == 0);
    CHECK_EQ(circbuf_mirror_read(mirror, frames, sizeof frames, times, FRAMES, NULL), 1);
    CHECK(times[0] == given[0]);
    remove_both(stream, mirror);
}

static void frames_of_any_strides(void)
{
    /* Channels first, the frames last, and backwards: frame i lies in column 2 - i. */
    float columns[CHANNELS][3];
    const ptrdiff_t strides[] = {-(ptrdiff_t)sizeof(float), sizeof columns[0]}, again[] = {0, sizeof columns[0]};
    circbuf_t *stream = a_stream();
    circbuf_mirror_t *mirror = a_mirror();
    for (int c = 0; c < CHANNELS; c++)
        for (int i = 0; i < 3; i++) columns[c][2 - i] = number_of((uint64_t)i, c);
    CHECK_EQ(circbuf_write_strided(stream, &columns[0][2], strides, NULL, 3), 0);
    expect_frames(mirror, 0, 3, 0);
    CHECK_EQ(circbuf_write_strided(stream, &columns[0][2], again, NULL, 2), 0);
    CHECK_EQ(circbuf_write_strided(stream, NULL, again, NULL, 0), 0);
    float frames[FRAMES][CHANNELS];
    CHECK_EQ(circbuf_mirror_read(mirror, frames, sizeof frames, NULL, FRAMES, NULL), 2);
    check_frames(frames, 0, 1);
    check_frames(frames + 1, 0, 1);
    remove_both(stream, mirror);
}

static void frames_in_place(void)
{
    circbuf_t *stream = a_stream();
    circbuf_mirror_t *mirror = a_mirror();
    circbuf_format_t format = a_format();
    circbuf_reservation_t room = {.size = sizeof room};
    float frame[CHANNELS] = {0};
    CHECK_ERROR(circbuf_commit(stream, 0), -EBUSY, "no frames");
    CHECK_ERROR(circbuf_reserve(stream, FRAMES + 1, &room), -EMSGSIZE, "10");
    CHECK_ERROR(circbuf_reserve(stream, SIZE_MAX, &room), -EMSGSIZE, "10");
    write_frames(stream, 0, 7);
    expect_frames(mirror, 0, 7, 0);

    CHECK_EQ(circbuf_reserve(stream, 5, &room), 0);
    CHECK_EQ(room.first, 7);
    CHECK_EQ(room.index, 7);
    CHECK_EQ(room.counts[0], 3);
    CHECK_EQ(room.counts[1], 2);
    CHECK(fabs(room.timestamps[1][1] - 5.11) < 1e-9); /* derived from the rate */
    CHECK_ERROR(circbuf_reserve(stream, 1, &room), -EBUSY, "commit");
    CHECK_EQ(room.first, 7); /* refused, it writes nothing */
    CHECK_ERROR(circbuf_write(stream, frame, NULL, 1), -EBUSY, "commit");
    format.rate = 50;
    CHECK_ERROR(circbuf_configure(stream, &format), -EBUSY, "commit");
    CHECK_ERROR(circbuf_commit(stream, 6), -EMSGSIZE, "5");
    for (uint64_t i = 0; i < 5; i++) {
        float *to = i < 3 ? (float *)room.frames[0] + i * CHANNELS : (float *)room.frames[1] + (i - 3) * CHANNELS;
        for (int c = 0; c < CHANNELS; c++) to[c] = number_of(7 + i, c);
    }
    expect_frames(mirror, 0, 0, 0);
    room.timestamps[1][0] = 100; /* of the last one that is committed: the next go on from there */
    CHECK_EQ(circbuf_commit(stream, 4), 0);
    expect_frames(mirror, 7, 4, 0);
    CHECK_ERROR(circbuf_commit(stream, 1), -EBUSY, "no frames");
    CHECK_EQ(circbuf_reserve(stream, 1, &room), 0);
    CHECK_EQ(room.first, 11);
    CHECK(fabs(room.timestamps[0][0] - 100.01) < 1e-9);
    CHECK_EQ(circbuf_commit(stream, 0), 0); /* none at all */
    write_frames(stream, 11, 2);
    expect_frames(mirror, 11, 2, 0);
    remove_both(stream, mirror);
}

static void frames_where_they_are(void)
{
    circbuf_t *stream = a_stream();
    circbuf_mirror_t *mirror = a_mirror();
    circbuf_view_t view = {.size = sizeof view}, older;
    circbuf_memory_t memory = {.size = sizeof memory};
    circbuf_ring_t *ring;
    CHECK_EQ(circbuf_mirror_view(mirror, UINT32_MAX, &view), 0);
    CHECK_EQ(view.count, 0);
    write_frames(stream, 0, 7);
    CHECK_EQ(circbuf_mirror_view(mirror, 7, &view), 7);
    write_frames(stream, 7, 5); /* frames 0 and 1 are gone */
    CHECK_EQ(circbuf_mirror_view_is_intact(mirror, &view), 0);
    older = view;
    CHECK_EQ(circbuf_mirror_view(mirror, UINT32_MAX, &view), 5);
    CHECK_EQ(view.first, 7);
    CHECK_EQ(view.lost, 0);
    CHECK_EQ(view.index, 7);
    CHECK_EQ(view.counts[0], 3);
    CHECK_EQ(view.counts[1], 2);
    check_frames(view.frames[0], 7, 3);
    check_frames(view.frames[1], 10, 2);
    CHECK(fabs(view.timestamps[1][1] - 5.11) < 1e-9);
    CHECK_EQ(circbuf_mirror_view_is_intact(mirror, &view), 1);
    CHECK_EQ(circbuf_mirror_view_is_intact(mirror, &older), 0);

    /* The memory stays, whatever becomes of stream and mirror. */
    CHECK_EQ(circbuf_mirror_ring(mirror, &ring), 0);
    CHECK_EQ(circbuf_ring_memory(ring, &memory), 0);
    CHECK_EQ(memory.count, FRAMES);
    CHECK_EQ(memory.frame_size, CHANNELS * sizeof(float));
    CHECK_EQ(memory.ring, view.ring);
    CHECK(view.frames[1] == memory.frames && view.timestamps[1] == memory.timestamps);
    circbuf_ring_t *of_writer;
    circbuf_memory_t writable = {.size = sizeof writable};
    CHECK_EQ(circbuf_ring(stream, &of_writer), 0);
    CHECK_EQ(circbuf_ring_memory(of_writer, &writable), 0);
    CHECK_EQ(writable.ring, 0);
    ((float *)writable.frames)[0] = 42;
    remove_both(stream, mirror);
    CHECK(((const float *)memory.frames)[0] == 42);
    CHECK_EQ(circbuf_ring_free(of_writer), 0);
    CHECK_EQ(circbuf_ring_free(ring), 0);
}

static void frames_by_time_and_number(void)
{
    circbuf_t *stream = a_stream();
    circbuf_mirror_t *mirror = a_mirror();
    circbuf_span_t span = {.size = sizeof span};
    float frames[FRAMES][CHANNELS];
    double times[FRAMES];
    write_frames(stream, 0, 15); /* of 5.00 to 5.14 s, of which 5 are gone */
    CHECK_EQ(circbuf_mirror_read_time(mirror, 5.075, 5.105, frames, sizeof frames, times, FRAMES, &span), 3);
    CHECK_EQ(span.first, 8);
    check_frames(frames, 8, 3);
    CHECK(fabs(times[2] - 5.10) < 1e-9);
    CHECK_EQ(circbuf_mirror_read_time(mirror, -INFINITY, INFINITY, frames, sizeof frames, NULL, 2, &span), 2);
    CHECK_EQ(span.first, 5);
    CHECK_EQ(circbuf_mirror_read_time(mirror, 6, 7, frames, sizeof frames, NULL, FRAMES, &span), 0);
    CHECK_EQ(circbuf_mirror_read_time(mirror, 5.1, 5.0, frames, sizeof frames, NULL, FRAMES, &span), 0);
    CHECK_EQ(circbuf_mirror_read_time(mirror, NAN, NAN, frames, sizeof frames, NULL, FRAMES, &span), 0);
    expect_frames(mirror, 5, FRAMES, 0); /* what comes next is still the oldest */

    CHECK_EQ(circbuf_mirror_seek(mirror, 12), 0);
    expect_frames(mirror, 12, 3, 0);
    CHECK_EQ(circbuf_mirror_seek(mirror, 0), 0);
    expect_frames(mirror, 5, FRAMES, 0);
    CHECK_EQ(circbuf_mirror_seek(mirror, 0), 0);
    CHECK_EQ(circbuf_mirror_seek(mirror, UINT64_MAX), 0);
    expect_frames(mirror, 0, 0, 0);
    write_frames(stream, 15, 1);
    expect_frames(mirror, 15, 1, 0);
    CHECK_EQ(circbuf_mirror_close(mirror), 0);

    circbuf_mirror_options_t options = {.size = sizeof options, .flags = CIRCBUF_FROM_NOW};
    circbuf_format_t format = {.size = sizeof format};
    CHECK_EQ(circbuf_mirror_open(name, &options, &mirror), 0);
    CHECK_EQ(circbuf_mirror_format(mirror, &format), 0);
    expect_frames(mirror, 0, 0, 0);
    write_frames(stream, 16, 1);
    expect_frames(mirror, 16, 1, 0);
    remove_both(stream, mirror);
}

static void formats_that_change(void)
{
    float frames[FRAMES][CHANNELS];
    double doubles[FRAMES];
    circbuf_span_t span = {.size = sizeof span};
    circbuf_view_t view = {.size = sizeof view};
    circbuf_format_t format = {.size = sizeof format};
    circbuf_mirror_t *mirror;
    circbuf_ring_t *ring;
    CHECK_EQ(circbuf_mirror_open(name, NULL, &mirror), 0);
    CHECK_ERROR(circbuf_mirror_format(mirror, &format), -ENOENT, name);
    CHECK_ERROR(circbuf_mirror_wait(mirror, 1, 1), -ENOENT, "no stream");
    CHECK_EQ(circbuf_mirror_read(mirror, frames, sizeof frames, NULL, FRAMES, &span), 0);
    CHECK_EQ(circbuf_mirror_view(mirror, FRAMES, &view), 0);
    CHECK(!view.frames[0] && !view.frames[1] && !view.timestamps[0]);
    CHECK_ERROR(circbuf_mirror_ring(mirror, &ring), -ENOENT, name);
    CHECK_EQ(info_of(mirror).state, CIRCBUF_ABSENT);

    circbuf_t *stream = make(NULL, 0);
    CHECK_EQ(circbuf_mirror_wait(mirror, 1, 20), 0);
    CHECK_ERROR(circbuf_mirror_format(mirror, &format), -EAGAIN, name);
    CHECK_EQ(info_of(mirror).state, CIRCBUF_UNCONFIGURED);
    format = a_format();
    CHECK_EQ(circbuf_configure(stream, &format), 1);
    CHECK_ERROR(circbuf_mirror_wait(mirror, 1, PATIENCE_MS), -ESTALE, "format");
    CHECK_ERROR(circbuf_mirror_read(mirror, frames, sizeof frames, NULL, FRAMES, &span), -ESTALE, "format");
    CHECK_ERROR(circbuf_mirror_view(mirror, FRAMES, &view), -ESTALE, "format");
    CHECK_EQ(circbuf_mirror_format(mirror, &format), 0);
    write_frames(stream, 0, 3);
    CHECK_EQ(circbuf_mirror_read(mirror, frames, sizeof frames, NULL, 1, &span), 1);
    CHECK_EQ(span.ring, 1);

    /* What is left of the old ring comes first. */
    format = (circbuf_format_t){.size = sizeof format, .dtype = 'd', .rate = 10, .seconds = 1, .start = 50};
    CHECK_EQ(circbuf_configure(stream, &format), 1);
    CHECK(!is_there("/buffer0") && is_there("/buffer1"));
    CHECK_EQ(circbuf_write(stream, (double[]){1.5, 2.5}, NULL, 2), 0);
    CHECK_EQ(circbuf_mirror_read(mirror, frames, sizeof frames, NULL, 1, &span), 1);
    check_frames(frames, 1, 1);
    CHECK_EQ(circbuf_mirror_view(mirror, FRAMES, &view), 1);
    CHECK_ERROR(circbuf_mirror_wait(mirror, 1, PATIENCE_MS), -ESTALE, "format");
    check_frames(view.frames[0], 2, 1); /* it stays until the new format is asked for */
    CHECK_EQ(circbuf_mirror_view_is_intact(mirror, &view), 1);
    CHECK_EQ(circbuf_mirror_format(mirror, &format), 0);
    CHECK_EQ(format.dtype, 'd');
    CHECK_EQ(format.ndim, 0);
    CHECK_EQ(circbuf_mirror_read(mirror, doubles, sizeof doubles, NULL, FRAMES, &span), 2);
    CHECK(doubles[0] == 1.5 && doubles[1] == 2.5);
    CHECK_EQ(span.first, 3); /* numbers go on */
    CHECK_EQ(span.lost, 0);
    CHECK_EQ(span.ring, 2);
    remove_both(stream, mirror);
}

static void layouts(void)
{
    static const uint32_t flags[] = {CIRCBUF_LAYOUT_V0, CIRCBUF_LAYOUT_V1, 0};
    for (uint32_t layout = 0; layout <= 2; layout++) {
        circbuf_format_t format = a_format();
        circbuf_t *stream = make(&format, flags[layout]);
        circbuf_mirror_t *mirror = a_mirror();
        circbuf_view_t view = {.size = sizeof view};
        float frames[FRAMES][CHANNELS];
        double times[FRAMES];
        write_frames(stream, 0, 12);
        CHECK_EQ(info_of(mirror).layout, layout);
        CHECK_EQ(circbuf_mirror_read(mirror, frames, sizeof frames, times, 3, NULL), 3);
        check_frames(frames, 2, 3);
        /* Without timestamps in the layout, time is counted from the begin of the ring. */
        CHECK(fabs(times[1] - (layout == 2 ? 5.03 : 0.03)) < 1e-9);
        CHECK_EQ(circbuf_mirror_view(mirror, 1, &view), 1);
        CHECK(!view.timestamps[0] == (layout < 2));
        if (layout == 0)
            CHECK_ERROR(circbuf_set_metadata(stream, "{}"), -EOPNOTSUPP, "layout 0");
        else
            CHECK_EQ(circbuf_set_metadata(stream, "{}"), 1);

        format.rate = 0;
        CHECK_EQ(circbuf_configure(stream, &format), 1);
        CHECK_EQ(circbuf_write(stream, frames, times, 1), 0);
        CHECK_EQ(circbuf_mirror_seek(mirror, UINT64_MAX), 0);
        CHECK_EQ(circbuf_mirror_format(mirror, &format), 0);
        CHECK_EQ(circbuf_mirror_read(mirror, frames, sizeof frames, times, 1, NULL), 1);
        if (layout < 2) {
            CHECK(isnan(times[0]));
            CHECK_ERROR(circbuf_mirror_read_time(mirror, 0, 1, frames, sizeof frames, times, 1, NULL), -ENODATA,
                        "irregular");
        }
        remove_both(stream, mirror);
    }
}

static void metadata(void)
{
    static const char given[] =
        "{\"dims\": [\"time\", \"ch\"], \"axes\": {\"time\": {\"kind\": \"linear\", \"unit\": \"s\", \"gain\": 0.5},"
        " \"ch\": {\"kind\": \"coord\", \"data\": [\"C3\", \"C4\"]}}, \"attrs\": {\"unit\": \"\\u00b5V\"},"
        " \"buffered_axis\": \"time\"}";
    static const char expected[] =
        "{\"dims\":[\"time\",\"ch\"],\"axes\":{\"time\":{\"kind\":\"linear\",\"unit\":\"s\",\"gain\":0.5},"
        "\"ch\":{\"kind\":\"coord\",\"unit\":\"\",\"dims\":[\"ch\"],"
        "\"dtype\":\"<U2\",\"shape\":[2],\"data\":[\"C3\",\"C4\"]}},"
        "\"attrs\":{\"unit\":\"\u00b5V\"},\"key\":\"\",\"buffered_axis\":\"time\",\"stream_dim\":null}";
    static const char *const wrong[][2] = {
        {"", "JSON"},
        {"[]", "object"},
        {"{\"dims\": 1}", "dims"},
        {"{\"colour\": 1}", "colour"},
        {"{\"axes\": {\"ch\": {\"kind\": \"coord\", \"data\": [\"C3\", 4]}}}", "axes.ch.data"},
        {"{\"axes\": {\"ch\": {\"kind\": \"coord\"}}}", "axes.ch"},
        {"{\"attrs\": {\"a\": {\"$array\": {\"dtype\": \"|O\", \"data\": []}}}}", "attrs.a.$array.dtype"},
    };
    char text[512];
    circbuf_t *stream = a_stream();
    circbuf_mirror_t *mirror = a_mirror();
    CHECK_ERROR(circbuf_mirror_metadata(mirror, text, sizeof text), -ENODATA, "no static metadata");
    CHECK_EQ(circbuf_set_metadata(stream, NULL), 0);
    CHECK_EQ(circbuf_set_metadata(stream, given), 1);
    CHECK_EQ(circbuf_set_metadata(stream, given), 0); /* the same */
    for (size_t i = 0; i < LEN(wrong); i++)
        CHECK_ERROR(circbuf_set_metadata(stream, wrong[i][0]), -EINVAL, wrong[i][1]);
    CHECK_ERROR(circbuf_set_metadata(stream, "{\"key\": \"\xff\"}"), -EILSEQ, "UTF-8");

    CHECK_EQ(info_of(mirror).metadata_generation, 1);
    CHECK_EQ(circbuf_mirror_metadata(mirror, NULL, 0), strlen(expected));
    CHECK_EQ(circbuf_mirror_metadata(mirror, text, sizeof text), strlen(expected));
    CHECK(strcmp(text, expected) == 0);
    CHECK_EQ(circbuf_mirror_metadata(mirror, text, 8), strlen(expected));
    CHECK(strcmp(text, "{\"dims\"") == 0);
    CHECK_EQ(circbuf_set_metadata(stream, expected), 0); /* what is read is what was written */

    CHECK_EQ(circbuf_set_metadata(stream, "{}"), 1);
    CHECK(!is_there("/meta1") && is_there("/meta2"));
    CHECK_EQ(circbuf_set_metadata(stream, NULL), 1);
    CHECK(!is_there("/meta2"));
    CHECK_ERROR(circbuf_mirror_metadata(mirror, text, sizeof text), -ENODATA, "no static metadata");
    CHECK_EQ(info_of(mirror).metadata_generation, 0);
    CHECK_EQ(circbuf_set_metadata(stream, given), 1);
    remove_both(stream, mirror);
    CHECK(!is_there("/meta3"));
}

static void streams_that_end(void)
{
    circbuf_t *stream = a_stream();
    circbuf_mirror_t *mirror = a_mirror();
    float frames[FRAMES][CHANNELS];
    circbuf_format_t format = {.size = sizeof format};
    CHECK_EQ(circbuf_mirror_wait(mirror, 1, 0), 0);
    write_frames(stream, 0, 3);
    CHECK_EQ(circbuf_mirror_wait(mirror, 0, 0), 3);
    CHECK_EQ(circbuf_mirror_wait(mirror, 4, 1), 0); /* so many have not come */
    write_frames(stream, 3, 9);
    CHECK_EQ(circbuf_mirror_wait(mirror, UINT32_MAX, CIRCBUF_NO_TIMEOUT), FRAMES); /* more never come */

    /* What is left can be read, before and after the end is told. */
    CHECK_EQ(circbuf_detach(stream), 0);
    CHECK_EQ(circbuf_mirror_wait(mirror, 1, PATIENCE_MS), FRAMES);
    CHECK_EQ(circbuf_mirror_read(mirror, frames, sizeof frames, NULL, 9, NULL), 9);
    check_frames(frames, 2, 9);
    expect_frames(mirror, 11, 1, 0);
    CHECK_ERROR(circbuf_mirror_wait(mirror, 1, CIRCBUF_NO_TIMEOUT), -ENODATA, "ended"); /* at once */
    CHECK_ERROR(circbuf_mirror_wait(mirror, 1, 1), -ENODATA, "ended");
    CHECK_EQ(info_of(mirror).state, CIRCBUF_ENDED);

    stream = a_stream(); /* the next writer goes on in the same header, and with the numbers */
    CHECK_ERROR(circbuf_mirror_wait(mirror, 1, PATIENCE_MS), -ESTALE, "format");
    CHECK_EQ(circbuf_mirror_format(mirror, &format), 0);
    write_frames(stream, 12, 2);
    expect_frames(mirror, 12, 2, 0);

    CHECK_EQ(circbuf_close(stream), 0);
    CHECK_ERROR(circbuf_mirror_wait(mirror, 1, CIRCBUF_NO_TIMEOUT), -ENODATA, "ended");
    stream = a_stream(); /* this one begins anew */
    CHECK_ERROR(circbuf_mirror_wait(mirror, 1, PATIENCE_MS), -ESTALE, "format");
    CHECK_EQ(circbuf_mirror_format(mirror, &format), 0);
    write_frames(stream, 0, 2);
    expect_frames(mirror, 0, 2, 0);

    /* One that dies. */
    remove_both(stream, mirror);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        write_frames(a_stream(), 0, 3);
        raise(SIGKILL);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    mirror = a_mirror();
    expect_frames(mirror, 0, 3, 0);
    CHECK_ERROR(circbuf_mirror_wait(mirror, 1, CIRCBUF_NO_TIMEOUT), -EOWNERDEAD, "died");
    CHECK_EQ(info_of(mirror).state, CIRCBUF_DEAD);
    CHECK_EQ(info_of(mirror).pid, child);
    stream = a_stream();
    CHECK_ERROR(circbuf_mirror_wait(mirror, 1, PATIENCE_MS), -ESTALE, "format");
    CHECK_EQ(circbuf_mirror_format(mirror, &format), 0);
    write_frames(stream, 3, 1);
    expect_frames(mirror, 3, 1, 0);
    remove_both(stream, mirror);
}

static void what_is_no_stream(void)
{
    static const struct {
        char bytes[16];
        off_t length;
        const char *words;
    } files[] = {
        {"", 0, "no header"},
        {"Hello, world", 4096, "no header"},
        {"SMZE\3", 4096, "struct_version 3"},
        {"SMZE\2", 1333, "1333 bytes"},
        {"\1f", 1317, "1317 bytes"},
        {"SMZE\2\0\0\0\1x", 1334, "dtype 'x'"},
        {"SMZE\2\0\0\0\1f", 1334, "0 dimensions"},
    };
    char path[64];
    path_of(path, name);
    for (size_t i = 0; i < LEN(files); i++) {
        circbuf_mirror_t *mirror;
        circbuf_info_t info = {.size = sizeof info};
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        CHECK(fd >= 0);
        CHECK_EQ(write(fd, files[i].bytes, sizeof files[i].bytes), sizeof files[i].bytes);
        CHECK_EQ(ftruncate(fd, files[i].length), 0);
        CHECK_EQ(circbuf_mirror_open(name, NULL, &mirror), 0);
        CHECK_ERROR(circbuf_mirror_wait(mirror, 1, PATIENCE_MS), -EPROTO, files[i].words);
        CHECK_ERROR(circbuf_mirror_info(mirror, &info), -EPROTO, path);
        CHECK_EQ(circbuf_mirror_close(mirror), 0);
        close(fd);
        CHECK_EQ(unlink(path), 0);
    }
}

/* A child reads on, and does not write: not even what it could by closing. */
static void after_fork(void)
{
    char other_name[40];
    circbuf_options_t options = {.size = sizeof options, .name = other_name};
    circbuf_t *stream = a_stream(), *other;
    circbuf_mirror_t *mirror = a_mirror();
    snprintf(other_name, sizeof other_name, "%s-other", name);
    CHECK_EQ(circbuf_create(&options, &other), 0);
    write_frames(stream, 0, 2);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        circbuf_format_t format = a_format();
        circbuf_reservation_t room = {.size = sizeof room};
        circbuf_info_t info = {.size = sizeof info};
        circbuf_ring_t *ring;
        float frame[CHANNELS] = {0};
        const ptrdiff_t strides[] = {16, 4};
        CHECK_ERROR(circbuf_write(stream, frame, NULL, 1), SHMHOT_EFORK, "fork");
        CHECK_ERROR(circbuf_write_strided(stream, frame, strides, NULL, 1), SHMHOT_EFORK, "fork");
        CHECK_ERROR(circbuf_configure(stream, &format), SHMHOT_EFORK, "fork");
        CHECK_ERROR(circbuf_reserve(stream, 1, &room), SHMHOT_EFORK, "fork");
        CHECK_ERROR(circbuf_commit(stream, 1), SHMHOT_EFORK, "fork");
        CHECK_ERROR(circbuf_set_metadata(stream, "{}"), SHMHOT_EFORK, "fork");
        CHECK_ERROR(circbuf_info(stream, &info), SHMHOT_EFORK, "fork");
        CHECK_ERROR(circbuf_ring(stream, &ring), SHMHOT_EFORK, "fork");
        CHECK_ERROR(circbuf_close(stream), SHMHOT_EFORK, "fork");
        CHECK_ERROR(circbuf_detach(other), SHMHOT_EFORK, "fork");
        CHECK_EQ(circbuf_mirror_wait(mirror, 3, PATIENCE_MS), 3); /* the parent goes on */
        expect_frames(mirror, 0, 3, 0);
        _exit(0);
    }
    int status;
    write_frames(stream, 2, 1);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK(is_there("") && is_there("/buffer0"));
    expect_frames(mirror, 0, 3, 0);
    CHECK_EQ(circbuf_close(other), 0);
    remove_both(stream, mirror);
}

enum { THREADS = 4, WRITES = 5000 };

static void *write_numbers(void *stream)
{
    static uint32_t threads;
    uint32_t thread = __atomic_fetch_add(&threads, 1, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < WRITES; i++) {
        float frame[CHANNELS] = {(float)thread, (float)i, (float)i, (float)i};
        CHECK_EQ(circbuf_write(stream, frame, NULL, 1), 0);
    }
    return NULL;
}

/* Each frame is whole, comes once and in its thread's order, or is counted as lost. */
static void threads_on_one_handle(void)
{
    pthread_t threads[THREADS];
    circbuf_t *stream = a_stream();
    circbuf_mirror_t *mirror = a_mirror();
    float next[THREADS] = {0}, frames[FRAMES][CHANNELS];
    circbuf_span_t span = {.size = sizeof span};
    write_frames(stream, 0, 1);
    expect_frames(mirror, 0, 1, 0); /* what was gone before the first read is not missed */
    for (size_t i = 0; i < THREADS; i++) CHECK_EQ(pthread_create(&threads[i], NULL, write_numbers, stream), 0);
    for (uint64_t end = 1; end < 1 + THREADS * WRITES; end = span.first + span.count) {
        CHECK(circbuf_mirror_wait(mirror, 1, PATIENCE_MS) > 0);
        CHECK(circbuf_mirror_read(mirror, frames, sizeof frames, NULL, FRAMES, &span) >= 0);
        CHECK_EQ(span.first, end + span.lost);
        for (uint64_t i = 0; i < span.count; i++) {
            const float *frame = frames[i];
            CHECK(frame[0] >= 0 && frame[0] < THREADS && frame[1] == frame[2] && frame[2] == frame[3]);
            CHECK(frame[1] >= next[(int)frame[0]]);
            next[(int)frame[0]] = frame[1] + 1;
        }
    }
    for (size_t i = 0; i < THREADS; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    expect_frames(mirror, 0, 0, 0);
    CHECK_EQ(info_of(mirror).written, 1 + THREADS * WRITES);
    remove_both(stream, mirror);
}

int main(void)
{
    snprintf(name, sizeof name, "shmhot-test-%d", getpid());
    RUN(names);
    RUN(formats_that_cannot_be);
    RUN(streams_that_cannot_be);
    RUN(sizes_of_structs);
    RUN(null_arguments);
    RUN(what_is_written_is_read);
    RUN(timestamps_of_ones_own);
    RUN(frames_of_any_strides);
    RUN(frames_in_place);
    RUN(frames_where_they_are);
    RUN(frames_by_time_and_number);
    RUN(formats_that_change);
    RUN(layouts);
    RUN(metadata);
    RUN(streams_that_end);
    RUN(what_is_no_stream);
    RUN(after_fork);
    RUN(threads_on_one_handle);
    return 0;
}
