/*
 * hiredis' asynchronous contexts on an echoloop; hiredis 0.14 and later.
 *
 *     redisAsyncContext *redis = redisAsyncConnect("127.0.0.1", 6379);
 *     if (redis->err || echoloop_hiredis_attach(loop, redis) < 0)
 *         ...
 *     redisAsyncCommand(redis, on_reply, NULL, "PING");
 *     echoloop_run(loop, &hooks, NULL);
 *
 * Everything is called on the loop's thread. There is nothing to detach: the adapter's part ends
 * with the context, which hiredis frees after a disconnect, or redisAsyncFree() does, in callbacks
 * too. A context whose loop was freed before it is good for redisAsyncFree() only.
 */
#ifndef ECHOLOOP_ADAPTERS_HIREDIS_H
#define ECHOLOOP_ADAPTERS_HIREDIS_H

#include <echoloop.h>
#include <errno.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the loop has of one context: ev.data. */
typedef struct echoloop_hiredis {
    redisAsyncContext *context;
    echoloop *loop;
    echoloop_watch *watch;
    echoloop_timer *timer; /* A handle that may be stale. */
    int interest;
} echoloop_hiredis;

static inline void echoloop_hiredis_on_ready(void *user, echoloop_watch *watch, int readiness)
{
    echoloop_hiredis *redis = (echoloop_hiredis *)user;
    redisAsyncContext *context = redis->context;
    if ((readiness & ~ECHOLOOP_WRITABLE) && (redis->interest & ECHOLOOP_READABLE)) {
        redisAsyncHandleRead(context);
        if (echoloop_watch_fd(watch) < 0)
            return; /* The watch is gone, and so is the context: by a callback, or by an error. */
    }
    if ((readiness & ~ECHOLOOP_READABLE) && (redis->interest & ECHOLOOP_WRITABLE))
        redisAsyncHandleWrite(context);
}

static inline void echoloop_hiredis_ask(void *data, int interest)
{
    echoloop_hiredis *redis = (echoloop_hiredis *)data;
    if (interest != redis->interest) {
        redis->interest = interest;
        echoloop_watch_modify(redis->watch, interest);
    }
}

static inline void echoloop_hiredis_add_read(void *data)
{
    echoloop_hiredis_ask(data, ((echoloop_hiredis *)data)->interest | ECHOLOOP_READABLE);
}

static inline void echoloop_hiredis_del_read(void *data)
{
    echoloop_hiredis_ask(data, ((echoloop_hiredis *)data)->interest & ~ECHOLOOP_READABLE);
}

static inline void echoloop_hiredis_add_write(void *data)
{
    echoloop_hiredis_ask(data, ((echoloop_hiredis *)data)->interest | ECHOLOOP_WRITABLE);
}

static inline void echoloop_hiredis_del_write(void *data)
{
    echoloop_hiredis_ask(data, ((echoloop_hiredis *)data)->interest & ~ECHOLOOP_WRITABLE);
}

/* hiredis closes the descriptor after this. */
static inline void echoloop_hiredis_cleanup(void *data)
{
    echoloop_hiredis *redis = (echoloop_hiredis *)data;
    echoloop_watch_close(redis->watch);
    echoloop_timer_cancel(redis->timer);
    free(redis);
}

#if HIREDIS_MAJOR >= 1
static inline void echoloop_hiredis_on_timer(void *user, echoloop_timer *timer)
{
    (void)timer;
    redisAsyncHandleTimeout(((echoloop_hiredis *)user)->context);
}

/* Timeouts of connects and commands, which hiredis has since 1.0. */
static inline void echoloop_hiredis_schedule(void *data, struct timeval delay)
{
    echoloop_hiredis *redis = (echoloop_hiredis *)data;
    int64_t delay_us = ECHOLOOP_SECONDS(delay.tv_sec) + (int64_t)delay.tv_usec;
    if (echoloop_timer_rearm(redis->timer, delay_us) < 0
        && echoloop_timer_new(redis->loop, delay_us, 0, redis, &redis->timer) >= 0)
        echoloop_timer_set_callback(redis->timer, echoloop_hiredis_on_timer);
}
#endif

/**
 * Drives context on loop, from now to the context's end. Returns 0; -EBADF if the context is not
 * connecting (its err tells why), -EALREADY if it is attached, -ENOMEM, or what
 * echoloop_watch_new() returns. The context is not freed then.
 */
static inline int echoloop_hiredis_attach(echoloop *loop, redisAsyncContext *context)
{
    echoloop_hiredis *redis;
    int status;
    if (context->err)
        return -EBADF;
    if (context->ev.data != NULL)
        return -EALREADY;
    redis = (echoloop_hiredis *)calloc(1, sizeof *redis);
    if (redis == NULL)
        return -ENOMEM;
    redis->context = context;
    redis->loop = loop;
    /* It is connecting: to be writable is the answer. hiredis may have asked for it before. */
    redis->interest = ECHOLOOP_WRITABLE;
    status = echoloop_watch_new(loop, context->c.fd, redis->interest, NULL, redis, &redis->watch);
    if (status < 0) {
        free(redis);
        return status;
    }
    status = echoloop_watch_set_callback(redis->watch, echoloop_hiredis_on_ready);
    if (status < 0) {
        echoloop_watch_close(redis->watch);
        free(redis);
        return status;
    }
    context->ev.data = redis;
    context->ev.addRead = echoloop_hiredis_add_read;
    context->ev.delRead = echoloop_hiredis_del_read;
    context->ev.addWrite = echoloop_hiredis_add_write;
    context->ev.delWrite = echoloop_hiredis_del_write;
    context->ev.cleanup = echoloop_hiredis_cleanup;
#if HIREDIS_MAJOR >= 1
    context->ev.scheduleTimer = echoloop_hiredis_schedule;
#endif
    return 0;
}

#ifdef __cplusplus
}
#endif

#endif
