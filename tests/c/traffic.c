/* What the ring does with connections and their bytes. */
#include "check.h"

#include <fcntl.h>
#include <sys/uio.h>

static void accept_and_answer(void)
{
    hotpath_ring_t *ring = new_ring();
    int listener_fd = listener();
    CHECK_EQ(hotpath_submit_accept(ring, listener_fd), 0);
    CHECK_EQ(hotpath_flush(ring), 0);

    for (int i = 0; i < 3; i++) { /* armed once, accepts many */
        pair_t pair = {.theirs = dial(listener_fd)};
        hotpath_completion_t got = expect(ring, HOTPATH_OP_ACCEPT, listener_fd);
        CHECK(got.result >= 0);
        CHECK(got.flags & HOTPATH_F_MORE);
        pair.ours = (int)got.result;
        CHECK(fcntl(pair.ours, F_GETFD) & FD_CLOEXEC);

        CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);
        for (int j = 0; j < 3; j++) { /* and so does a receive */
            say(pair.theirs, "ping");
            expect_received(ring, pair.ours, "ping");
            CHECK_EQ(hotpath_send(ring, pair.ours, "pong", 4, 0), 0);
            expect_result(ring, HOTPATH_OP_SEND, pair.ours, 4);
            expect_text(pair.theirs, "pong");
        }
        close(pair.theirs);
        expect_result(ring, HOTPATH_OP_RECV, pair.ours, 0); /* end of stream */
        CHECK_EQ(hotpath_submit_close(ring, pair.ours), 0);
        expect_result(ring, HOTPATH_OP_CLOSE, pair.ours, 0);
        CHECK(fcntl(pair.ours, F_GETFD) == -1);
    }
    CHECK_EQ(hotpath_ring_free(ring), 0);
    close(listener_fd);
}

static void pool(void)
{
    hotpath_ring_t *ring = new_ring();
    pair_t pair = connected();
    hotpath_buffers_t buffers;
    const uint8_t *bytes;

    CHECK_EQ(hotpath_buffers(ring, &buffers), 0);
    CHECK_EQ(buffers.n_bufs, 16);
    CHECK_EQ(buffers.buf_size, 4096);
    CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);
    say(pair.theirs, "where am I?");
    hotpath_completion_t got = expect(ring, HOTPATH_OP_RECV, pair.ours);
    CHECK_EQ(hotpath_buffer(ring, got.buf_id, &bytes), 11);
    CHECK(bytes == buffers.base + (size_t)got.buf_id * buffers.buf_size);
    CHECK_EQ(hotpath_release_bufs(ring, &got.buf_id, 1), 0);

    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

/* Both ways of sending, mixed: in order, whole, and free of what the caller need not keep. */
static void sends(void)
{
    enum { LARGE = 3 << 20 };
    hotpath_ring_t *ring = new_ring();
    pair_t pair = connected();
    char *large = malloc(LARGE), *got = malloc(LARGE);
    char copied[] = "copied ";
    CHECK(large && got);
    for (int i = 0; i < LARGE; i++) large[i] = (char)(i * 2654435761u >> 24);

    CHECK_EQ(hotpath_send(ring, pair.ours, copied, 7, 0), 0);
    memset(copied, '#', sizeof copied);
    struct iovec iov[2] = {{"gathered", 8}, {" ", 1}};
    CHECK_EQ(hotpath_submit_send(ring, pair.ours, iov, 2), 0);
    memset(iov, 0, sizeof iov); /* only the bytes must stay */
    CHECK_EQ(hotpath_submit_send(ring, pair.ours, &(struct iovec){large, LARGE}, 1), 0); /* more than a socket takes */
    CHECK_EQ(hotpath_send(ring, pair.ours, "last", 4, 0), 0);
    CHECK_EQ(hotpath_flush(ring), 0);

    size_t done = 0;
    int sent = 0;
    static const int64_t lengths[] = {7, 9, LARGE, 4};
    int64_t end = now_ms() + PATIENCE_MS;
    expect_text(pair.theirs, "copied gathered ");
    while ((done < LARGE || sent < 4) && now_ms() < end) {
        hotpath_completion_t completion;
        ssize_t n = done < LARGE ? recv(pair.theirs, got + done, LARGE - done, MSG_DONTWAIT) : 0;
        if (n > 0) done += (size_t)n;
        if (hotpath_wait(ring, 0, 0, &completion, 1) == 1) {
            CHECK_EQ(completion.op_kind, HOTPATH_OP_SEND);
            CHECK_EQ(completion.result, lengths[sent++]);
        }
    }
    CHECK_EQ(done, LARGE);
    CHECK_EQ(sent, 4);
    CHECK(memcmp(got, large, LARGE) == 0);
    expect_text(pair.theirs, "last");

    free(large);
    free(got);
    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void quiet_send(void)
{
    hotpath_ring_t *ring = new_ring();
    pair_t pair = connected();
    CHECK_EQ(hotpath_send(ring, pair.ours, "psst", 4, HOTPATH_QUIET), 0);
    CHECK_EQ(hotpath_flush(ring), 0);
    expect_text(pair.theirs, "psst");
    expect_silence(ring, 20);
    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

/* An echo that never touches the bytes, by the single call and by a turn. */
static void send_what_was_received(void)
{
    hotpath_ring_t *ring = new_ring();
    pair_t pair = connected();
    hotpath_buffers_t buffers;
    hotpath_stats_t stats = {.size = sizeof stats};
    hotpath_completion_t got;
    CHECK_EQ(hotpath_buffers(ring, &buffers), 0);
    CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);

    for (int i = 0; i < 40; i++) { /* more often than there are buffers */
        say(pair.theirs, "echo this");
        got = expect(ring, HOTPATH_OP_RECV, pair.ours);
        CHECK_EQ(hotpath_send_buffer(ring, pair.ours, got.buf_id, 5, 4, 0), 0);
        expect_result(ring, HOTPATH_OP_SEND, pair.ours, 4);
        expect_text(pair.theirs, "this");

        say(pair.theirs, "and that");
        got = expect(ring, HOTPATH_OP_RECV, pair.ours);
        hotpath_command_t command = {
            .op = HOTPATH_CMD_SEND_BORROWED,
            .flags = HOTPATH_RELEASE,
            .fd = pair.ours,
            .data = (uintptr_t)(buffers.base + (size_t)got.buf_id * buffers.buf_size),
            .len = (uint32_t)got.result,
            .buf_id = got.buf_id,
        };
        CHECK_EQ(hotpath_turn(ring, &command, 1, 1, PATIENCE_MS, &got, 1), 1);
        CHECK_EQ(command.status, 0);
        CHECK_EQ(got.op_kind, HOTPATH_OP_SEND);
        CHECK_EQ(got.result, 8);
        expect_text(pair.theirs, "and that");
    }
    CHECK_EQ(hotpath_stats(ring, &stats), 0);
    CHECK_EQ(stats.buffers_held, 0);
    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

/* Two buffers, and a peer that sends far more than they hold. */
static void starvation(void)
{
    enum { SIZE = 64, TOTAL = 100 * SIZE };
    hotpath_ring_t *ring = hotpath_ring_new(8, 2, SIZE);
    pair_t pair = connected();
    hotpath_stats_t stats = {.size = sizeof stats};
    hotpath_completion_t got[4];
    char data[TOTAL];
    CHECK(ring);
    for (int i = 0; i < TOTAL; i++) data[i] = (char)(i / 7);

    CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);
    CHECK_EQ(send(pair.theirs, data, TOTAL, 0), TOTAL);
    int32_t held = 0;
    while (held < 2) { /* keep all buffers until nothing can move any more */
        int32_t n = hotpath_wait(ring, 1, PATIENCE_MS, got + held, 4 - (uint32_t)held);
        CHECK(n > 0);
        held += n;
    }
    CHECK_EQ(held, 2);
    CHECK_EQ(hotpath_wait(ring, 1, 50, got + 2, 2), 0);
    CHECK_EQ(hotpath_stats(ring, &stats), 0);
    CHECK(stats.starvations >= 1);
    uint64_t syscalls = stats.syscalls;
    CHECK_EQ(hotpath_wait(ring, 1, 50, got + 2, 2), 0);
    CHECK_EQ(hotpath_stats(ring, &stats), 0);
    CHECK(stats.syscalls - syscalls < 10); /* it waits, it does not spin */

    for (int64_t done = 0; done < TOTAL;) {
        for (int32_t i = 0; i < held; i++) {
            const uint8_t *bytes;
            CHECK_EQ(got[i].op_kind, HOTPATH_OP_RECV);
            CHECK(got[i].result > 0);
            CHECK_EQ(hotpath_buffer(ring, got[i].buf_id, &bytes), got[i].result);
            CHECK(memcmp(bytes, data + done, (size_t)got[i].result) == 0);
            done += got[i].result;
            CHECK_EQ(hotpath_release_buf(ring, got[i].buf_id), 0);
        }
        if (done < TOTAL) CHECK((held = hotpath_wait(ring, 1, PATIENCE_MS, got, 4)) > 0);
    }
    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void close_after_what_is_queued(void)
{
    enum { LARGE = 16 << 20 }; /* more than the sockets take */
    hotpath_options_t options = {.size = sizeof options, .max_queued_bytes = 4 * LARGE};
    hotpath_ring_t *ring = hotpath_ring_new_with(&options);
    CHECK(ring);
    pair_t pair = connected();
    char *data = calloc(1, LARGE), *got = malloc(LARGE);
    CHECK(data && got);

    CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);
    CHECK_EQ(hotpath_send(ring, pair.ours, data, LARGE, HOTPATH_QUIET), 0);
    CHECK_EQ(hotpath_submit_close(ring, pair.ours), 0);
    size_t done = 0;
    hotpath_completion_t completion;
    int64_t end = now_ms() + PATIENCE_MS;
    while (done < LARGE && now_ms() < end) {
        if (done == 0) CHECK_EQ(hotpath_wait(ring, 1, 20, &completion, 1), 0); /* not before it is read */
        ssize_t n = recv(pair.theirs, got + done, LARGE - done, MSG_DONTWAIT);
        CHECK(n != 0);
        if (n > 0) done += (size_t)n;
        hotpath_flush(ring);
    }
    CHECK_EQ(done, LARGE);
    expect_result(ring, HOTPATH_OP_CLOSE, pair.ours, 0);
    expect_end(pair.theirs);
    close(pair.theirs);

    pair = connected(); /* a peer that never reads, and a deadline */
    hotpath_forget(ring, pair.ours); /* opened by ourselves, perhaps with the number that the ring has closed */
    CHECK_EQ(hotpath_send(ring, pair.ours, data, LARGE, HOTPATH_QUIET), 0);
    CHECK_EQ(hotpath_send(ring, pair.ours, data, LARGE, HOTPATH_QUIET), 0);
    int64_t start = now_ms();
    CHECK_EQ(hotpath_submit_close_within(ring, pair.ours, 50), 0);
    do CHECK_EQ(hotpath_wait(ring, 1, PATIENCE_MS, &completion, 1), 1);
    while (completion.op_kind == HOTPATH_OP_SEND && completion.result < 0); /* quiet sends tell failures */
    CHECK_EQ(completion.op_kind, HOTPATH_OP_CLOSE);
    CHECK_EQ(completion.result, -ETIMEDOUT);
    CHECK(now_ms() - start >= 45);
    close(pair.theirs);
    free(data);
    free(got);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void half_close(void)
{
    hotpath_ring_t *ring = new_ring();
    pair_t pair = connected();
    CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);
    CHECK_EQ(hotpath_send(ring, pair.ours, "that is all", 11, 0), 0);
    CHECK_EQ(hotpath_submit_shutdown(ring, pair.ours), 0);
    expect_result(ring, HOTPATH_OP_SEND, pair.ours, 11);
    expect_result(ring, HOTPATH_OP_SHUTDOWN, pair.ours, 0);
    expect_text(pair.theirs, "that is all");
    expect_end(pair.theirs);
    say(pair.theirs, "thanks"); /* the other direction goes on */
    expect_received(ring, pair.ours, "thanks");
    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void pause_and_resume(void)
{
    hotpath_ring_t *ring = new_ring();
    pair_t pair = connected();
    CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);
    say(pair.theirs, "one");
    expect_received(ring, pair.ours, "one");
    CHECK_EQ(hotpath_pause_recv(ring, pair.ours), 0);
    CHECK_EQ(hotpath_flush(ring), 0);
    expect_silence(ring, 20);
    say(pair.theirs, "two");
    expect_silence(ring, 20);
    CHECK_EQ(hotpath_resume_recv(ring, pair.ours), 0);
    expect_received(ring, pair.ours, "two");
    say(pair.theirs, "three");
    expect_received(ring, pair.ours, "three");
    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void idle_timeout(void)
{
    hotpath_ring_t *ring = new_ring();
    pair_t pair = connected();
    CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);
    CHECK_EQ(hotpath_set_idle_timeout(ring, pair.ours, 100), 0);
    int64_t start = now_ms();
    for (int i = 0; i < 4; i++) { /* not idle */
        sleep_ms(40);
        say(pair.theirs, "tick");
        expect_received(ring, pair.ours, "tick");
    }
    CHECK(now_ms() - start >= 160);
    start = now_ms();
    expect_result(ring, HOTPATH_OP_RECV, pair.ours, -ETIMEDOUT);
    CHECK(now_ms() - start >= 80);
    say(pair.theirs, "late"); /* the connection stays as it is */
    expect_received(ring, pair.ours, "late");
    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void connecting(void)
{
    hotpath_ring_t *ring = new_ring();
    int listener_fd = listener();
    struct sockaddr_in address = address_of(listener_fd);
    pair_t pair = {.ours = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};

    CHECK_EQ(hotpath_submit_connect(ring, pair.ours, (struct sockaddr *)&address, sizeof address), 0);
    memset(&address, 0, sizeof address); /* copied */
    expect_result(ring, HOTPATH_OP_CONNECT, pair.ours, 0);
    pair.theirs = accept(listener_fd, NULL, NULL);
    CHECK_EQ(hotpath_send(ring, pair.ours, "hello", 5, HOTPATH_QUIET), 0);
    CHECK_EQ(hotpath_flush(ring), 0);
    expect_text(pair.theirs, "hello");
    hang_up(ring, pair);

    address = address_of(listener_fd);
    close(listener_fd);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(hotpath_submit_connect(ring, fd, (struct sockaddr *)&address, sizeof address), 0);
    expect_result(ring, HOTPATH_OP_CONNECT, fd, -ECONNREFUSED);
    CHECK_EQ(hotpath_submit_close(ring, fd), 0);
    expect_result(ring, HOTPATH_OP_CLOSE, fd, 0);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void cancel(void)
{
    hotpath_ring_t *ring = new_ring();
    int listener_fd = listener();
    pair_t pair = connected();
    CHECK_EQ(hotpath_submit_accept(ring, listener_fd), 0);
    CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);
    CHECK_EQ(hotpath_flush(ring), 0);

    CHECK_EQ(hotpath_cancel(ring, pair.ours, 1u << HOTPATH_OP_RECV), 0);
    expect_result(ring, HOTPATH_OP_RECV, pair.ours, -ECANCELED);
    CHECK_EQ(hotpath_cancel(ring, listener_fd, 0), 0);
    expect_result(ring, HOTPATH_OP_ACCEPT, listener_fd, -ECANCELED);

    say(pair.theirs, "back again"); /* cancelled is not closed */
    CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);
    expect_received(ring, pair.ours, "back again");
    hang_up(ring, pair);
    close(listener_fd);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

/* The host closes by itself, and the kernel hands the same number out again at once. */
static void forget_and_reuse(void)
{
    hotpath_ring_t *ring = new_ring();
    for (int i = 0; i < 100; i++) {
        pair_t old = connected(), new = connected();
        CHECK_EQ(hotpath_submit_recv(ring, old.ours), 0);
        CHECK_EQ(hotpath_flush(ring), 0);
        say(old.theirs, "of the old one");
        CHECK_EQ(hotpath_forget(ring, old.ours), 0);
        CHECK_EQ(dup3(new.ours, old.ours, O_CLOEXEC), old.ours); /* closes and reuses in one step */
        close(new.ours);
        CHECK_EQ(hotpath_submit_recv(ring, old.ours), 0);
        say(new.theirs, "of the new one");
        expect_received(ring, old.ours, "of the new one");
        char byte; /* the old peer is told: an end, or a reset because of what was left unread */
        ssize_t n = receive(old.theirs, &byte, 1);
        CHECK(n == 0 || (n < 0 && errno == ECONNRESET));
        close(old.theirs);
        hang_up(ring, (pair_t){old.ours, new.theirs});
    }
    hotpath_stats_t stats = {.size = sizeof stats};
    CHECK_EQ(hotpath_stats(ring, &stats), 0);
    CHECK_EQ(stats.buffers_held, 0);
    CHECK_EQ(stats.connections, 0);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void drain(void)
{
    hotpath_ring_t *ring = new_ring();
    int listener_fd = listener();
    hotpath_completion_t got;
    CHECK_EQ(hotpath_submit_accept(ring, listener_fd), 0);
    pair_t pair = {.theirs = dial(listener_fd)};
    pair.ours = (int)expect(ring, HOTPATH_OP_ACCEPT, listener_fd).result;
    CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);

    CHECK_EQ(hotpath_drain(ring, PATIENCE_MS), 0);
    say(pair.theirs, "one more"); /* what is open goes on */
    do CHECK_EQ(hotpath_wait(ring, 1, PATIENCE_MS, &got, 1), 1);
    while (got.op_kind == HOTPATH_OP_ACCEPT && got.result < 0); /* the end of accepting may be told */
    CHECK_EQ(got.op_kind, HOTPATH_OP_RECV);
    CHECK_EQ(hotpath_release_buf(ring, got.buf_id), 0);
    CHECK_EQ(hotpath_submit_close(ring, pair.ours), 0);
    expect_result(ring, HOTPATH_OP_CLOSE, pair.ours, 0);
    expect_result(ring, HOTPATH_OP_DRAIN, -1, 0);
    close(pair.theirs);
    close(listener_fd);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

/* Whatever is in flight, freeing ends it. */
static void free_in_the_middle(void)
{
    for (int i = 0; i < 50; i++) {
        hotpath_ring_t *ring = new_ring();
        pair_t pair = connected();
        char *data = calloc(1, 1 << 20);
        CHECK(ring && data);
        CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);
        CHECK_EQ(hotpath_submit_timeout(ring, 1, PATIENCE_MS), 0);
        CHECK_EQ(hotpath_submit_send(ring, pair.ours, &(struct iovec){data, 1 << 20}, 1), 0);
        CHECK_EQ(hotpath_send(ring, pair.ours, data, 1 << 20, 0), 0);
        say(pair.theirs, "unread");
        if (i % 2) CHECK_EQ(hotpath_flush(ring), 0);
        CHECK_EQ(hotpath_ring_free(ring), 0);
        free(data);
        close(pair.ours);
        close(pair.theirs);
    }
}

int main(void)
{
    need_io_uring();
    RUN(accept_and_answer);
    RUN(pool);
    RUN(sends);
    RUN(quiet_send);
    RUN(send_what_was_received);
    RUN(starvation);
    RUN(close_after_what_is_queued);
    RUN(half_close);
    RUN(pause_and_resume);
    RUN(idle_timeout);
    RUN(connecting);
    RUN(cancel);
    RUN(forget_and_reuse);
    RUN(drain);
    RUN(free_in_the_middle);
    return 0;
}
