/* The wall clock, moved by HARNESS_CLOCK_SHIFT seconds for the programs that load this first (LD_PRELOAD).
   It stands on no function of a C library, so that it goes with each. Clocks for durations stay as they are. */
#include <sys/syscall.h>

extern char **environ __attribute__((weak));
struct moment { long seconds, fraction; };

static long ask(long number, long first, long second) {
  long answer;
#if defined(__x86_64__)
  __asm__ volatile("syscall" : "=a"(answer) : "a"(number), "D"(first), "S"(second) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = first;
  register long x1 __asm__("x1") = second;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1) : "memory");
  answer = x0;
#else
#error "no such processor"
#endif
  return answer;
}

static long shift(void) {
  static const char name[] = "HARNESS_CLOCK_SHIFT=";
  for (char **entry = environ; entry && *entry; entry++) {
    int at = 0;
    long value = 0;
    while (name[at] && (*entry)[at] == name[at]) at++;
    if (name[at]) continue;
    for (; (*entry)[at]; at++) value = value * 10 + ((*entry)[at] - '0');
    return value;
  }
  return 0;
}

int clock_gettime(int clock, struct moment *now) {
  long answer = ask(SYS_clock_gettime, clock, (long)now);
  if (answer) return -1;
  if (clock == 0 || clock == 5 || clock == 11) now->seconds += shift();
  return 0;
}

int gettimeofday(struct moment *now, void *zone) {
  (void)zone;
  clock_gettime(0, now);
  now->fraction /= 1000;
  return 0;
}

long time(long *into) {
  struct moment now;
  clock_gettime(0, &now);
  if (into) *into = now.seconds;
  return now.seconds;
}
