/* mutex.h - locks that are held for tens of instructions and taken by several threads at once. */
#ifndef PST_UTIL_MUTEX_H
#define PST_UTIL_MUTEX_H

#include <pthread.h>

/* Make a mutex whose waiters spin for a moment before they sleep: going to sleep and being woken costs
 * tens of microseconds, the sections it guards less than one. */
static inline void pst_mutex_init_short(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(mutex, &attr);
    pthread_mutexattr_destroy(&attr);
}

#endif
