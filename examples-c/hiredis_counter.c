/*
 * Counts in Redis by hiredis, on an echoloop, with all commands under way at once.
 *
 *     make && build/hiredis_counter 100000
 *     make && build/hiredis_counter 100000 /run/redis/redis-server.sock
 *
 * hiredis_counter [TIMES [SOCKET | HOST [PORT]]]
 */
#include <echoloop.h>
#include <echoloop/adapters/hiredis.h>

#include <stdio.h>
#include <stdlib.h>

struct count {
    echoloop *loop;
    long left, last;
    int failed;
};

static void on_reply(redisAsyncContext *redis, void *data, void *user)
{
    struct count *count = user;
    redisReply *reply = data; /* NULL: the connection has ended. */

    if (reply != NULL && reply->type == REDIS_REPLY_INTEGER)
        count->last = (long)reply->integer;
    else
        count->failed = 1;
    if (--count->left == 0 && reply != NULL)
        redisAsyncDisconnect(redis); /* In a callback too; on_disconnect follows. */
}

static void on_connect(const redisAsyncContext *redis, int status)
{
    struct count *count = redis->data;

    if (status == REDIS_OK)
        return;
    fprintf(stderr, "can't connect: %s\n", redis->errstr);
    count->failed = 1;
    echoloop_stop(count->loop); /* hiredis frees the context. */
}

static void on_disconnect(const redisAsyncContext *redis, int status)
{
    struct count *count = redis->data;

    if (status != REDIS_OK) {
        fprintf(stderr, "lost: %s\n", redis->errstr);
        count->failed = 1;
    }
    echoloop_stop(count->loop);
}

int main(int argc, char **argv)
{
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT;
    long i, times = argc > 1 ? atol(argv[1]) : 1000;
    const char *where = argc > 2 ? argv[2] : "127.0.0.1";
    int port = argc > 3 ? atoi(argv[3]) : 6379;
    struct count count = { NULL, times, 0, 0 };
    redisAsyncContext *redis;

    count.loop = echoloop_new(NULL);
    redis = where[0] == '/' ? redisAsyncConnectUnix(where) : redisAsyncConnect(where, port);
    if (count.loop == NULL || redis == NULL || redis->err != 0
        || echoloop_hiredis_attach(count.loop, redis) < 0) {
        fprintf(stderr, "%s\n",
                redis != NULL && redis->err ? redis->errstr : echoloop_last_error());
        if (redis != NULL)
            redisAsyncFree(redis);
        echoloop_free(count.loop);
        return EXIT_FAILURE;
    }
    redis->data = &count;
    redisAsyncSetConnectCallback(redis, on_connect);
    redisAsyncSetDisconnectCallback(redis, on_disconnect);
    for (i = 0; i < times; i++)
        redisAsyncCommand(redis, on_reply, &count, "INCR echoloop:counter");
    if (echoloop_run(count.loop, &hooks, NULL) < 0) {
        fprintf(stderr, "%s\n", echoloop_last_error());
        count.failed = 1;
    }
    if (!count.failed)
        printf("counted to %ld\n", count.last);
    echoloop_free(count.loop);
    return count.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
