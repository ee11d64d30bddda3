/* Serves the numbers of a store to Prometheus: what the workers publish, at GET /metrics.
 *
 *     metrics_exporter [-p port] store
 *
 * Port 0 lets the kernel choose. Clients that ask for OpenMetrics get that, others the text format 0.0.4; while the
 * store cannot be read they get 503 and the reason. SIGINT and SIGTERM end it with status 0. */
#define _GNU_SOURCE
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <shmhot.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BATCH = 64, LINGER_MS = 2000, IDLE_MS = 5 * 60 * 1000 };

/* The answer to a kind of request, written at most once a turn. */
struct page {
    struct http_answer answer;
    char *text;
    size_t room;
    uint64_t turn;
};

static const char *const types[] = {
    [OBSERVER_PROMETHEUS] = "text/plain; version=0.0.4; charset=utf-8",
    [OBSERVER_OPENMETRICS] = "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

static hotpath_ring_t *ring;
static hotpath_buffers_t pool;
static observer_store_t *store;
static struct http_conn *connections; /* by descriptor */
static struct http_out out;
static uint64_t turn;

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "metrics_exporter: %s: %s\n", what, why);
    exit(1);
}

static int32_t check(int32_t status, const char *what)
{
    if (status < 0) {
        char why[512];
        shmhot_last_error(why, sizeof why);
        fail(what, why);
    }
    return status;
}

static void make_room(char **text, size_t *room, size_t length)
{
    if (length <= *room)
        return;
    *room = length + length / 2; /* the next one may be longer */
    *text = realloc(*text, *room);
    if (!*text)
        fail("cannot answer", strerror(ENOMEM));
}

/* All numbers of the store; false, and why, when it cannot be read. The path is looked at each time: a store that was
 * made anew leaves us the one before, and that can still be read. */
static bool expose(uint32_t format, char **text, size_t *room)
{
    make_room(text, room, 512);
    int32_t length = observer_store_reopen(store);
    while (length >= 0 && (length = observer_store_exposition(store, format, *text, *room)) >= (int32_t)*room)
        make_room(text, room, (size_t)length + 1);
    if (length < 0) {
        shmhot_last_error(*text, *room - 1);
        strcat(*text, "\n");
    }
    return length >= 0;
}

static void write_page(struct page *page, uint32_t format, bool closes, bool head)
{
    static char *body;
    static size_t room;
    bool well = expose(format, &body, &room);
    make_room(&page->text, &page->room, 512 + strlen(body));
    size_t length = http_compose(page->text, page->room, well ? "200 OK" : "503 Service Unavailable",
                                 well ? types[format] : "text/plain; charset=utf-8", body, closes, head);
    page->answer = (struct http_answer){page->text, length, closes};
}

/* How much a client wants a type, from 0 to 1, by its Accept header. */
static double weight(struct http_text accept, const char *type)
{
    const char *end = accept.at + accept.length;
    for (const char *range = accept.at, *next; range < end; range = next) {
        next = memchr(range, ',', (size_t)(end - range));
        next = next ? next + 1 : end;
        size_t blank = strspn(range, " \t"), length = strcspn(range + blank, ";, \t\r");
        if (!http_is(range + blank, length, type))
            continue;
        for (const char *at = range; at < next && (at = memchr(at, ';', (size_t)(next - at)));) {
            at += 1 + strspn(at + 1, " \t");
            if (strncasecmp(at, "q=", 2) == 0)
                return strtod(at + 2, NULL);
        }
        return 1;
    }
    return 0;
}

static const struct http_answer *choose(const struct http_request *request)
{
    static struct page pages[2][2][2];
    if (!http_asks_for(request, "/metrics"))
        return &http_answers[HTTP_NOT_FOUND][request->close][request->head];
    double wanted = weight(request->accept, "application/openmetrics-text");
    uint32_t format = wanted > 0 && wanted >= weight(request->accept, "text/plain") ? OBSERVER_OPENMETRICS : OBSERVER_PROMETHEUS;
    struct page *page = &pages[format][request->close][request->head];
    if (page->turn != turn)
        write_page(page, format, request->close, request->head);
    page->turn = turn;
    return &page->answer;
}

static void end_connection(int fd, uint32_t within_ms)
{
    if (connections[fd].lingering)
        hotpath_cancel_timeout(ring, fd);
    http_forget(&connections[fd]);
    check(hotpath_submit_close_within(ring, fd, within_ms), "cannot close");
}

static void received(int fd, const uint8_t *data, size_t length)
{
    struct http_conn *conn = &connections[fd];
    http_feed(conn, (const char *)data, length, &out);
    if (out.length && hotpath_send(ring, fd, out.data, out.length, HOTPATH_QUIET) < 0) {
        end_connection(fd, 0);
    } else if (conn->lingering && out.length) {
        if (hotpath_submit_shutdown(ring, fd) < 0)
            end_connection(fd, 0);
        else
            check(hotpath_submit_timeout(ring, fd, LINGER_MS), "cannot set a deadline");
    } else if (conn->closing && !conn->lingering) {
        end_connection(fd, LINGER_MS);
    }
}

static void accepted(const hotpath_completion_t *event)
{
    if (event->result < 0) {
        if (!(event->flags & HOTPATH_F_MORE))
            fail("cannot accept", shmhot_strerror((int32_t)event->result));
        return;
    }
    check(hotpath_submit_recv(ring, (int)event->result), "cannot receive");
    check(hotpath_set_idle_timeout(ring, (int)event->result, IDLE_MS), "cannot set the idle timeout");
}

/* False when it is time to end. */
static bool handle(const hotpath_completion_t *event)
{
    switch (event->op_kind) {
    case HOTPATH_OP_ACCEPT:
        accepted(event);
        break;
    case HOTPATH_OP_RECV:
        if (event->result > 0) {
            received(event->fd, pool.base + (size_t)event->buf_id * pool.buf_size, (size_t)event->result);
            check(hotpath_release_buf(ring, event->buf_id), "cannot release a buffer");
        } else {
            end_connection(event->fd, event->result == 0 ? LINGER_MS : 0);
        }
        break;
    case HOTPATH_OP_SEND: /* a quiet send tells only its failure, and what fails a send ends the receive too */
        break;
    case HOTPATH_OP_TIMEOUT:
        if (connections[event->result].lingering)
            end_connection((int)event->result, 0);
        break;
    case HOTPATH_OP_WAKE:
        return false;
    }
    return true;
}

static void listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 || bind(fd, (struct sockaddr *)&address, length) < 0 ||
        listen(fd, SOMAXCONN) < 0 || getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        fail("cannot listen", strerror(errno));
    check(hotpath_submit_accept(ring, fd), "cannot accept");
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
}

static void stop(int signal)
{
    (void)signal;
    hotpath_wake(ring);
}

static _Noreturn void usage(void)
{
    fputs("usage: metrics_exporter [-p port] store\n", stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    long port = 9464; /* the one that exporters of OpenTelemetry have */
    for (int option; (option = getopt(argc, argv, "p:")) != -1;) {
        char *end = "?";
        if (option == 'p')
            port = strtol(optarg, &end, 10);
        if (*end || port < 0 || port > 65535)
            usage();
    }
    if (optind + 1 != argc)
        usage();

    /* Nothing is changed, and what others do to the files is an error here, never a signal. */
    observer_store_options_t options = {.size = sizeof options, .flags = OBSERVER_READ_ONLY | OBSERVER_CHECKED};
    check(observer_store_open(argv[optind], &options, &store), "cannot open the store");

    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 1024 ? limit.rlim_max : 1024;
    setrlimit(RLIMIT_NOFILE, &limit);
    connections = calloc(limit.rlim_cur, sizeof *connections);
    if (!connections)
        fail("cannot prepare connections", strerror(ENOMEM));

    ring = hotpath_ring_new(64, 64, HTTP_RECV_MAX);
    if (!ring)
        check(shmhot_last_status(), "cannot make a ring");
    check(hotpath_buffers(ring, &pool), "cannot find the buffers");
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    http_prepare();
    http_choose = choose;
    listen_on((int)port);

    hotpath_completion_t events[BATCH];
    for (bool running = true; running;) {
        int32_t count = check(hotpath_wait(ring, 1, HOTPATH_NO_TIMEOUT, events, BATCH), "cannot wait");
        turn++;
        for (int32_t i = 0; i < count; i++)
            running &= handle(&events[i]);
    }
    check(hotpath_ring_free(ring), "cannot free the ring");
    check(observer_store_close(store), "cannot close the store");
}
