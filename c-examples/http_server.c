/* An HTTP/1.1 server: a ring and a listener for each worker thread, requests parsed in the buffers they arrived in.
 *
 *     http_server [-p port] [-w workers] [-t idle seconds] [-m store]
 *
 * Port 0 lets the kernel choose. With a store, each worker publishes its numbers in a segment of it; the store is made
 * if it is not there. SIGINT and SIGTERM finish what has begun and end the server with status 0. */
#define _GNU_SOURCE
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <shmhot.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BATCH = 256, MAX_WORKERS = 64, LINGER_MS = 2000, DRAIN_MS = 5000 };

/* What a worker counts. */
enum number { CONNECTIONS_ACTIVE, CONNECTIONS_TOTAL, REQUESTS_ACTIVE, REQUESTS_TOTAL, SENT_BYTES_TOTAL, NUMBERS };

static const observer_field_t fields[NUMBERS] = {
    [CONNECTIONS_ACTIVE] = {.name = "connections_active", .kind = OBSERVER_GAUGE, .help = "Connections that are open."},
    [CONNECTIONS_TOTAL] = {.name = "connections_total", .kind = OBSERVER_COUNTER, .help = "Connections that were accepted."},
    [REQUESTS_ACTIVE] = {.name = "requests_active", .kind = OBSERVER_GAUGE, .help = "Requests that have arrived in part."},
    [REQUESTS_TOTAL] = {.name = "requests_total", .kind = OBSERVER_COUNTER, .help = "Requests that were answered."},
    [SENT_BYTES_TOTAL] = {.name = "sent_bytes_total", .kind = OBSERVER_COUNTER, .help = "Bytes of answers.", .unit = "bytes"},
};

struct worker {
    pthread_t thread;
    hotpath_ring_t *ring;
    hotpath_buffers_t pool;
    int listener;
    bool draining;
    uint64_t numbers[NUMBERS];
    observer_t *observer; /* NULL: nobody wants to know them */
    int32_t segment;
    struct http_out out;
};

struct connection {
    struct http_conn http;
    struct worker *worker; /* NULL: not open, or being closed */
};

static struct connection *connections; /* by descriptor */
static int32_t connections_limit;
static uint32_t idle_ms;

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "http_server: %s: %s\n", what, why);
    exit(1);
}

/* For calls that fail only when something is wrong: the library has the sentence. */
static int32_t check(int32_t status, const char *what)
{
    if (status < 0) {
        char why[256];
        shmhot_last_error(why, sizeof why);
        fail(what, why);
    }
    return status;
}

/* What is queued still goes out, for as long as that may take; 0 ms drops it. */
static void end_connection(struct worker *worker, int fd, uint32_t within_ms)
{
    struct connection *conn = &connections[fd];
    if (conn->http.lingering)
        hotpath_cancel_timeout(worker->ring, fd);
    worker->numbers[CONNECTIONS_ACTIVE]--;
    worker->numbers[REQUESTS_ACTIVE] -= http_is_amid(&conn->http);
    http_forget(&conn->http);
    conn->worker = NULL;
    check(hotpath_submit_close_within(worker->ring, fd, within_ms), "cannot close");
}

static void received(struct worker *worker, int fd, const uint8_t *data, size_t length)
{
    struct http_conn *http = &connections[fd].http;
    struct http_out *out = &worker->out;
    http->last = worker->draining;
    worker->numbers[REQUESTS_ACTIVE] -= http_is_amid(http);
    http_feed(http, (const char *)data, length, out);
    worker->numbers[REQUESTS_ACTIVE] += http_is_amid(http);
    worker->numbers[REQUESTS_TOTAL] += out->answered;
    worker->numbers[SENT_BYTES_TOTAL] += out->length;
    /* Refused when the peer has gone, or leaves so many answers unread that the queue is full. */
    if (out->length && hotpath_send(worker->ring, fd, out->data, out->length, HOTPATH_QUIET) < 0) {
        end_connection(worker, fd, 0);
    } else if (http->lingering && out->length) {
        if (hotpath_submit_shutdown(worker->ring, fd) < 0)
            end_connection(worker, fd, 0);
        else
            check(hotpath_submit_timeout(worker->ring, fd, LINGER_MS), "cannot set a deadline");
    } else if (http->closing && !http->lingering) {
        end_connection(worker, fd, HOTPATH_NO_TIMEOUT);
    }
}

static void accepted(struct worker *worker, const hotpath_completion_t *event)
{
    if (event->result < 0) {
        if (!worker->draining && !(event->flags & HOTPATH_F_MORE))
            fail("cannot accept", shmhot_strerror((int32_t)event->result));
        return;
    }
    int fd = (int)event->result;
    connections[fd].worker = worker;
    worker->numbers[CONNECTIONS_ACTIVE]++;
    worker->numbers[CONNECTIONS_TOTAL]++;
    check(hotpath_submit_recv(worker->ring, fd), "cannot receive");
    if (idle_ms)
        check(hotpath_set_idle_timeout(worker->ring, fd, idle_ms), "cannot set the idle timeout");
}

/* Connections between two requests end now, the others with their answer. */
static void drain(struct worker *worker)
{
    worker->draining = true;
    check(hotpath_drain(worker->ring, DRAIN_MS), "cannot drain");
    for (int fd = 0; fd < connections_limit; fd++) {
        struct connection *conn = &connections[fd];
        if (conn->worker == worker && !http_is_amid(&conn->http) && !conn->http.lingering)
            end_connection(worker, fd, HOTPATH_NO_TIMEOUT);
    }
}

/* False when the worker is done. */
static bool handle(struct worker *worker, const hotpath_completion_t *event)
{
    int fd = event->fd;
    switch (event->op_kind) {
    case HOTPATH_OP_ACCEPT:
        accepted(worker, event);
        break;
    case HOTPATH_OP_RECV:
        if (event->result > 0) {
            received(worker, fd, worker->pool.base + (size_t)event->buf_id * worker->pool.buf_size, (size_t)event->result);
            check(hotpath_release_buf(worker->ring, event->buf_id), "cannot release a buffer");
        } else {
            end_connection(worker, fd, event->result == 0 ? HOTPATH_NO_TIMEOUT : 0);
        }
        break;
    case HOTPATH_OP_SEND: /* a quiet send tells only its failure */
        if (!(event->flags & HOTPATH_F_ENDED) && connections[fd].worker)
            end_connection(worker, fd, 0);
        break;
    case HOTPATH_OP_TIMEOUT:
        if (connections[event->result].http.lingering)
            end_connection(worker, (int)event->result, 0);
        break;
    case HOTPATH_OP_WAKE:
        drain(worker);
        break;
    case HOTPATH_OP_DRAIN:
        return false;
    }
    return true;
}

/* Once a turn. Nobody else writes to the segment, so that a store does and no addition is needed. */
static void publish(const struct worker *worker)
{
    for (uint32_t i = 0; i < NUMBERS; i++)
        observer_set_u64(worker->observer, i, worker->numbers[i]);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    hotpath_completion_t events[BATCH];
    check(hotpath_buffers(worker->ring, &worker->pool), "cannot find the buffers"); /* from here on the ring is this thread's */
    check(hotpath_submit_accept(worker->ring, worker->listener), "cannot accept");
    for (bool running = true; running;) {
        int32_t count = check(hotpath_wait(worker->ring, 1, HOTPATH_NO_TIMEOUT, events, BATCH), "cannot wait");
        for (int32_t i = 0; i < count; i++)
            running &= handle(worker, &events[i]);
        if (worker->observer)
            publish(worker);
    }
    check(hotpath_ring_free(worker->ring), "cannot free the ring");
    close(worker->listener);
    return NULL;
}

static observer_store_t *open_store(const char *path)
{
    observer_store_t *store;
    if (access(path, F_OK) == 0)
        check(observer_store_open(path, NULL, &store), "cannot open the store");
    else
        check(observer_store_create(path, NULL, &store), "cannot make the store");
    check(observer_store_reap(store), "cannot free the segments of those that were killed");
    return store;
}

/* A segment for each worker. */
static void observe(const observer_store_t *store, const char *path, struct worker *workers, int count)
{
    observer_schema_t *schema;
    check(observer_schema_new(OBSERVER_ALIGNED, &schema), "cannot make a schema");
    for (int i = 0; i < NUMBERS; i++) {
        observer_field_t field = fields[i];
        field.size = sizeof field;
        field.type = OBSERVER_U64_LE;
        check(observer_schema_add(schema, &field), "cannot add a field");
    }
    size_t size = (size_t)check(observer_store_segment_size(store), "cannot read the store");
    for (struct worker *worker = workers; worker < workers + count; worker++) {
        worker->segment = check(observer_store_allocate(store, schema, "http_server", 0), "cannot take a segment");
        uint64_t offset = (uint64_t)worker->segment * size;
        check(observer_open(schema, path, size, offset, NULL, &worker->observer), "cannot open a segment");
    }
    observer_schema_free(schema);
}

/* Workers share the port; the kernel spreads connections over their listeners. What is set here, accepted sockets inherit. */
static int listen_on(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 || bind(fd, (struct sockaddr *)&address, length) < 0 ||
        listen(fd, SOMAXCONN) < 0 || getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        fail("cannot listen", strerror(errno));
    *port = ntohs(address.sin_port);
    return fd;
}

static void prepare_connections(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 1 << 20 ? limit.rlim_max : 1 << 20;
    setrlimit(RLIMIT_NOFILE, &limit);
    connections_limit = (int32_t)limit.rlim_cur;
    connections = calloc((size_t)connections_limit, sizeof *connections);
    if (!connections)
        fail("cannot prepare connections", strerror(ENOMEM));
}

static int number(const char *text, int least, int most)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || *end || value < least || value > most) {
        fprintf(stderr, "http_server: %s is not a number from %d to %d\n", text, least, most);
        exit(2);
    }
    return (int)value;
}

int main(int argc, char **argv)
{
    static struct worker workers[MAX_WORKERS];
    static const struct option options[] = {{"metrics", required_argument, NULL, 'm'}, {0}};
    const char *path = NULL;
    int port = 8080, count = 1, option;
    while ((option = getopt_long(argc, argv, "p:w:t:m:", options, NULL)) != -1) {
        switch (option) {
        case 'p': port = number(optarg, 0, 65535); break;
        case 'w': count = number(optarg, 1, MAX_WORKERS); break;
        case 't': idle_ms = (uint32_t)number(optarg, 0, 86400) * 1000; break;
        case 'm': path = optarg; break;
        default: fputs("usage: http_server [-p port] [-w workers] [-t idle seconds] [-m store]\n", stderr); return 2;
        }
    }

    /* Blocked before there are threads, so that the signals reach only sigwait below. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    http_prepare();
    prepare_connections();
    observer_store_t *store = path ? open_store(path) : NULL;
    if (store)
        observe(store, path, workers, count);
    for (int i = 0; i < count; i++) {
        struct worker *worker = &workers[i];
        worker->listener = listen_on(&port);
        worker->ring = hotpath_ring_new(1024, 512, HTTP_RECV_MAX);
        if (!worker->ring)
            check(shmhot_last_status(), "cannot make a ring");
    }
    for (int i = 0; i < count; i++)
        if ((errno = pthread_create(&workers[i].thread, NULL, work, &workers[i])))
            fail("cannot start a worker", strerror(errno));
    printf("listening on 127.0.0.1:%d\n", port);
    fflush(stdout);

    int signal;
    sigwait(&signals, &signal);
    for (int i = 0; i < count; i++)
        check(hotpath_wake(workers[i].ring), "cannot wake a worker");
    for (int i = 0; i < count; i++)
        pthread_join(workers[i].thread, NULL);
    for (int i = 0; store && i < count; i++) {
        observer_close(workers[i].observer);
        check(observer_store_free(store, (uint32_t)workers[i].segment), "cannot give a segment back");
    }
    observer_store_close(store);
    free(connections);
}
