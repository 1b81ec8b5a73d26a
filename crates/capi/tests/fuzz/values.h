/*
 * All arguments that are no handles: numbers, texts, bytes, descriptors, places for results.
 *
 * The rule: what is passed keeps the one promise that C alone can keep (header, "Pointers"): it is readable, or
 * writable, for as long as it says. Everything else about it may be nonsense. Nothing leaves the machine.
 */

static int64_t number(void)
{
    static const int64_t odd[] = { -1, 0, 1, INT64_MAX, INT64_MIN, INT32_MAX, INT32_MIN, 4096, 1000000 };
    switch (below(4)) {
    case 0:
        return odd[below((int)COUNT(odd))];
    case 1:
        return below(1000);
    case 2:
        return one_in(8) ? (int64_t)any() : below(100000);
    default:
        return 0;
    }
}

/* Functions that wait, at most as long as they are told. */
static const char *const waiting[] = {
    "echoloop_run_once", "echoloop_poll_batch", "echoloop_selector_wait", "echoloop_poll", "echoloop_select",
};

/* Whether a wait of this call is sure to end. */
static int stop_is_arranged(void)
{
    struct frame *frame = here->top;
    echoloop *loop = (echoloop *)(uintptr_t)frame->handles[0];
    if (frame->n_handles == 0 || is("echoloop_selector_wait"))
        return 0;
    echoloop_stop(loop); /* Where this fails, so does the wait. */
    return 1;
}

static int64_t in_i64(const char *name)
{
    static const int64_t ever[] = { -1, INT64_MAX, INT64_MIN };
    if (strcmp(name, "timeout_us") == 0 && is_one_of(waiting, COUNT(waiting))) {
        if (one_in(20) && stop_is_arranged())
            return ever[below((int)COUNT(ever))];
        return one_in(10) ? below(200) : 0;
    }
    return number();
}

static uint64_t in_u64(void)
{
    return (uint64_t)number();
}

static size_t in_index(void)
{
    if (is("echoloop_workers_start"))
        return one_in(8) ? SIZE_MAX : (size_t)below(4);
    return one_in(4) ? (size_t)number() : (size_t)below(4);
}

static void *in_user(void)
{
    if (is("echoloop_workers_start"))
        return (void *)(uintptr_t)here->top->handles[0];
    if (is("echoloop_run") || is("echoloop_run_once") || is("echoloop_server_run")) {
        struct run *run = block(sizeof *run);
        run->loop = here->top->handles[0];
        run->freed = 0;
        return here->top->run = run;
    }
    return one_in(2) ? NULL : (void *)(uintptr_t)any();
}

static int a_descriptor(void)
{
    static const int closed[] = { -1, 5000, INT_MAX, INT_MIN, -2 };
    if (here->n_fds == 0 || one_in(4))
        return closed[below((int)COUNT(closed))];
    return here->fds[below(here->n_fds)];
}

static int in_int(const char *name)
{
    static const int signals[] = { SIGUSR1, SIGUSR2, SIGHUP, 0, -1, 9999, SIGKILL, SIGSTOP, INT_MAX };
    if (strcmp(name, "fd") == 0)
        return here->top->fd = a_descriptor();
    if (strcmp(name, "number") == 0)
        return signals[below((int)COUNT(signals))];
    if (strcmp(name, "status") == 0 || strcmp(name, "reason") == 0)
        return (int)(one_in(2) ? -below(12000) : number());
    if (strcmp(name, "interest") == 0)
        return one_in(4) ? (int)number() : below(8);
    if (strcmp(name, "mode") == 0)
        return one_in(8) ? (int)number() : below(3);
    return (int)number();
}

static size_t in_length(const char *name)
{
    static const size_t few[] = { 0, 1, 2, 16 };
    int bytes = strcmp(name, "len") == 0;
    here->top->length = few[below((int)COUNT(few))];
    if (bytes && one_in(24))
        here->top->length = one_in(2) ? SIZE_MAX : SIZE_MAX / 2 + 1;
    else if (bytes && one_in(8))
        here->top->length = one_in(4) ? PAGE : (size_t)below(PAGE);
    else if (bytes || one_in(2))
        here->top->length = strcmp(name, "capacity") == 0 ? (size_t)below(300) : (size_t)below(16);
    if (is("echoloop_poll_batch") || is("echoloop_inherited") || is("echoloop_selector_wait"))
        here->top->length %= 17;
    return here->top->length;
}

/* Bytes that end where memory ends. */
static const void *in_bytes(size_t len)
{
    if (one_in(16))
        return NULL;
    return here->page + PAGE - (len > PAGE ? 1 : len);
}

static void *out_array(size_t item, size_t length)
{
    void *array;
    if (one_in(16))
        return NULL;
    array = out_block(item * length, NO_KIND);
    return array;
}

static void *out_bytes(size_t capacity)
{
    return out_array(1, capacity);
}

static void *out_plain(size_t size)
{
    return out_array(1, size);
}

/* A struct of results: its size is right, or of an older header, or of a newer one, or nonsense. */
static size_t some_size(size_t real)
{
    switch (below(12)) {
    case 0:
        return 0;
    case 1:
        return one_in(2) ? SIZE_MAX : (size_t)4097;
    case 2:
        return sizeof(size_t);
    case 3:
        return sizeof(size_t) + (size_t)below((int)real);
    case 4:
        return real + (size_t)below(100);
    default:
        return real;
    }
}

static void *out_sized(size_t real)
{
    size_t size = some_size(real);
    void *out;
    if (one_in(16))
        return NULL;
    out = out_block(size > 4096 || size < sizeof size ? sizeof size : size, NO_KIND);
    memcpy(out, &size, sizeof size);
    note_out();
    return out;
}

static void *in_descriptors(size_t n)
{
    int *fds = out_array(sizeof *fds, n);
    size_t i;
    for (i = 0; fds != NULL && i < n; i++)
        fds[i] = a_descriptor();
    if (fds != NULL)
        note_out();
    return fds;
}

/* An address of this machine that no other process listens on. */
static const char *address(void)
{
    static char text[32];
    if (text[0] == '\0') /* By the first thread, before there are others. */
        snprintf(text, sizeof text, "127.%d.%d.7", 100 + (int)(getpid() / 100 % 100), 100 + (int)(getpid() % 100));
    return text;
}

static const char *in_text(const char *name)
{
    static const char *const garbage[] = {
        "", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", ":1", "[::1", "[::1]:", "[::1]1", "::1:1", "unix:",
        "unix:@", "unix", "no address at all", "\xff\xfe:1", "127.0.0.1:-1", "1.2.3:4", "localhost", "localhost:",
    };
    static const char *const groups[] = { "239.255.7.7", "127.0.0.1", "", "ff01::7", "not a group", "224.0.0.1" };
    static const char *const ifaces[] = { "lo", "127.0.0.1", "", "nosuch0", "999999", "1" };
    static const char *const features[] = { "udp-gso", "", "nothing", "simulation", "\xff" };
    char *text;
    if (strcmp(name, "iface") == 0) /* Not NULL: a route could lead out. */
        return ifaces[below((int)COUNT(ifaces))];
    if (one_in(16))
        return NULL;
    if (strcmp(name, "group") == 0)
        return groups[below((int)COUNT(groups))];
    if (strcmp(name, "feature") == 0)
        return features[below((int)COUNT(features))];
    if (strcmp(name, "source") == 0)
        return one_in(2) ? "127.0.0.1" : garbage[below((int)COUNT(garbage))];
    if (one_in(3))
        return garbage[below((int)COUNT(garbage) - 2 * (threads == 0))];
    if (strcmp(name, "host") == 0)
        return threads == 0 ? "127.0.0.1" : one_in(2) ? "localhost" : "nobody.invalid"; /* Threads answer for names. */
    text = block(256);
    if (is("echoloop_connect") && here->n_addrs > 0 && !one_in(8))
        return strcpy(text, here->addrs[below(here->n_addrs)]);
    if (is("echoloop_connect"))
        return threads > 0 && one_in(2) ? "localhost:1" : "127.0.0.1:1";
    switch (below(5)) {
    case 0:
        snprintf(text, 256, "unix:%s/%d-%d", folder, here->thread, below(4));
        return text;
    case 1:
        snprintf(text, 256, "unix:@fuzz-%07ld-%d-%d", (long)getpid(), here->thread, below(4));
        return text;
    case 2:
        return "[::1]:0";
    default:
        snprintf(text, 256, "%s:0", address());
        return text;
    }
}

/* Own descriptors, of every sort. */

static void own(int fd)
{
    if (fd < 0)
        return;
    if (here->n_fds == FDS)
        close(fd);
    else
        here->fds[here->n_fds++] = fd;
}

static void disown(int fd)
{
    int i;
    for (i = 0; i < here->n_fds; i++)
        if (here->fds[i] == fd) {
            here->fds[i] = here->fds[--here->n_fds];
            return;
        }
}

static void open_some(void)
{
    struct sockaddr_in any_port;
    int pair[2], fd;
    if (here->n_fds > FDS - 4) {
        fd = here->fds[below(here->n_fds)];
        disown(fd);
        close(fd); /* Perhaps watched still. */
        return;
    }
    memset(&any_port, 0, sizeof any_port);
    any_port.sin_family = AF_INET;
    any_port.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    switch (below(7)) {
    case 0:
        CHECK(pipe(pair) == 0, "pipe");
        own(pair[0]);
        own(pair[1]);
        break;
    case 1:
        own(open("/dev/null", O_RDWR));
        break;
    case 2:
        own(open("/proc/self/exe", O_RDONLY));
        break;
    case 3:
        own(socket(AF_INET, SOCK_STREAM, 0));
        break;
    case 4:
        fd = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(fd, (struct sockaddr *)&any_port, sizeof any_port) == 0)
            listen(fd, 4);
        own(fd);
        break;
    case 5:
        fd = socket(AF_INET, SOCK_DGRAM, 0);
        bind(fd, (struct sockaddr *)&any_port, sizeof any_port);
        own(fd);
        break;
    default:
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
        own(pair[0]);
        own(pair[1]);
        break;
    }
}
