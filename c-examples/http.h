/* HTTP without input and output: what was received goes in, the answers that are due come out. http_server.c and the
 * programs of benches/hotpath do the same work with it and differ only in how they move bytes; metrics_exporter.c has
 * more to say than hello. */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HTTP_HEADER_MAX 8192
#define HTTP_RECV_MAX 8192 /* the most that may be fed at once */
#define HTTP_ANSWER_MAX 128 /* of the answers that are known beforehand */

enum http_status { HTTP_OK, HTTP_BAD_REQUEST, HTTP_NOT_FOUND, HTTP_HEADER_TOO_LARGE, HTTP_NOT_IMPLEMENTED, HTTP_STATUSES };

struct http_answer {
    const char *text;
    size_t length;
    bool closes; /* the connection ends after it */
};

/* [status][is closed after it][is to a HEAD request: no body] */
static struct http_answer http_answers[HTTP_STATUSES][2][2];
static const struct http_answer http_continue = {"HTTP/1.1 100 Continue\r\n\r\n", 25, false};

/* Writes an answer, its body only if it is not to a HEAD request. Its length, whether there was room or not. */
static size_t http_compose(char *text, size_t room, const char *status, const char *type, const char *body, bool closes, bool head)
{
    return (size_t)snprintf(text, room, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n%s", status, type,
                            strlen(body), closes ? "Connection: close\r\n" : "", head ? "" : body);
}

static void http_prepare(void)
{
    static char texts[HTTP_STATUSES * 4][HTTP_ANSWER_MAX];
    static const char *const lines[HTTP_STATUSES][2] = {
        [HTTP_OK] = {"200 OK", "hello\n"},
        [HTTP_BAD_REQUEST] = {"400 Bad Request", "bad request\n"},
        [HTTP_NOT_FOUND] = {"404 Not Found", "not found\n"},
        [HTTP_HEADER_TOO_LARGE] = {"431 Request Header Fields Too Large", "header too large\n"},
        [HTTP_NOT_IMPLEMENTED] = {"501 Not Implemented", "not implemented\n"},
    };
    for (int i = 0; i < HTTP_STATUSES * 4; i++) {
        int status = i / 4, closes = i / 2 % 2, head = i % 2;
        size_t length = http_compose(texts[i], sizeof texts[i], lines[status][0], "text/plain", lines[status][1], closes, head);
        http_answers[status][closes][head] = (struct http_answer){texts[i], length, closes};
    }
}

/* A part of what was received. */
struct http_text {
    const char *at;
    size_t length;
};

struct http_request {
    struct http_text target, accept; /* of the header, for as long as that is there */
    enum http_status status;
    bool head, close, expects_continue, has_length;
    uint64_t body_length;
};

static bool http_is(const char *text, size_t length, const char *word)
{
    return length == strlen(word) && strncasecmp(text, word, length) == 0;
}

/* Whether a comma-separated value contains `word`. */
static bool http_lists(const char *value, const char *end, const char *word)
{
    while (value < end) {
        const char *start = value;
        while (value < end && *value != ',' && *value != ' ' && *value != '\t')
            value++;
        if (http_is(start, (size_t)(value - start), word))
            return true;
        value++;
    }
    return false;
}

static bool http_parse_field(const char *name, const char *colon, const char *end, struct http_request *request)
{
    size_t length = (size_t)(colon - name);
    const char *value = colon + 1;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    if (http_is(name, length, "connection")) {
        request->close |= http_lists(value, end, "close");
    } else if (http_is(name, length, "content-length")) {
        if (request->has_length || value == end || end - value > 18) /* two lengths are how requests are smuggled */
            return false;
        request->has_length = true;
        for (; value < end; value++) {
            if (*value < '0' || *value > '9')
                return false;
            request->body_length = request->body_length * 10 + (uint64_t)(*value - '0');
        }
    } else if (http_is(name, length, "transfer-encoding")) {
        request->status = HTTP_NOT_IMPLEMENTED;
    } else if (http_is(name, length, "expect")) {
        request->expects_continue = http_lists(value, end, "100-continue");
    } else if (http_is(name, length, "accept")) {
        request->accept = (struct http_text){value, (size_t)(end - value)};
    }
    return true;
}

/* Reads one request header. Its length; 0 when the end is not there yet; -1 when it is not HTTP. */
static long http_parse(const char *data, size_t length, struct http_request *request)
{
    const char *end = data + length, *line = data;
    *request = (struct http_request){.status = HTTP_OK};

    if (*line < 'A' || *line > 'Z')
        return -1;
    const char *newline = memchr(line, '\n', length);
    if (!newline)
        return 0;
    const char *target = memchr(line, ' ', (size_t)(newline - line));
    const char *version = target ? memchr(target + 1, ' ', (size_t)(newline - target - 1)) : NULL;
    if (!version || version == target + 1 || newline - version != 10 || memcmp(version, " HTTP/1.", 8) != 0 ||
        (version[8] != '0' && version[8] != '1') || newline[-1] != '\r')
        return -1;
    request->close = version[8] == '0';
    request->head = target - line == 4 && memcmp(line, "HEAD", 4) == 0;
    request->target = (struct http_text){target + 1, (size_t)(version - target - 1)};

    for (;;) {
        line = newline + 1;
        newline = memchr(line, '\n', (size_t)(end - line));
        if (!newline)
            return 0;
        if (newline == line || newline[-1] != '\r')
            return -1;
        if (newline == line + 1)
            return newline + 1 - data;
        const char *colon = memchr(line, ':', (size_t)(newline - line));
        if (!colon || colon == line || *line == ' ' || *line == '\t' || colon[-1] == ' ' || colon[-1] == '\t' ||
            !http_parse_field(line, colon, newline - 1, request))
            return -1;
    }
}

/* Whether a request is for this path, with a query or without. */
static bool http_asks_for(const struct http_request *request, const char *path)
{
    size_t length = strlen(path);
    const struct http_text *target = &request->target;
    return target->length >= length && memcmp(target->at, path, length) == 0 &&
           (target->length == length || target->at[length] == '?');
}

static const struct http_answer *http_hello(const struct http_request *request)
{
    return &http_answers[http_asks_for(request, "/") ? HTTP_OK : HTTP_NOT_FOUND][request->close][request->head];
}

/* Which answer a request gets. The answer has to stay; its text may be another one later, but not within an http_feed. */
static const struct http_answer *(*http_choose)(const struct http_request *request) = http_hello;

/* What a connection remembers between receives; all zero at first. */
struct http_conn {
    char *carry; /* the beginning of a header whose end has not arrived */
    uint32_t carried;
    bool last;      /* set by the caller: the next answer is the last */
    bool closing;   /* the connection ends after what has been answered */
    bool lingering; /* ... by a half-close: closed while its peer still sends, it would be reset and the answer lost */
    const struct http_answer *due; /* to be sent when the body has been read */
    uint64_t body_left;
};

/* One answer is sent from where it lies, several are gathered. */
struct http_out {
    const char *data;
    size_t length;
    unsigned answered; /* requests */
    char gathered[64 * 1024];
};

/* The shortest request has 18 bytes; the carried one comes on top. */
_Static_assert((HTTP_RECV_MAX / 18 + 2) * HTTP_ANSWER_MAX <= sizeof ((struct http_out *)0)->gathered, "gathered is too small");

/* False when there is no room behind other answers, which happens to longer ones: the connection ends without it. */
static bool http_put(struct http_conn *conn, struct http_out *out, const struct http_answer *answer)
{
    if (out->length == 0) {
        out->data = answer->text;
    } else if (out->length + answer->length > sizeof out->gathered) {
        conn->closing = conn->lingering = true;
        return false;
    } else {
        if (out->data != out->gathered)
            out->data = memcpy(out->gathered, out->data, out->length);
        memcpy(out->gathered + out->length, answer->text, answer->length);
    }
    out->length += answer->length;
    return true;
}

static void http_reject(struct http_conn *conn, enum http_status status, struct http_out *out)
{
    out->answered += http_put(conn, out, &http_answers[status][true][false]);
    conn->closing = conn->lingering = true;
}

/* Skips the body of the request that is being answered, then answers. False while some of the body is to come. */
static bool http_finish(struct http_conn *conn, const char **data, const char *end, struct http_out *out)
{
    uint64_t left = (uint64_t)(end - *data), skipped = left < conn->body_left ? left : conn->body_left;
    *data += skipped;
    conn->body_left -= skipped;
    if (conn->body_left)
        return false;
    out->answered += http_put(conn, out, conn->due);
    conn->closing |= conn->due->closes;
    conn->due = NULL;
    return true;
}

/* Reads a header, from where it lies unless its beginning came earlier. False while its end is to come. */
static bool http_begin(struct http_conn *conn, const char **data, const char *end, struct http_out *out)
{
    const char *header = *data;
    size_t carried = conn->carried, room = HTTP_HEADER_MAX - carried;
    size_t fresh = (size_t)(end - *data) < room ? (size_t)(end - *data) : room;
    if (carried) {
        memcpy(conn->carry + carried, *data, fresh);
        header = conn->carry;
    }
    struct http_request request;
    long length = http_parse(header, carried + fresh, &request);
    if (length == 0 && fresh < room) {
        if (!carried && (conn->carry = malloc(HTTP_HEADER_MAX)))
            memcpy(conn->carry, *data, fresh);
        conn->closing = !conn->carry; /* no memory for it */
        conn->carried += (uint32_t)fresh;
        return false;
    }
    request.close |= conn->last;
    if (length < 0)
        http_reject(conn, HTTP_BAD_REQUEST, out);
    else if (length == 0)
        http_reject(conn, HTTP_HEADER_TOO_LARGE, out);
    else if (request.status != HTTP_OK)
        http_reject(conn, request.status, out);
    else
        conn->due = http_choose(&request);
    free(conn->carry);
    conn->carry = NULL;
    conn->carried = 0;
    if (conn->closing)
        return false;
    *data += (size_t)length - carried;
    conn->body_left = request.body_length;
    if (request.expects_continue && conn->body_left && *data == end)
        http_put(conn, out, &http_continue);
    return true;
}

/* Takes at most HTTP_RECV_MAX received bytes and puts the answers that are due into `out`. */
static void http_feed(struct http_conn *conn, const char *data, size_t length, struct http_out *out)
{
    const char *end = data + length;
    out->length = out->answered = 0;
    while (!conn->closing && (conn->due ? http_finish(conn, &data, end, out) : data < end && http_begin(conn, &data, end, out)))
        ;
}

/* Whether a request has begun to arrive and is not answered yet. */
static inline bool http_is_amid(const struct http_conn *conn)
{
    return conn->due || conn->carried;
}

static void http_forget(struct http_conn *conn)
{
    free(conn->carry);
    *conn = (struct http_conn){0};
}

#endif
