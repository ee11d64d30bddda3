/*
 * What the test programs share: checks that end the program with a sentence, sockets over loopback, and
 * rings. A program exits with 0 when all is well, 1 when not, 77 when it cannot run on this machine.
 */
#ifndef CHECK_H
#define CHECK_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <shmhot.h>

/* How long anything that must happen may take: only failures ever wait that long. */
#define PATIENCE_MS 5000

#define LEN(array) (sizeof(array) / sizeof((array)[0]))

#define RUN(test)                                                     \
    do {                                                              \
        current_test = #test;                                         \
        test();                                                       \
        printf("ok %s: %s\n", program_invocation_short_name, #test); \
        fflush(stdout);                                               \
    } while (0)

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) fail(__FILE__, __LINE__, #condition " is false");                \
    } while (0)

/* Of any integers. */
#define CHECK_EQ(actual, expected) check_eq(__FILE__, __LINE__, #actual, (actual), #expected, (expected))

/* The call is refused with this status, and the sentence names the culprit. */
#define CHECK_ERROR(call, status, words) check_error(__FILE__, __LINE__, #call, (call), (status), (words))

static const char *current_test = "";

static void fail(const char *file, int line, const char *what)
{
    char why[256];
    shmhot_last_error(why, sizeof why);
    printf("FAILED %s:%d: %s: %s\n(last error of the library: %s)\n", file, line, current_test, what, why);
    fflush(stdout);
    _exit(1);
}

static void check_eq(const char *file, int line, const char *name, int64_t actual, const char *wish, int64_t expected)
{
    char what[512];
    if (actual == expected) return;
    snprintf(what, sizeof what, "%s is %" PRId64 " (as a status: %s; errno: %s), not %s = %" PRId64, name, actual,
             shmhot_strerror((int32_t)actual), strerror(errno), wish, expected);
    fail(file, line, what);
}

static inline void check_error(const char *file, int line, const char *name, int32_t actual, int32_t status,
                               const char *words)
{
    char sentence[512], what[1024];
    check_eq(file, line, name, actual, "the status wished for", status);
    check_eq(file, line, "shmhot_last_status()", shmhot_last_status(), "the status returned", status);
    shmhot_last_error(sentence, sizeof sentence);
    if (strstr(sentence, words)) return;
    snprintf(what, sizeof what, "the error of %s, \"%s\", does not say \"%s\"", name, sentence, words);
    fail(file, line, what);
}

static inline int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static inline void sleep_ms(int ms)
{
    struct timespec span = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&span, &span) < 0) CHECK_EQ(errno, EINTR);
}

/* Sockets. */

static inline int listener(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(listen(fd, 128), 0);
    return fd;
}

static inline struct sockaddr_in address_of(int fd)
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    return address;
}

/* A blocking client, which gives up reading after PATIENCE_MS. */
static inline int dial(int listener_fd)
{
    struct sockaddr_in address = address_of(listener_fd);
    struct timeval patience = {PATIENCE_MS / 1000, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    return fd;
}

/* Two ends of one TCP connection: ours for the ring, theirs for plain system calls. */
typedef struct {
    int ours, theirs;
} pair_t;

static inline pair_t connected(void)
{
    int listener_fd = listener();
    pair_t pair = {.theirs = dial(listener_fd)};
    pair.ours = accept4(listener_fd, NULL, NULL, SOCK_CLOEXEC);
    CHECK(pair.ours >= 0);
    close(listener_fd);
    return pair;
}

static inline void say(int fd, const char *text)
{
    CHECK_EQ(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Freeing a ring may interrupt a call that its thread makes shortly after, so EINTR needs no signal. */
static inline ssize_t receive(int fd, void *bytes, size_t length)
{
    ssize_t n;
    do n = recv(fd, bytes, length, 0);
    while (n < 0 && errno == EINTR);
    return n;
}

static inline void expect_text(int fd, const char *text)
{
    char got[64];
    size_t length = strlen(text), done = 0;
    CHECK(length <= sizeof got);
    while (done < length) {
        ssize_t n = receive(fd, got + done, length - done);
        CHECK(n > 0);
        done += (size_t)n;
    }
    CHECK(memcmp(got, text, length) == 0);
}

static inline void expect_end(int fd)
{
    char byte;
    CHECK_EQ(receive(fd, &byte, 1), 0);
}

/* Rings. */

static inline void need_io_uring(void)
{
    hotpath_probe_t probe = {.size = sizeof probe};
    if (hotpath_supported()) return;
    CHECK_EQ(hotpath_probe(&probe), 0);
    printf("SKIP %s: io_uring is refused: %s\n", program_invocation_short_name, probe.detail);
    exit(77);
}

static inline hotpath_ring_t *new_ring(void)
{
    hotpath_ring_t *ring = hotpath_ring_new(64, 16, 4096);
    CHECK(ring);
    return ring;
}

/* The next completion, which must come and must be this one. */
static inline hotpath_completion_t expect(hotpath_ring_t *ring, int op_kind, int fd)
{
    hotpath_completion_t got = {0};
    int64_t end = now_ms() + PATIENCE_MS;
    int32_t n = 0;
    while (n == 0 && now_ms() < end) n = hotpath_wait(ring, 1, PATIENCE_MS, &got, 1);
    CHECK_EQ(n, 1);
    CHECK_EQ(got.op_kind, op_kind);
    CHECK_EQ(got.fd, fd);
    return got;
}

static inline void expect_result(hotpath_ring_t *ring, int op_kind, int fd, int64_t result)
{
    hotpath_completion_t got = expect(ring, op_kind, fd);
    CHECK_EQ(got.result, result);
}

/* Received bytes, which go back to the ring. */
static inline void expect_received(hotpath_ring_t *ring, int fd, const char *text)
{
    hotpath_completion_t got = expect(ring, HOTPATH_OP_RECV, fd);
    const uint8_t *bytes;
    CHECK_EQ(got.result, strlen(text));
    CHECK(got.flags & HOTPATH_F_BUFFER);
    CHECK_EQ(hotpath_buffer(ring, got.buf_id, &bytes), got.result);
    CHECK(memcmp(bytes, text, strlen(text)) == 0);
    CHECK_EQ(hotpath_release_buf(ring, got.buf_id), 0);
}

static inline void expect_silence(hotpath_ring_t *ring, uint32_t ms)
{
    hotpath_completion_t got;
    CHECK_EQ(hotpath_wait(ring, 1, ms, &got, 1), 0);
}

/* Ends a connection at once, whatever is still under way on it. */
static inline void hang_up(hotpath_ring_t *ring, pair_t pair)
{
    hotpath_completion_t got = {0};
    CHECK_EQ(hotpath_submit_close_within(ring, pair.ours, 0), 0);
    while (got.op_kind != HOTPATH_OP_CLOSE) CHECK_EQ(hotpath_wait(ring, 1, PATIENCE_MS, &got, 1), 1);
    CHECK_EQ(got.fd, pair.ours);
    close(pair.theirs);
}

#endif
