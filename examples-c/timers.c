/*
 * Timers: once, again and again, pushed back, cancelled; each with a callback of its own.
 *
 *     make && build/timers
 *
 * The keyboard is not read here: the "keys" are pressed by a timer too. It ends by itself.
 */
#include <echoloop.h>

#include <stdio.h>

struct program {
    echoloop *loop;
    echoloop_timer *beat, *saver;
    int beats, keys;
};

/* Times are those of the turn: they stand still in a callback. */
static long now_ms(const struct program *program)
{
    return (long)(echoloop_now_us(program->loop) / 1000);
}

/* Every 100 ms; a beat that was missed is skipped, and the rest stay in time. */
static void on_beat(void *user, echoloop_timer *timer)
{
    struct program *program = user;
    printf("%4ld ms: beat %d\n", now_ms(program), ++program->beats);
    if (program->beats == 8)
        echoloop_timer_cancel(timer);
}

/* Every 30 ms, six times: each key pushes the save back, so it comes when the typing has ended. */
static void on_key(void *user, echoloop_timer *timer)
{
    struct program *program = user;
    echoloop_timer_rearm(program->saver, ECHOLOOP_MS(200));
    if (++program->keys == 6)
        echoloop_timer_cancel(timer);
}

static void on_save(void *user, echoloop_timer *timer)
{
    struct program *program = user;
    (void)timer; /* It fires once, and is gone when this returns. */
    printf("%4ld ms: saved after %d keys\n", now_ms(program), program->keys);
}

static void on_end(void *user, echoloop_timer *timer)
{
    struct program *program = user;
    (void)timer;
    printf("%4ld ms: the end\n", now_ms(program));
    echoloop_stop(program->loop);
}

/* A timer with a callback: 0, or a status. */
static int start(struct program *program, int64_t delay_us, int64_t period_us,
                 echoloop_timer_fn callback, echoloop_timer **out)
{
    int made = echoloop_timer_new(program->loop, delay_us, period_us, program, out);
    return made < 0 ? made : echoloop_timer_set_callback(*out, callback);
}

int main(void)
{
    struct program program = {NULL, NULL, NULL, 0, 0};
    echoloop_hooks hooks = ECHOLOOP_HOOKS_INIT; /* on_timer would be for timers without a callback. */
    echoloop_timer *keys, *end;
    int ran = -1;
    program.loop = echoloop_new(NULL);
    if (start(&program, ECHOLOOP_MS(100), ECHOLOOP_MS(100), on_beat, &program.beat) == 0
        && start(&program, ECHOLOOP_MS(200), 0, on_save, &program.saver) == 0
        && start(&program, ECHOLOOP_MS(30), ECHOLOOP_MS(30), on_key, &keys) == 0
        && start(&program, ECHOLOOP_SECONDS(1), 0, on_end, &end) == 0)
        ran = echoloop_run(program.loop, &hooks, NULL);
    if (ran < 0)
        fprintf(stderr, "%s\n", echoloop_last_error());
    echoloop_free(program.loop);
    return ran < 0;
}
