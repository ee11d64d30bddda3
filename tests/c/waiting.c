/* What ends a wait, and when. */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>

/* The upper bound is generous, for machines with other things to do; the lower one is not. */
#define SOON_MS 2000

static void check_took(int64_t start_ms, int64_t expected_ms)
{
    int64_t took_ms = now_ms() - start_ms;
    if (took_ms < expected_ms - 1 || took_ms > expected_ms + SOON_MS) CHECK_EQ(took_ms, expected_ms);
}

static hotpath_completion_t got[64];

static void only_look(void)
{
    hotpath_ring_t *ring = new_ring();
    int64_t start = now_ms();
    for (int i = 0; i < 10000; i++) CHECK_EQ(hotpath_wait(ring, 1, 0, got, LEN(got)), 0);
    check_took(start, 0);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void time_limit(void)
{
    hotpath_ring_t *ring = new_ring();
    pair_t pair = connected();
    int64_t start = now_ms();
    CHECK_EQ(hotpath_wait(ring, 1, 50, got, LEN(got)), 0);
    check_took(start, 50);

    /* Fewer than asked for: what there is comes when the time is over. */
    CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);
    CHECK_EQ(hotpath_flush(ring), 0);
    say(pair.theirs, "one");
    start = now_ms();
    CHECK_EQ(hotpath_wait(ring, 2, 50, got, LEN(got)), 1);
    check_took(start, 50);
    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void several(void)
{
    hotpath_ring_t *ring = new_ring();
    CHECK_EQ(hotpath_submit_timeout(ring, 1, 10), 0);
    CHECK_EQ(hotpath_submit_timeout(ring, 2, 40), 0);
    CHECK_EQ(hotpath_submit_timeout(ring, 3, 60000), 0);
    int64_t start = now_ms();
    CHECK_EQ(hotpath_wait(ring, 2, HOTPATH_NO_TIMEOUT, got, LEN(got)), 2);
    check_took(start, 40);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(got[i].op_kind, HOTPATH_OP_TIMEOUT);
        CHECK_EQ(got[i].fd, -1);
        CHECK_EQ(got[i].result, i + 1);
    }
    CHECK_EQ(hotpath_cancel_timeout(ring, 3), 0);
    CHECK_ERROR(hotpath_cancel_timeout(ring, 3), -ENOENT, "3");
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void capacity(void)
{
    enum { CONNECTIONS = 10, CAP = 3 };
    hotpath_ring_t *ring = new_ring();
    pair_t pairs[CONNECTIONS];
    for (int i = 0; i < CONNECTIONS; i++) {
        pairs[i] = connected();
        CHECK_EQ(hotpath_submit_recv(ring, pairs[i].ours), 0);
        say(pairs[i].theirs, "x");
    }
    CHECK_EQ(hotpath_wait(ring, 1, PATIENCE_MS, got, 0), 0);
    memset(got, 0xab, sizeof got);
    for (int32_t seen = 0, n; seen < CONNECTIONS; seen += n) {
        n = hotpath_wait(ring, 1, PATIENCE_MS, got, CAP);
        CHECK(n > 0 && n <= CAP);
        CHECK_EQ(got[CAP].op_kind, 0xab);
        for (int32_t i = 0; i < n; i++) CHECK_EQ(hotpath_release_buf(ring, got[i].buf_id), 0);
    }
    for (int i = 0; i < CONNECTIONS; i++) hang_up(ring, pairs[i]);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void ignore(int signal)
{
    (void)signal;
}

typedef struct {
    pthread_t sleeper;
    hotpath_ring_t *ring;
    int socket;
} helper_t;

static void *signal_the_sleeper(void *argument)
{
    helper_t *helper = argument;
    sleep_ms(50);
    CHECK_EQ(pthread_kill(helper->sleeper, SIGUSR1), 0);
    return NULL;
}

static void *wake_the_sleeper(void *argument)
{
    helper_t *helper = argument;
    sleep_ms(50);
    CHECK_EQ(hotpath_wake(helper->ring), 0);
    return NULL;
}

static void *write_to_the_sleeper(void *argument)
{
    helper_t *helper = argument;
    sleep_ms(50);
    say(helper->socket, "hello");
    return NULL;
}

static pthread_t start(void *(*body)(void *), helper_t *helper)
{
    pthread_t thread;
    helper->sleeper = pthread_self();
    CHECK_EQ(pthread_create(&thread, NULL, body, helper), 0);
    return thread;
}

static void interrupted(void)
{
    hotpath_ring_t *ring = new_ring();
    helper_t helper = {.ring = ring};
    struct sigaction action = {.sa_handler = ignore};
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);

    pthread_t thread = start(signal_the_sleeper, &helper);
    int64_t begin = now_ms();
    CHECK_EQ(hotpath_wait(ring, 1, HOTPATH_NO_TIMEOUT, got, LEN(got)), 0);
    check_took(begin, 50);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(hotpath_is_healthy(ring), 1);

    CHECK_EQ(hotpath_wake(ring), 0);
    expect_result(ring, HOTPATH_OP_WAKE, -1, 0);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static void woken(void)
{
    hotpath_ring_t *ring = new_ring();
    helper_t helper = {.ring = ring};
    pthread_t thread = start(wake_the_sleeper, &helper);
    CHECK_EQ(hotpath_wait(ring, 1, HOTPATH_NO_TIMEOUT, got, LEN(got)), 1);
    CHECK_EQ(got[0].op_kind, HOTPATH_OP_WAKE);
    CHECK_EQ(got[0].fd, -1);
    CHECK_EQ(got[0].result, 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);

    CHECK_EQ(hotpath_wake(ring), 0); /* before the wait counts as well */
    CHECK_EQ(hotpath_wait(ring, 1, HOTPATH_NO_TIMEOUT, got, LEN(got)), 1);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

static int ready(int epoll, int timeout_ms)
{
    struct epoll_event event;
    int n;
    do n = epoll_wait(epoll, &event, 1, timeout_ms);
    while (n < 0 && errno == EINTR); /* see receive() */
    return n;
}

/* The ring as one descriptor of somebody else's loop. */
static void in_epoll(void)
{
    hotpath_ring_t *ring = new_ring();
    pair_t pair = connected();
    helper_t helper = {.ring = ring, .socket = pair.theirs};
    int epoll = epoll_create1(EPOLL_CLOEXEC), event_fd = hotpath_event_fd(ring);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(epoll >= 0 && event_fd >= 0);
    CHECK_EQ(hotpath_event_fd(ring), event_fd);
    CHECK_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, event_fd, &event), 0);
    CHECK_EQ(hotpath_submit_recv(ring, pair.ours), 0);
    CHECK_EQ(hotpath_flush(ring), 0);

    for (int i = 0; i < 5; i++) {
        int looks = 0; /* it may be readable without a cause, but not for long */
        do CHECK_EQ(hotpath_wait(ring, 0, 0, got, LEN(got)), 0);
        while (ready(epoll, 10) == 1 && ++looks < 5);
        CHECK(looks < 5);
        pthread_t thread = start(i % 2 ? wake_the_sleeper : write_to_the_sleeper, &helper);
        CHECK_EQ(ready(epoll, PATIENCE_MS), 1);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(ready(epoll, 0), 1); /* readable for as long as completions wait */
        CHECK_EQ(hotpath_wait(ring, 1, 0, got, LEN(got)), 1);
        CHECK_EQ(got[0].op_kind, i % 2 ? HOTPATH_OP_WAKE : HOTPATH_OP_RECV);
        if (i % 2 == 0) CHECK_EQ(hotpath_release_buf(ring, got[0].buf_id), 0);
    }
    CHECK_EQ(epoll_ctl(epoll, EPOLL_CTL_DEL, event_fd, NULL), 0);
    close(epoll);
    hang_up(ring, pair);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

/* Submissions cost no system call of their own. */
static void one_call_a_turn(void)
{
    enum { CONNECTIONS = 32, ROUNDS = 20 };
    hotpath_ring_t *ring = hotpath_ring_new(256, 64, 4096);
    pair_t pairs[CONNECTIONS];
    hotpath_stats_t before = {.size = sizeof before}, after = before;
    CHECK(ring);
    for (int i = 0; i < CONNECTIONS; i++) {
        pairs[i] = connected();
        CHECK_EQ(hotpath_submit_recv(ring, pairs[i].ours), 0);
    }
    CHECK_EQ(hotpath_flush(ring), 0);
    CHECK_EQ(hotpath_stats(ring, &before), 0);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CONNECTIONS; i++) say(pairs[i].theirs, "ping");
        CHECK_EQ(hotpath_wait(ring, CONNECTIONS, PATIENCE_MS, got, LEN(got)), CONNECTIONS);
        for (int i = 0; i < CONNECTIONS; i++) {
            CHECK_EQ(hotpath_release_buf(ring, got[i].buf_id), 0);
            CHECK_EQ(hotpath_send(ring, got[i].fd, "pong", 4, HOTPATH_QUIET), 0);
        }
        CHECK_EQ(hotpath_flush(ring), 0);
        for (int i = 0; i < CONNECTIONS; i++) expect_text(pairs[i].theirs, "pong");
    }
    CHECK_EQ(hotpath_stats(ring, &after), 0);
    CHECK(after.syscalls - before.syscalls <= 3 * ROUNDS);
    for (int i = 0; i < CONNECTIONS; i++) hang_up(ring, pairs[i]);
    CHECK_EQ(hotpath_ring_free(ring), 0);
}

int main(void)
{
    need_io_uring();
    RUN(only_look);
    RUN(time_limit);
    RUN(several);
    RUN(capacity);
    RUN(interrupted);
    RUN(woken);
    RUN(in_epoll);
    RUN(one_call_a_turn);
    return 0;
}
