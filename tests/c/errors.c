/* Every mistake a C caller can make gets a status and a sentence, and leaves the ring usable. */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/uio.h>
#include <sys/wait.h>

static void refused_ring(hotpath_ring_t *ring, int32_t status, const char *words)
{
    CHECK(ring == NULL);
    CHECK_ERROR(shmhot_last_status(), status, words);
}

static void bad_sizes(void)
{
    refused_ring(hotpath_ring_new(0, 16, 4096), -EINVAL, "queue_depth");
    refused_ring(hotpath_ring_new(UINT32_MAX, 16, 4096), -EINVAL, "queue_depth");
    refused_ring(hotpath_ring_new(64, 0, 4096), -EINVAL, "n_bufs");
    refused_ring(hotpath_ring_new(64, 3, 4096), -EINVAL, "n_bufs");
    refused_ring(hotpath_ring_new(64, 65535, 4096), -EINVAL, "n_bufs");
    refused_ring(hotpath_ring_new(64, 16, 0), -EINVAL, "buf_size");
    refused_ring(hotpath_ring_new(64, 32768, UINT32_MAX), -EINVAL, "buf_size");
    refused_ring(hotpath_ring_new(64, 32768, 1 << 30), -ENOMEM, "buffers"); /* 32 TiB */
}

static void bad_options(void)
{
    struct {
        hotpath_options_t known;
        uint64_t of_a_later_version;
    } options = {.known = {.size = sizeof options}};
    hotpath_ring_t *ring = hotpath_ring_new_with(&options.known);
    CHECK(ring);
    CHECK_EQ(hotpath_ring_free(ring), 0);
    options.of_a_later_version = 1;
    refused_ring(hotpath_ring_new_with(&options.known), -E2BIG, "does not know");

    refused_ring(hotpath_ring_new_with(&(hotpath_options_t){0}), -EINVAL, "size");
    refused_ring(hotpath_ring_new_with(&(hotpath_options_t){.size = 4}), -EINVAL, "size");
    refused_ring(hotpath_ring_new_with(&(hotpath_options_t){.size = sizeof options.known, .flags = 1u << 30}), -EINVAL,
                 "flags");
    refused_ring(hotpath_ring_new_with(&(hotpath_options_t){.size = sizeof options.known, .n_bufs = 48}), -EINVAL,
                 "n_bufs");
}

static void null_ring(void)
{
    hotpath_completion_t completion;
    hotpath_command_t command = {.op = HOTPATH_CMD_RELEASE};
    hotpath_buffers_t buffers;
    hotpath_stats_t stats = {.size = sizeof stats};
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct iovec iov = {&command, 1};
    const uint8_t *bytes;
    int32_t id = 0;

    CHECK_EQ(hotpath_ring_free(NULL), 0);
    CHECK_ERROR(hotpath_submit_accept(NULL, 0), -EINVAL, "ring");
    CHECK_ERROR(hotpath_submit_recv(NULL, 0), -EINVAL, "ring");
    CHECK_ERROR(hotpath_submit_send(NULL, 0, &iov, 1), -EINVAL, "ring");
    CHECK_ERROR(hotpath_send(NULL, 0, "x", 1, 0), -EINVAL, "ring");
    CHECK_ERROR(hotpath_send_buffer(NULL, 0, 0, 0, 1, 0), -EINVAL, "ring");
    CHECK_ERROR(hotpath_submit_close(NULL, 0), -EINVAL, "ring");
    CHECK_ERROR(hotpath_submit_close_within(NULL, 0, 0), -EINVAL, "ring");
    CHECK_ERROR(hotpath_submit_shutdown(NULL, 0), -EINVAL, "ring");
    CHECK_ERROR(hotpath_submit_connect(NULL, 0, (struct sockaddr *)&address, sizeof address), -EINVAL, "ring");
    CHECK_ERROR(hotpath_submit_timeout(NULL, 1, 1), -EINVAL, "ring");
    CHECK_ERROR(hotpath_cancel_timeout(NULL, 1), -EINVAL, "ring");
    CHECK_ERROR(hotpath_cancel(NULL, 0, 0), -EINVAL, "ring");
    CHECK_ERROR(hotpath_pause_recv(NULL, 0), -EINVAL, "ring");
    CHECK_ERROR(hotpath_resume_recv(NULL, 0), -EINVAL, "ring");
    CHECK_ERROR(hotpath_set_idle_timeout(NULL, 0, 1), -EINVAL, "ring");
    CHECK_ERROR(hotpath_forget(NULL, 0), -EINVAL, "ring");
    CHECK_ERROR(hotpath_drain(NULL, 0), -EINVAL, "ring");
    CHECK_ERROR(hotpath_wait(NULL, 0, 0, &completion, 1), -EINVAL, "ring");
    CHECK_ERROR(hotpath_flush(NULL), -EINVAL, "ring");
    CHECK_ERROR(hotpath_turn(NULL, &command, 1, 0, 0, &completion, 1), -EINVAL, "ring");
    CHECK_ERROR(hotpath_buffer(NULL, 0, &bytes), -EINVAL, "ring");
    CHECK_ERROR(hotpath_buffers(NULL, &buffers), -EINVAL, "ring");
    CHECK_ERROR(hotpath_copy_buffer(NULL, 0, 1, &id, sizeof id), -EINVAL, "ring");
    CHECK_ERROR(hotpath_release_buf(NULL, 0), -EINVAL, "ring");
    CHECK_ERROR(hotpath_release_bufs(NULL, &id, 1), -EINVAL, "ring");
    CHECK_ERROR(hotpath_wake(NULL), -EINVAL, "ring");
    CHECK_ERROR(hotpath_event_fd(NULL), -EINVAL, "ring");
    CHECK_ERROR(hotpath_stats(NULL, &stats), -EINVAL, "ring");
    CHECK_ERROR(hotpath_is_healthy(NULL), -EINVAL, "ring");
    CHECK_ERROR(hotpath_force_unhealthy(NULL), -EINVAL, "ring");
    CHECK_ERROR(hotpath_backend(NULL), -EINVAL, "ring");
}

static void null_arguments(void)
{
    hotpath_ring_t *ring = new_ring();
    pair_t pair = connected();
    hotpath_completion_t completion;
    struct iovec holed = {NULL, 10};
    hotpath_command_t command = {.op = HOTPATH_CMD_SEND, .fd = pair.ours, .len = 10};

    CHECK_ERROR(hotpath_probe(NULL), -EINVAL, "out");
    CHECK_ERROR(hotpath_wait(ring, 1, 0, NULL, 1), -EINVAL, "out");
    CHECK_ERROR(hotpath_turn(ring, NULL, 1, 0, 0, &completion, 1), -EINVAL, "commands");
    CHECK_ERROR(hotpath_turn(ring, NULL, 0, 0, 0, NULL, 1), -EINVAL, "out");
    CHECK_EQ(hotpath_turn(ring, NULL, 0, 0, 0, NULL, 0), 0);
    CHECK_ERROR(hotpath_send(ring, pair.ours, NULL, 10, 0), -EINVAL, "data");
    CHECK_ERROR(hotpath_submit_send(ring, pair.ours, NULL, 1), -EINVAL, "iov");
    CHECK_ERROR(hotpath_submit_send(ring, pair.ours, &holed, 1), -EINVAL, "iov");
    CHECK_ERROR(hotpath_submit_connect(ring, pair.ours, NULL, 16), -EINVAL, "NULL");
    CHECK_ERROR(hotpath_buffer(ring, 0, NULL), -EINVAL, "data");
    CHECK_ERROR(hotpath_buffers(ring, NULL), -EINVAL, "out");
    CHECK_ERROR(hotpath_release_bufs(ring, NULL, 1), -EINVAL, "buf_ids");
    CHECK_ERROR(hotpath_stats(ring, NULL), -EINVAL, "out");
    CHECK_EQ(hotpath_turn(ring, &command, 1, 0, 0, &completion, 1), 0);
    CHECK_EQ(command.status, -EINVAL);

    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void bad_lengths(void)
{
    static struct iovec too_many[1025];
    hotpath_ring_t *ring = new_ring();
    pair_t pair = connected();
    struct sockaddr_storage address = {.ss_family = AF_INET};
    char byte = 'x';
    struct iovec huge[2] = {{&byte, SIZE_MAX}, {&byte, 2}};

    for (size_t i = 0; i < LEN(too_many); i++) too_many[i] = (struct iovec){&byte, 1};
    CHECK_ERROR(hotpath_submit_send(ring, pair.ours, too_many, LEN(too_many)), -EINVAL, "iov_count");
    CHECK_ERROR(hotpath_submit_send(ring, pair.ours, huge, 2), -EINVAL, "iov");
    CHECK_ERROR(hotpath_send(ring, pair.ours, &byte, SIZE_MAX, 0), -EINVAL, "len");
    CHECK_ERROR(hotpath_send(ring, pair.ours, &byte, 1, 1u << 9), -EINVAL, "flags");
    CHECK_ERROR(hotpath_submit_connect(ring, pair.ours, (struct sockaddr *)&address, 1000), -EINVAL, "addr_len");

    /* Nothing is something that can be sent. */
    CHECK_EQ(hotpath_send(ring, pair.ours, NULL, 0, 0), 0);
    expect_result(ring, HOTPATH_OP_SEND, pair.ours, 0);
    CHECK_EQ(hotpath_submit_send(ring, pair.ours, NULL, 0), 0);
    expect_result(ring, HOTPATH_OP_SEND, pair.ours, 0);

    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void bad_descriptors(void)
{
    static const int32_t bad[] = {-1, -100, INT32_MIN};
    hotpath_ring_t *ring = new_ring();
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct iovec iov = {"x", 1};

    for (size_t i = 0; i < LEN(bad); i++) {
        CHECK_ERROR(hotpath_submit_accept(ring, bad[i]), -EBADF, "descriptor");
        CHECK_ERROR(hotpath_submit_recv(ring, bad[i]), -EBADF, "descriptor");
        CHECK_ERROR(hotpath_submit_send(ring, bad[i], &iov, 1), -EBADF, "descriptor");
        CHECK_ERROR(hotpath_send(ring, bad[i], "x", 1, 0), -EBADF, "descriptor");
        CHECK_ERROR(hotpath_submit_close(ring, bad[i]), -EBADF, "descriptor");
        CHECK_ERROR(hotpath_submit_close_within(ring, bad[i], 0), -EBADF, "descriptor");
        CHECK_ERROR(hotpath_submit_shutdown(ring, bad[i]), -EBADF, "descriptor");
        CHECK_ERROR(hotpath_submit_connect(ring, bad[i], (struct sockaddr *)&address, sizeof address), -EBADF,
                    "descriptor");
        CHECK_ERROR(hotpath_cancel(ring, bad[i], 0), -EBADF, "descriptor");
        CHECK_ERROR(hotpath_pause_recv(ring, bad[i]), -EBADF, "descriptor");
        CHECK_ERROR(hotpath_resume_recv(ring, bad[i]), -EBADF, "descriptor");
        CHECK_ERROR(hotpath_set_idle_timeout(ring, bad[i], 1), -EBADF, "descriptor");
        CHECK_ERROR(hotpath_forget(ring, bad[i]), -EBADF, "descriptor");
    }
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

/* A number that is not open, or not a socket, is found out at once or by the completion. */
static void expect_refusal(hotpath_ring_t *ring, int32_t status, int op_kind, int fd, int error)
{
    if (status < 0) {
        CHECK_EQ(status, error);
    } else {
        expect_result(ring, op_kind, fd, error);
    }
}

static void wrong_descriptors(void)
{
    hotpath_ring_t *ring = new_ring();
    int closed = dup(0), file = open("/dev/null", O_RDWR | O_CLOEXEC);
    pair_t pair = connected();
    CHECK(closed > 0 && file > 0);
    close(closed);

    expect_refusal(ring, hotpath_submit_accept(ring, closed), HOTPATH_OP_ACCEPT, closed, -EBADF);
    expect_refusal(ring, hotpath_submit_recv(ring, closed), HOTPATH_OP_RECV, closed, -EBADF);
    expect_refusal(ring, hotpath_send(ring, closed, "x", 1, 0), HOTPATH_OP_SEND, closed, -EBADF);
    expect_refusal(ring, hotpath_submit_accept(ring, file), HOTPATH_OP_ACCEPT, file, -ENOTSOCK);
    expect_refusal(ring, hotpath_submit_recv(ring, file), HOTPATH_OP_RECV, file, -ENOTSOCK);
    expect_refusal(ring, hotpath_send(ring, file, "x", 1, 0), HOTPATH_OP_SEND, file, -ENOTSOCK);
    expect_refusal(ring, hotpath_submit_accept(ring, pair.ours), HOTPATH_OP_ACCEPT, pair.ours, -EINVAL);

    hang_up(ring, pair);

    pair = connected();
    CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);
    CHECK_ERROR(hotpath_submit_recv(ring, pair.ours), -EALREADY, "receiving already");
    say(pair.theirs, "still at work");
    expect_received(ring, pair.ours, "still at work");

    hang_up(ring, pair);
    close(file);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void bad_buffers(void)
{
    static const int32_t no_ids[] = {-1, 16, 65535, 65536, INT32_MAX, INT32_MIN};
    hotpath_ring_t *ring = new_ring();
    pair_t pair = connected();
    char copy[64];
    const uint8_t *bytes;
    hotpath_completion_t got;

    for (size_t i = 0; i < LEN(no_ids); i++) {
        CHECK_ERROR(hotpath_release_buf(ring, no_ids[i]), -EINVAL, "buf_id");
        CHECK_ERROR(hotpath_buffer(ring, no_ids[i], &bytes), -EINVAL, "buf_id");
        CHECK_ERROR(hotpath_copy_buffer(ring, no_ids[i], 1, copy, sizeof copy), -EINVAL, "buf_id");
        CHECK_ERROR(hotpath_send_buffer(ring, pair.ours, no_ids[i], 0, 1, 0), -EINVAL, "buf_id");
    }
    CHECK_ERROR(hotpath_release_buf(ring, 3), -EALREADY, "3"); /* never received */

    CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);
    say(pair.theirs, "hello");
    got = expect(ring, HOTPATH_OP_RECV, pair.ours);
    CHECK_ERROR(hotpath_copy_buffer(ring, got.buf_id, 5, NULL, 5), -EINVAL, "out");
    CHECK_ERROR(hotpath_copy_buffer(ring, got.buf_id, 5, copy, 4), -ENOSPC, "out_cap");
    CHECK_ERROR(hotpath_copy_buffer(ring, got.buf_id, 4097, copy, 4097), -EINVAL, "len");
    CHECK_ERROR(hotpath_send_buffer(ring, pair.ours, got.buf_id, 3, 3, 0), -EINVAL, "len");
    CHECK_EQ(hotpath_copy_buffer(ring, got.buf_id, 5, copy, sizeof copy), 5);
    CHECK(memcmp(copy, "hello", 5) == 0);
    CHECK_EQ(hotpath_release_buf(ring, got.buf_id), 0);
    CHECK_ERROR(hotpath_release_buf(ring, got.buf_id), -EALREADY, "released");
    CHECK_ERROR(hotpath_buffer(ring, got.buf_id, &bytes), -EALREADY, "released");

    /* The double release harmed nothing: all sixteen buffers come, each once. */
    uint32_t seen = 0;
    for (int i = 0; i < 16; i++) {
        say(pair.theirs, "again");
        got = expect(ring, HOTPATH_OP_RECV, pair.ours);
        CHECK(!(seen & 1u << got.buf_id));
        seen |= 1u << got.buf_id;
    }
    CHECK_EQ(seen, 0xffff);

    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void *flush_elsewhere(void *ring)
{
    return (void *)(intptr_t)hotpath_flush(ring);
}

static void *wake_elsewhere(void *ring)
{
    return (void *)(intptr_t)hotpath_wake(ring);
}

static int32_t in_another_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    void *status;
    CHECK_EQ(pthread_create(&thread, NULL, body, argument), 0);
    CHECK_EQ(pthread_join(thread, &status), 0);
    return (int32_t)(intptr_t)status;
}

static void wrong_thread(void)
{
    hotpath_ring_t *ring = new_ring();
    CHECK_EQ(hotpath_flush(ring), 0); /* binds it to this thread */
    CHECK_EQ(in_another_thread(flush_elsewhere, ring), SHMHOT_ETHREAD);
    CHECK_EQ(in_another_thread(wake_elsewhere, ring), 0);
    expect_result(ring, HOTPATH_OP_WAKE, -1, 0);
    CHECK_EQ(hotpath_ring_free(ring), 0);

    ring = new_ring(); /* made here, driven there */
    CHECK_EQ(in_another_thread(flush_elsewhere, ring), 0);
    CHECK_ERROR(hotpath_flush(ring), SHMHOT_ETHREAD, "thread");
    CHECK_EQ(hotpath_ring_free(ring), 0);

    ring = hotpath_ring_new_with(&(hotpath_options_t){.size = sizeof(hotpath_options_t), .flags = HOTPATH_ANY_THREAD});
    CHECK(ring);
    CHECK_EQ(hotpath_flush(ring), 0);
    CHECK_EQ(in_another_thread(flush_elsewhere, ring), 0);
    CHECK_EQ(hotpath_flush(ring), 0);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void after_fork(void)
{
    hotpath_ring_t *ring = new_ring();
    pair_t pair = connected();
    hotpath_completion_t completion;
    int status;
    CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);
    CHECK_EQ(hotpath_flush(ring), 0);
    fflush(stdout);

    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        current_test = "after_fork, in the child";
        CHECK_ERROR(hotpath_flush(ring), SHMHOT_EFORK, "fork");
        CHECK_ERROR(hotpath_wait(ring, 1, 0, &completion, 1), SHMHOT_EFORK, "fork");
        CHECK_ERROR(hotpath_send(ring, pair.ours, "x", 1, 0), SHMHOT_EFORK, "fork");
        CHECK_ERROR(hotpath_wake(ring), SHMHOT_EFORK, "fork");
        CHECK_ERROR(hotpath_release_buf(ring, 0), SHMHOT_EFORK, "fork");
        hotpath_ring_free(ring); /* must not take the parent's ring away */
        CHECK_EQ(hotpath_ring_free(new_ring()), 0);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);

    say(pair.theirs, "to the parent");
    expect_received(ring, pair.ours, "to the parent");
    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

/* SIGPIPE has its default disposition here, which ends the program. */
static void closed_peer(void)
{
    hotpath_ring_t *ring = new_ring();
    pair_t pair = connected();
    int64_t result = 0;

    close(pair.theirs);
    for (int i = 0; i < 100 && result >= 0; i++) { /* the first send may still be taken, and is answered by a reset */
        CHECK_EQ(hotpath_send(ring, pair.ours, "anybody there?", 14, 0), 0);
        result = expect(ring, HOTPATH_OP_SEND, pair.ours).result;
        sleep_ms(1);
    }
    CHECK(result == -EPIPE || result == -ECONNRESET);
    CHECK_ERROR(hotpath_send(ring, pair.ours, "?", 1, 0), -EPIPE, "send");
    CHECK_ERROR(hotpath_submit_send(ring, pair.ours, &(struct iovec){"?", 1}, 1), -EPIPE, "send");

    CHECK_EQ(hotpath_submit_close(ring, pair.ours), 0);
    expect(ring, HOTPATH_OP_CLOSE, pair.ours);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void refused_commands(void)
{
    hotpath_ring_t *ring = new_ring();
    pair_t pair = connected();
    hotpath_completion_t got[8];
    hotpath_command_t commands[] = {
        {.op = HOTPATH_CMD_SEND, .fd = pair.ours, .data = (uintptr_t) "one ", .len = 4},
        {.op = 99, .fd = pair.ours},
        {.op = 0},
        {.op = HOTPATH_CMD_RELEASE, .buf_id = 9},
        {.op = HOTPATH_CMD_RELEASE, .buf_id = 999},
        {.op = HOTPATH_CMD_SEND, .fd = -1, .data = (uintptr_t) "lost", .len = 4},
        {.op = HOTPATH_CMD_SEND, .flags = 0x80, .fd = pair.ours, .data = (uintptr_t) "lost", .len = 4},
        {.op = HOTPATH_CMD_SEND, .reserved = 1, .fd = pair.ours, .data = (uintptr_t) "lost", .len = 4},
        {.op = HOTPATH_CMD_SEND, .reserved2 = 1, .fd = pair.ours, .data = (uintptr_t) "lost", .len = 4},
        {.op = HOTPATH_CMD_CANCEL_TIMEOUT, .data = 5},
        {.op = HOTPATH_CMD_SEND, .fd = pair.ours, .data = (uintptr_t) "two", .len = 3, .status = -1},
    };
    static const int32_t status[] = {0,       -EINVAL, -EINVAL, -EALREADY, -EINVAL, -EBADF,
                                     -EINVAL, -EINVAL, -EINVAL, -ENOENT,   0};

    int32_t n = hotpath_turn(ring, commands, LEN(commands), 2, PATIENCE_MS, got, LEN(got));
    for (size_t i = 0; i < LEN(commands); i++) CHECK_EQ(commands[i].status, status[i]);
    CHECK_EQ(n, 2);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(got[i].op_kind, HOTPATH_OP_SEND);
        CHECK_EQ(got[i].result, i == 0 ? 4 : 3);
    }
    expect_text(pair.theirs, "one two");

    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void too_much_queued(void)
{
    enum { MEGABYTE = 1 << 20 };
    hotpath_options_t options = {.size = sizeof options, .max_queued_bytes = 2 * MEGABYTE};
    hotpath_ring_t *ring = hotpath_ring_new_with(&options);
    pair_t pair = connected();
    hotpath_stats_t stats = {.size = sizeof stats};
    char *data = calloc(1, 4 * MEGABYTE);
    int32_t status;
    CHECK(ring && data);

    CHECK_EQ(hotpath_send(ring, pair.ours, data, 4 * MEGABYTE, 0), 0); /* on an empty queue: always taken */
    CHECK_ERROR(hotpath_send(ring, pair.ours, data, MEGABYTE, 0), -EAGAIN, "queued");
    CHECK_EQ(hotpath_stats(ring, &stats), 0);
    CHECK_EQ(stats.sends_refused, 1);

    /* Refused is not lost, and not for ever. */
    int64_t end = now_ms() + PATIENCE_MS;
    while ((status = hotpath_send(ring, pair.ours, "!", 1, 0)) == -EAGAIN && now_ms() < end) {
        hotpath_completion_t got;
        char sink[65536];
        CHECK(recv(pair.theirs, sink, sizeof sink, MSG_DONTWAIT) != 0);
        CHECK(hotpath_wait(ring, 0, 0, &got, 1) >= 0);
    }
    CHECK_EQ(status, 0);
    free(data);
    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void given_up(void)
{
    hotpath_ring_t *ring = new_ring();
    hotpath_completion_t got;
    CHECK_EQ(hotpath_is_healthy(ring), 1);
    CHECK_EQ(hotpath_force_unhealthy(ring), 0);
    CHECK_EQ(hotpath_is_healthy(ring), 0);
    CHECK_ERROR(hotpath_flush(ring), SHMHOT_EUNHEALTHY, "ring");
    CHECK_ERROR(hotpath_wait(ring, 1, PATIENCE_MS, &got, 1), SHMHOT_EUNHEALTHY, "ring");
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void words(void)
{
    static const int32_t ours[] = {SHMHOT_EPANIC, SHMHOT_ETHREAD, SHMHOT_EFORK, SHMHOT_EUNHEALTHY};
    char all[512], some[9];

    for (int32_t status = -5000; status < 5; status++) CHECK(shmhot_strerror(status)[0] != '\0');
    CHECK(strcmp(shmhot_strerror(-EPIPE), strerror(EPIPE)) == 0);
    for (size_t i = 0; i < LEN(ours); i++)
        for (size_t j = 0; j < i; j++) CHECK(strcmp(shmhot_strerror(ours[i]), shmhot_strerror(ours[j])) != 0);
    CHECK(shmhot_strerror(INT32_MIN) && shmhot_strerror(INT32_MAX));

    CHECK(hotpath_ring_new(64, 3, 4096) == NULL);
    int32_t length = shmhot_last_error(NULL, 0);
    CHECK_EQ(shmhot_last_error(all, sizeof all), length);
    CHECK_EQ(strlen(all), length);
    memset(some, '#', sizeof some);
    CHECK_EQ(shmhot_last_error(some, 8), length); /* cut, and still ended by NUL */
    CHECK_EQ(strlen(some), 7);
    CHECK(strncmp(all, some, 7) == 0 && some[8] == '#');
}

int main(void)
{
    need_io_uring();
    RUN(bad_sizes);
    RUN(bad_options);
    RUN(null_ring);
    RUN(null_arguments);
    RUN(bad_lengths);
    RUN(bad_descriptors);
    RUN(wrong_descriptors);
    RUN(bad_buffers);
    RUN(wrong_thread);
    RUN(after_fork);
    RUN(closed_peer);
    RUN(refused_commands);
    RUN(too_much_queued);
    RUN(given_up);
    RUN(words);
    return 0;
}
