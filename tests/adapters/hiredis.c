/* Scenarios for echoloop/adapters/hiredis.h: `hiredis SCENARIO SOCKET`. */
#include <echoloop/adapters/hiredis.h>

#include "check.h"

static int replies, nothings, connects, disconnects, last_status;

static void on_connect(const redisAsyncContext *redis, int status)
{
    (void)redis;
    connects++;
    last_status = status;
}

static void on_disconnect(const redisAsyncContext *redis, int status)
{
    (void)redis;
    disconnects++;
    last_status = status;
    stop();
}

static redisAsyncContext *connect_to(const char *path)
{
    redisAsyncContext *redis = redisAsyncConnectUnix(path);
    CHECK(redis != NULL && redis->err == 0);
    CHECK(echoloop_hiredis_attach(loop, redis) == 0);
    CHECK(echoloop_hiredis_attach(loop, redis) == -EALREADY);
    CHECK(redisAsyncSetConnectCallback(redis, on_connect) == REDIS_OK);
    CHECK(redisAsyncSetDisconnectCallback(redis, on_disconnect) == REDIS_OK);
    return redis;
}

/* Counts replies, and those that say that there will be none. */
static void on_reply(redisAsyncContext *redis, void *reply, void *user)
{
    (void)redis;
    (void)user;
    replies++;
    nothings += reply == NULL;
}

#define MANY 10000

static void on_count(redisAsyncContext *redis, void *data, void *user)
{
    redisReply *reply = data;
    (void)user;
    CHECK(reply != NULL && reply->type == REDIS_REPLY_INTEGER);
    CHECK(reply->integer == ++replies);
    if (replies < MANY && replies % 2 == 0)
        CHECK(redisAsyncCommand(redis, on_count, NULL, "INCR counter") == REDIS_OK);
    if (replies == MANY)
        redisAsyncDisconnect(redis); /* In a callback, with nothing under way. */
}

/* Half of the commands at once, the others by the replies. */
static void commands(char **arguments)
{
    redisAsyncContext *redis = connect_to(arguments[0]);
    int i;
    for (i = 0; i < MANY / 2 + 1; i++)
        CHECK(redisAsyncCommand(redis, on_count, NULL, "INCR counter") == REDIS_OK);
    run();
    CHECK(replies == MANY && connects == 1 && disconnects == 1 && last_status == REDIS_OK);
}

static void on_big(redisAsyncContext *redis, void *data, void *user)
{
    redisReply *reply = data;
    const char *sent = user;
    size_t len = strlen(sent);
    CHECK(reply != NULL && reply->type == REDIS_REPLY_STRING);
    CHECK(reply->len == len && memcmp(reply->str, sent, len) == 0);
    redisAsyncFree(redis);
    CHECK(disconnects == 0); /* Not before this callback has returned. */
}

/* More than a socket takes at once, both ways. */
static void large(char **arguments)
{
    redisAsyncContext *redis = connect_to(arguments[0]);
    size_t len = 20000000;
    char *value = malloc(len + 1);
    CHECK(value != NULL);
    memset(value, 'x', len);
    value[len] = '\0';
    CHECK(redisAsyncCommand(redis, on_reply, NULL, "SET big %b", value, len) == REDIS_OK);
    CHECK(redisAsyncCommand(redis, on_big, value, "GET big") == REDIS_OK);
    run();
    CHECK(replies == 1 && nothings == 0 && disconnects == 1);
    free(value);
}

static void on_last(redisAsyncContext *redis, void *reply, void *user)
{
    (void)user;
    CHECK(reply != NULL);
    redisAsyncDisconnect(redis);
    CHECK(redisAsyncCommand(redis, on_reply, NULL, "PING") == REDIS_ERR);
}

/* Disconnects in a callback, with commands under way: they are answered first. */
static void disconnected(char **arguments)
{
    redisAsyncContext *redis = connect_to(arguments[0]);
    int i;
    CHECK(redisAsyncCommand(redis, on_last, NULL, "PING") == REDIS_OK);
    for (i = 0; i < 100; i++)
        CHECK(redisAsyncCommand(redis, on_reply, NULL, "PING") == REDIS_OK);
    run();
    CHECK(replies == 100 && nothings == 0);
    CHECK(disconnects == 1 && last_status == REDIS_OK);
}

static void free_now(redisAsyncContext *redis, void *reply, void *user)
{
    (void)user;
    CHECK(reply != NULL);
    redisAsyncFree(redis);
}

/* Freed in a callback, with commands under way: each is told that there is no reply. */
static void freed(char **arguments)
{
    redisAsyncContext *redis = connect_to(arguments[0]);
    int i;
    CHECK(redisAsyncCommand(redis, free_now, NULL, "PING") == REDIS_OK);
    CHECK(redisAsyncCommand(redis, on_reply, NULL, "BLPOP nothing 0") == REDIS_OK);
    for (i = 0; i < 99; i++)
        CHECK(redisAsyncCommand(redis, on_reply, NULL, "PING") == REDIS_OK);
    run();
    CHECK(replies == 100 && nothings >= 1);
    CHECK(disconnects == 1 && last_status == REDIS_OK);
}

static void free_later(void *user, echoloop_timer *timer)
{
    (void)timer;
    redisAsyncFree(user);
}

static void free_when_connected(const redisAsyncContext *redis, int status)
{
    on_connect(redis, status);
    later(0, free_later, (void *)(uintptr_t)redis);
}

/* Freed before it has connected; and by a timer of the loop, with a command under way. */
static void freed_elsewhere(char **arguments)
{
    redisAsyncContext *redis = connect_to(arguments[0]);
    redisAsyncFree(redis);
    CHECK(connects == 0 && disconnects == 0 && echoloop_live_handles() == 1);
    redis = redisAsyncConnectUnix(arguments[0]);
    CHECK(echoloop_hiredis_attach(loop, redis) == 0);
    CHECK(redisAsyncSetConnectCallback(redis, free_when_connected) == REDIS_OK);
    CHECK(redisAsyncSetDisconnectCallback(redis, on_disconnect) == REDIS_OK);
    CHECK(redisAsyncCommand(redis, on_reply, NULL, "BLPOP nothing 0") == REDIS_OK);
    run();
    CHECK(connects == 1 && replies == 1 && nothings == 1);
}

static void on_first(redisAsyncContext *redis, void *reply, void *user)
{
    (void)redis;
    (void)user;
    CHECK(reply != NULL);
    if (++replies == 10)
        say("in flight");
}

/* The server is killed with commands under way. */
static void killed(char **arguments)
{
    int i;
    for (i = 0; i < 10; i++) {
        redisAsyncContext *redis = connect_to(arguments[0]);
        CHECK(redisAsyncCommand(redis, on_first, NULL, "PING") == REDIS_OK);
        CHECK(redisAsyncCommand(redis, on_reply, NULL, "BLPOP nothing 0") == REDIS_OK);
    }
    while (disconnects < 10)
        run();
    CHECK(connects == 10 && replies == 20 && nothings == 10 && last_status == REDIS_ERR);
}

static void on_message(redisAsyncContext *redis, void *data, void *user)
{
    redisReply *reply = data;
    redisAsyncContext *publisher = user;
    if (reply == NULL)
        return;
    CHECK(reply->type == REDIS_REPLY_ARRAY && reply->elements == 3);
    if (strcmp(reply->element[0]->str, "subscribe") == 0) {
        CHECK(redisAsyncCommand(publisher, on_reply, NULL, "PUBLISH news hello") == REDIS_OK);
        return;
    }
    CHECK(strcmp(reply->element[0]->str, "message") == 0);
    CHECK(strcmp(reply->element[2]->str, "hello") == 0);
    redisAsyncFree(publisher); /* Another one than the one whose callback this is. */
    redisAsyncFree(redis);
}

static void subscribed(char **arguments)
{
    redisAsyncContext *publisher = connect_to(arguments[0]);
    redisAsyncContext *redis = connect_to(arguments[0]);
    CHECK(redisAsyncCommand(redis, on_message, publisher, "SUBSCRIBE news") == REDIS_OK);
    while (disconnects < 2)
        run();
    CHECK(replies == 1);
}

/* Nobody listens: known at once for a Unix socket, by the loop for TCP. */
static void refused(char **arguments)
{
    redisAsyncContext *redis = redisAsyncConnectUnix(arguments[0]);
    CHECK(redis != NULL && redis->err != 0);
    CHECK(echoloop_hiredis_attach(loop, redis) == -EBADF);
    redisAsyncFree(redis);
    redis = redisAsyncConnect("127.0.0.1", atoi(arguments[1]));
    CHECK(redis != NULL && redis->err == 0);
    CHECK(echoloop_hiredis_attach(loop, redis) == 0);
    CHECK(redisAsyncSetConnectCallback(redis, on_connect) == REDIS_OK);
    CHECK(redisAsyncCommand(redis, on_reply, NULL, "PING") == REDIS_OK);
    while (connects == 0)
        turn(ECHOLOOP_SECONDS(10));
    CHECK(last_status == REDIS_ERR && nothings == 1);
}

/* The loop goes first: the context is only to be freed. */
static void loop_freed_first(char **arguments)
{
    redisAsyncContext *redis = connect_to(arguments[0]);
    redisAsyncSetDisconnectCallback(redis, NULL);
    CHECK(redisAsyncCommand(redis, on_reply, NULL, "PING") == REDIS_OK);
    echoloop_free(loop);
    loop = NULL;
    CHECK(redisAsyncCommand(redis, on_reply, NULL, "PING") == REDIS_OK);
    redisAsyncFree(redis);
    CHECK(replies == 2 && nothings == 2);
}

int main(int argc, char **argv)
{
    static const struct scenario scenarios[] = {
        { "commands", commands },
        { "large", large },
        { "disconnected", disconnected },
        { "freed", freed },
        { "freed-elsewhere", freed_elsewhere },
        { "killed", killed },
        { "subscribed", subscribed },
        { "refused", refused },
        { "loop-freed-first", loop_freed_first },
    };
    return play(scenarios, COUNT(scenarios), argc, argv);
}
