/* Preloaded into the services of a chaos mesh: their syncs fail and their clocks jump when the harness says so.
 *
 * The file that CHAOS_CONTROL names is mapped: nanoseconds that the wall clock is off, then the errno of each sync, 0 for
 * none. The monotonic clock is the machine's. (libfiu's preload stalls gRPC servers, and time.sleep fails under
 * libfaketime, so both are done here.)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
  int64_t clock_off;
  int64_t sync_error;
};

static const volatile struct control *control;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("CHAOS_CONTROL");
  int handle = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
  if (handle < 0) return;
  void *mapped = mmap(NULL, sizeof(struct control), PROT_READ, MAP_SHARED, handle, 0);
  close(handle);
  if (mapped != MAP_FAILED) control = mapped;
}

static int synced(long number, int handle) {
  if (control && control->sync_error) {
    errno = (int)control->sync_error;
    return -1;
  }
  return (int)syscall(number, handle);
}

int fsync(int handle) { return synced(SYS_fsync, handle); }

int fdatasync(int handle) { return synced(SYS_fdatasync, handle); }

int clock_gettime(clockid_t id, struct timespec *at) {
  int status = real_clock_gettime ? real_clock_gettime(id, at) : (int)syscall(SYS_clock_gettime, id, at);
  if (status == 0 && control && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
    int64_t now = (int64_t)at->tv_sec * 1000000000 + at->tv_nsec + control->clock_off;
    at->tv_sec = now / 1000000000;
    at->tv_nsec = now % 1000000000;
  }
  return status;
}

int gettimeofday(struct timeval *at, void *zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
