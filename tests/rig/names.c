/* The names of one machine, as a file says: LD_PRELOAD this, and name the file in NAMES.
   Its first byte says how names that end in ".test" resolve: 'y' to 127.0.0.1, 'n' not
   (no name server answers), 's' neither, after a while. Other names are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOW_S 20

static volatile const char *mode;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("NAMES");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(0, 1, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) mode = page;
    close(file);
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    size_t length = name ? strlen(name) : 0;
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (!mode || length < 5 || strcmp(name + length - 5, ".test"))
        return real(name, service, hints, found);
    if (*mode == 's') sleep(SLOW_S);
    return *mode == 'y' ? real("127.0.0.1", service, hints, found) : EAI_AGAIN;
}
