/* An HTTP server on epoll, one thread: the yardstick that everybody knows. */
#define _GNU_SOURCE
#include "../../c-examples/http.h"
#include "epoll.h"

struct connection {
    struct http_conn http;
    struct unsent unsent;
};

static struct connection *connections; /* by descriptor */

static void end_connection(int fd)
{
    struct connection *conn = &connections[fd];
    free(conn->unsent.data);
    http_forget(&conn->http);
    *conn = (struct connection){0};
    close(fd);
}

static void serve(int fd, uint32_t events)
{
    static char received[HTTP_RECV_MAX];
    static struct http_out out;
    struct connection *conn = &connections[fd];

    if (conn->unsent.data && !send_or_keep(&conn->unsent, fd, conn->unsent.data, conn->unsent.length)) {
        end_connection(fd);
        return;
    }
    while (!conn->unsent.data) {
        if (conn->http.lingering)
            shutdown(fd, SHUT_WR);
        else if (conn->http.closing)
            break;
        ssize_t length = recv(fd, received, sizeof received, 0);
        if (length < 0 && errno == EAGAIN)
            return;
        if (length <= 0)
            break;
        http_feed(&conn->http, received, (size_t)length, &out);
        if (out.length && !send_or_keep(&conn->unsent, fd, out.data, out.length))
            break;
        if ((size_t)length < sizeof received && emptied(events) && !conn->http.closing)
            return;
    }
    if (!conn->unsent.data)
        end_connection(fd);
}

int main(int argc, char **argv)
{
    http_prepare();
    connections = table_by_fd(sizeof *connections);
    serve_forever(argc, argv, serve);
}
