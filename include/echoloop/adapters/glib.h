/*
 * An echoloop inside a GLib main loop, as a GSource; GLib 2.36 and later.
 *
 *     GSource *source = echoloop_glib_source_new(loop, &hooks, user);
 *     g_source_attach(source, NULL);
 *     g_main_loop_run(main_loop);
 *     g_source_destroy(source);              Before echoloop_free().
 *     g_source_unref(source);
 *
 * The loop's descriptor is readable exactly when the loop has something to do, timers and posts
 * included, so GLib watches that and no more. Each dispatch is one turn, with a bounded number of
 * events, so GLib's own sources go on while the loop is busy. The context of the source has to run
 * on the loop's thread. The loop's callbacks may destroy the source, or free the loop, which ends
 * the source. g_main_loop_quit() ends the whole; a stop of the loop is told to on_event.
 */
#ifndef ECHOLOOP_ADAPTERS_GLIB_H
#define ECHOLOOP_ADAPTERS_GLIB_H

#include <echoloop.h>
#include <glib.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct echoloop_glib_source {
    GSource source;
    echoloop *loop;
    echoloop_hooks hooks;
    void *user;
} echoloop_glib_source;

/* One turn of the loop. When it fails, on_error tells why; then, or freed, the source ends. */
static inline gboolean echoloop_glib_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    echoloop_glib_source *self = (echoloop_glib_source *)source;
    int status = echoloop_run_once(self->loop, &self->hooks, self->user, 0);
    (void)callback;
    (void)data;
    if (status >= 0 && echoloop_now_us(self->loop) >= 0)
        return G_SOURCE_CONTINUE;
    if (status < 0 && status != ECHOLOOP_EBADHANDLE && self->hooks.on_error != NULL)
        self->hooks.on_error(self->user, status, echoloop_last_error());
    return G_SOURCE_REMOVE;
}

/**
 * Makes a source of loop, to be attached to a context. hooks is copied; it may be NULL if timers
 * and watches have callbacks of their own. NULL: see echoloop_last_status().
 */
static inline GSource *echoloop_glib_source_new(echoloop *loop, const echoloop_hooks *hooks,
                                                void *user)
{
    /* No prepare and no check: a descriptor that is ready is all there is to know. */
    static GSourceFuncs functions = { NULL, NULL, echoloop_glib_dispatch, NULL, NULL, NULL };
    const echoloop_hooks none = ECHOLOOP_HOOKS_INIT;
    int fd = echoloop_fd(loop);
    GSource *source;
    echoloop_glib_source *self;
    if (fd < 0)
        return NULL;
    source = g_source_new(&functions, sizeof *self);
    self = (echoloop_glib_source *)source;
    self->loop = loop;
    self->hooks = hooks != NULL ? *hooks : none;
    self->user = user;
    g_source_set_name(source, "echoloop");
    g_source_add_unix_fd(source, fd, G_IO_IN);
    return source;
}

#ifdef __cplusplus
}
#endif

#endif
