/*
 * A protocol in messages: a server that speaks RESP, as Redis does, with PING, SET and GET.
 *
 *     make && build/resp_server 127.0.0.1:7379
 *     redis-benchmark -p 7379 -t ping,set,get -P 16 -c 50 -n 200000
 *
 * on_data uses whole commands only: what it leaves is offered again with what comes next.
 */
#include <echoloop.h>

#include "resp.h"
#include <search.h>
#include <signal.h>
#include <stdio.h>
#include <strings.h>

struct pair {
    struct text key, value;
};
static void *pairs; /* A tree, tsearch(3). Values are kept as they came and are sent: "$1\r\nv\r\n". */

static int by_key(const void *a, const void *b)
{
    const struct text *x = a, *y = b;
    return x->len != y->len ? (x->len < y->len ? -1 : 1) : memcmp(x->at, y->at, x->len);
}

static const char *set(struct text key, struct text value)
{
    struct pair *made = malloc(sizeof *made + key.len + value.len), **kept;
    if (made == NULL)
        return "-ERR out of memory\r\n";
    made->key.at = memcpy(made + 1, key.at, key.len);
    made->value.at = memcpy((char *)(made + 1) + key.len, value.at, value.len);
    made->key.len = key.len;
    made->value.len = value.len;
    if ((kept = tsearch(made, &pairs, by_key)) == NULL) {
        free(made);
        return "-ERR out of memory\r\n";
    }
    if (*kept != made)
        free(*kept); /* The value before. */
    *kept = made;
    return "+OK\r\n";
}

/* One send for each answer, so it is taken whole or not at all. */
static int answer(echoloop_conn *conn, const struct text *words, long n)
{
    const char *line = "-ERR unknown command\r\n";
    if (strncasecmp(words->at, "$4\r\nPING\r\n", 10) == 0 || strncasecmp(words->at, "PING\r\n", 6) == 0) {
        line = "+PONG\r\n";
    } else if (n == 3 && strncasecmp(words->at, "$3\r\nSET\r\n", 9) == 0) {
        line = set(words[1], words[2]);
    } else if (n == 2 && strncasecmp(words->at, "$3\r\nGET\r\n", 9) == 0) {
        struct pair **found = tfind(&words[1], &pairs, by_key);
        if (found != NULL)
            return echoloop_conn_send(conn, (*found)->value.at, (*found)->value.len);
        line = "$-1\r\n";
    }
    return echoloop_conn_send(conn, line, strlen(line));
}

static size_t on_data(void *loop, echoloop_conn *conn, const uint8_t *data, size_t len)
{
    struct text in = {(const char *)data, len}, words[RESP_WORDS];
    size_t used = 0;
    long n;
    (void)loop;
    while ((n = resp_command(&in, words)) > 0 && answer(conn, words, n) != ECHOLOOP_EQUEUEFULL)
        used = len - in.len;
    if (n > 0)
        echoloop_conn_pause(conn); /* The rest is offered again when the peer has read. */
    if (n == RESP_WRONG) {
        echoloop_conn_send(conn, "-ERR Protocol error\r\n", 21);
        echoloop_conn_close(conn);
    }
    return used;
}

static void on_drained(void *loop, echoloop_conn *conn)
{
    (void)loop;
    echoloop_conn_resume(conn);
}

int main(int argc, char **argv)
{
    echoloop *loop = echoloop_new(NULL);
    echoloop_listener *listener;
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    char where[ECHOLOOP_ADDR_MAX];
    hooks.on_data = on_data;
    hooks.on_drained = on_drained;
    if (echoloop_listen(loop, argc > 1 ? argv[1] : "127.0.0.1:7379", NULL, &listener) == 0
        && echoloop_listener_addr(listener, where, sizeof where) > 0
        && printf("listening on %s\n", where) > 0 && fflush(stdout) == 0)
        echoloop_run(loop, &hooks, loop);
    fprintf(stderr, "%s\n", echoloop_last_error());
    echoloop_free(loop);
    return 1;
}
